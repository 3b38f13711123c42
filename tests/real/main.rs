//! The whole store over real PostgreSQL and Redis servers, under real faults.
#![cfg(feature = "testkit")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod cancelled;
mod captured;
mod clustered;
mod conflicts;
mod covering;
mod crash;
mod crowd;
mod deaf;
mod down;
#[path = "../common/dropped.rs"]
mod dropped;
mod failover;
mod idle;
mod lagging;
mod outcomes;
mod pooler;
mod refusals;
#[path = "../common/rows.rs"]
mod rows;
mod set_back;
mod sharing;
mod support;
mod telling;
mod traffic;
