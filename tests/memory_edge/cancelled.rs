//! Futures of the in-memory edges that are dropped after every number of polls: no lock, no transaction and no connection
//! with an answer to come stays behind.

use crate::dropped::dropped_after;
use crate::support::*;
use highwater::Timeline;
use highwater::memory::{Cluster, Fate, Network, Source};
use highwater::source::{Source as _, Transaction as _};
use tokio::time::{Instant, timeout};

/// More polls than any of them takes.
const POLLS_MAX: usize = 200;

fn slow(standbys: usize) -> (Cluster, Source) {
    let (cluster, _) = cluster(standbys);
    let source = cluster.source_over(Network::new(|_, _| Fate::Pass(MS)));
    (cluster, source)
}

/// Drops what `begin` gives after 1, 2, 3, ... polls, until it ends by itself. After each of them row 1 can be written and
/// read at once.
async fn at_every_poll<T>(source: &Source, mut begin: impl AsyncFnMut() -> T) {
    for polls in 1..POLLS_MAX {
        let ended = dropped_after(polls, begin()).await.is_some();
        let begun = Instant::now();
        let token = timeout(100 * MS, write(source, 7)).await.unwrap();
        let (value, stamp) = on_primary(source).await;
        assert_eq!((value, stamp.upper), (Some(7), Some(token.lsn)), "after {polls} polls");
        assert!(begun.elapsed() < 100 * MS, "after {polls} polls it took {:?}", begun.elapsed());
        if ended {
            assert!(polls > 1, "it was dropped half-way");
            return;
        }
    }
    panic!("it never came to its end");
}

#[tokio::test(start_paused = true)]
async fn questions() {
    let (_cluster, source) = slow(1);
    at_every_poll(&source, async || source.probe(0).await.unwrap()).await;
    at_every_poll(&source, async || source.probe(1).await.unwrap()).await;
    at_every_poll(&source, async || source.outcome(0, 1, Timeline(1)).await.unwrap()).await;
    at_every_poll(&source, async || source.nudge(0).await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn loads() {
    let (_cluster, source) = slow(1);
    at_every_poll(&source, async || on_primary(&source).await).await;
    at_every_poll(&source, async || on_standby(&source, 1).await).await;
    let quiesced = highwater::source::Ask { quiesce: true, ..ask(true) };
    at_every_poll(&source, async || read_with(&source, 0, quiesced).await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn transactions() {
    let (_cluster, source) = slow(0);
    at_every_poll(&source, async || {
        let tx = source.begin(0, soon()).await.unwrap();
        let writer = tx.conn();
        writer.lock::<u64>("t", 1).await.unwrap();
        writer.put("t", 1, 2_u64).await.unwrap();
        writer.delete("t", 2).await.unwrap();
        writer.get::<u64>("t", 1).await.unwrap();
        drop(tx);
    })
    .await;
    // A commit that was sent goes on; the write behind it waits for its end and is the last all the same.
    at_every_poll(&source, async || {
        let tx = source.begin(0, soon()).await.unwrap();
        tx.conn().put("t", 1, 3_u64).await.unwrap();
        done(tx.commit(soon()).await)
    })
    .await;
}
