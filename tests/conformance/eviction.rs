//! A full Redis forgets entries and markers alike, under each policy in its own way. Whatever it forgets, what is there is
//! what was put there, and an entry that a marker would have refused is admitted again: tags answer for it, not markers.

use crate::Result;
use crate::redis::{address, entry, fetch, marker, notice, offer};
use crate::servers::{Redis, Server};
use highwater::ledger::Ledger;
use highwater::memory::Shared;
use highwater::testkit::RedisServer;
use highwater::tier::{SharedTier, TierError};
use std::time::Duration;

const MARKERS: u64 = 50;
const MINUTE: Duration = Duration::from_secs(60);
/// Entries lie apart from the markers.
const FIRST_ENTRY: u64 = 1_000;

/// Leaves markers, then fills the server to the brim by `fill`. Returns how many markers are left.
async fn crowd<S: Server>(server: &S, fill: impl AsyncFn(&S::Tier) -> Result<(), TierError>) -> Result<u64> {
    let (tier, ledger) = server.open().await?;
    ledger.retract(&notice(100, 0..MARKERS), MINUTE, None).await?;
    let full = fill(&tier).await;
    let mut left = 0;
    for number in 0..MARKERS {
        let found = fetch(&tier, number).await?;
        assert!(found.is_none() || found == Some(marker(100)), "{found:?}");
        left += u64::from(found.is_some());
        let stale = tier.admit(vec![offer(number, entry(99))]).await;
        let now = fetch(&tier, number).await?;
        if found.is_some() {
            assert!(now.is_none() || now == Some(marker(100)), "a marker gave way to what it covers");
        } else if stale.is_ok() {
            assert!(now.is_none() || now == Some(entry(99)), "nothing remembers the retraction");
        }
    }
    // A full server that evicts nothing refuses, and says so; every other takes what it is given.
    println!("{left} of {MARKERS} markers are left; filling ended with {full:?}");
    Ok(left)
}

async fn on_a_real_one(policy: &str) -> Result<u64> {
    let server = RedisServer::builder().maxmemory("4mb").config("maxmemory-policy", policy).start().await?;
    let fill = async |tier: &_| {
        let bulky = |number: u64| offer(FIRST_ENTRY + number, [entry(1), vec![0; 20_000]].concat());
        for number in 0..400 {
            SharedTier::admit(tier, vec![bulky(number)]).await?;
            // Used more than the markers, as far as a policy looks at that.
            SharedTier::fetch(tier, &[address(FIRST_ENTRY + number)]).await?;
        }
        Ok(())
    };
    print!("{policy}: ");
    crowd(&Redis(server), fill).await
}

#[tokio::test]
async fn a_real_server_forgets_markers_under_every_policy_but_one() -> Result {
    for policy in ["allkeys-lru", "allkeys-lfu", "volatile-lru", "volatile-ttl"] {
        let left = on_a_real_one(policy).await?;
        assert!(left < MARKERS, "{policy} forgot nothing: the case shows nothing");
    }
    assert_eq!(on_a_real_one("noeviction").await?, MARKERS);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_server_in_memory_does_the_same() -> Result {
    for share in [2, 3, 50] {
        let server = Shared::new(1);
        let forgetful = server.clone();
        let fill = async |tier: &Shared| {
            tier.admit((0..400).map(|number| offer(FIRST_ENTRY + number, entry(1))).collect()).await?;
            let mut at = 0;
            forgetful.evict(|_| {
                at += 1;
                at % share == 0
            });
            Ok(())
        };
        let left = crowd(&server, fill).await?;
        assert!(left < MARKERS);
    }
    let server = Shared::new(1);
    let full = server.clone();
    let refuse = async |tier: &Shared| {
        full.set_full(true);
        tier.admit(vec![offer(FIRST_ENTRY, entry(1))]).await
    };
    assert_eq!(crowd(&server, refuse).await?, MARKERS);
    Ok(())
}
