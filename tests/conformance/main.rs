//! The same cases on the servers in memory and on real ones, so that what the simulator believes is what happens.
//!
//! Every case is written once, over a trait with two implementations: what only one kind of server can do is no case here.
#![cfg(feature = "testkit")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

use highwater::Lsn;
use highwater::ledger::Pulse;
use std::time::Duration;
use tokio::time::{Instant, sleep};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Makes a test of each case on the server in memory, and on each kind of real ones.
macro_rules! both {
    ($memory:ty, $($kind:ident $real:ty),+: $cases:tt) => {
        on! { in_memory (start_paused = true) $memory: $cases }
        $(on! { $kind () $real: $cases })+
    };
}

macro_rules! on {
    ($kind:ident $how:tt $server:ty: [$($case:ident,)*]) => {
        mod $kind {
            use super::*;

            $(#[tokio::test $how]
            async fn $case() -> crate::Result {
                super::$case::<$server>().await
            })*
        }
    };
}

mod eviction;
mod postgres;
mod redis;
mod servers;
mod worlds;

/// What a heartbeat says of an instance that knows of this generation.
fn pulse(generation: u64) -> Pulse {
    Pulse { generation, history: 0xAB, flush: Lsn::ZERO }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<Duration> {
    let begun = Instant::now();
    while !holds().await? {
        if begun.elapsed() > Duration::from_secs(20) {
            return Err(format!("waited 20 s for {what}").into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(begun.elapsed())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}
