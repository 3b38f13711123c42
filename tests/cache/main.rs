//! The cache over the in-memory edges, in virtual time.

mod freshness;
mod joining;
mod lives;
mod reading;
mod sharing;
mod support;
mod writing;
