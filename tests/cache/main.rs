//! The cache over the in-memory edges, in virtual time.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod abandoned;
mod awaiting;
mod cancelled;
mod closing;
mod counting;
#[path = "../common/dropped.rs"]
mod dropped;
mod freshness;
mod joining;
mod lives;
#[path = "../common/log.rs"]
mod log;
mod reading;
mod refusals;
mod regressions;
mod scoped;
mod sharing;
mod strategies;
mod support;
mod watermark;
mod writing;
