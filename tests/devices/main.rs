//! What a user wrote on one device, their others see, whatever becomes of the store in between.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod cancelled;
#[path = "../common/dropped.rs"]
mod dropped;
mod gitlab;
mod losses;
#[cfg(feature = "testkit")]
mod real;
mod support;
mod waiting;
