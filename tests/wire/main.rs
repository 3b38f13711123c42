//! Tokens that leave one instance and come to another, over the in-memory edges and in virtual time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod careful;
mod fixtures;
mod hostile;
mod jobs;
#[path = "../common/log.rs"]
mod log;
mod rotation;
mod shards;
mod support;
