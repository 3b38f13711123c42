//! The servers in memory misbehave as the real ones were measured to.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

#[path = "memory_edge/cancelled.rs"]
mod cancelled;
#[path = "memory_edge/crash.rs"]
mod crash;
#[path = "common/dropped.rs"]
mod dropped;
#[path = "memory_edge/failover.rs"]
mod failover;
#[path = "memory_edge/order.rs"]
mod order;
#[path = "memory_edge/primary.rs"]
mod primary;
#[path = "memory_edge/shared.rs"]
mod shared;
#[path = "memory_edge/standby.rs"]
mod standby;
#[path = "memory_edge/support.rs"]
mod support;
