//! The cache over the in-memory edges, in virtual time.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod freshness;
mod joining;
mod lives;
mod reading;
mod regressions;
mod sharing;
mod support;
mod writing;
