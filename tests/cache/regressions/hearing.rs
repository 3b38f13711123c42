//! From where on an instance hears, and what its log vouches for.

use crate::support::{Instance, Users, cluster};
use highwater::memory::{Call, Cluster, Fate, Line, Network, Shared, Step};
use highwater::{Highwater, Session, Settings};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

/// One instance that writes, and one that seldom looks at the primary by itself.
struct Pair {
    cluster: Cluster,
    shared: Shared,
    writer: Instance,
    reader: Instance,
    /// From when on answers take 400 ms to the reader.
    slow: Arc<AtomicBool>,
}

impl Pair {
    async fn new() -> Self {
        let (cluster, shared) = (cluster(0), Shared::new(1));
        let writer = Instance::sharing(&cluster, &shared.client(1)).await;
        let slow = Arc::new(AtomicBool::new(false));
        let decide = Arc::clone(&slow);
        let network = Network::new(move |_, step| match step {
            Step::Answer if decide.load(Ordering::SeqCst) => Fate::Pass(400 * MS),
            _ => Fate::Pass(Duration::ZERO),
        });
        let settings = Settings { probe_interval: 10_000 * MS, ..Settings::default() };
        let builder = Highwater::over(cluster.source_over(network)).settings(settings).world(99, 1_700_000_000_000);
        let theirs = shared.client(2);
        let store = builder.shared_tier(theirs.clone()).ledger(theirs).start().await.unwrap();
        let users = store.cache("users", Users::default()).shared().build().unwrap();
        sleep(500 * MS).await;
        let reader = Instance { store, users, loads: Arc::default() };
        Self { cluster, shared, writer, reader, slow }
    }

    /// The reader takes in a row that is newer than what it has seen of the primary.
    async fn fill(&self) {
        for _ in 0..3 {
            self.cluster.put("users", 8, "so that the log moves on".to_owned());
            sleep(10 * MS).await;
        }
        assert_eq!(self.reader.name(&Session::new(), 1).await.as_deref(), Some("ada"));
    }

    /// A write of so many names that the log does not keep them, and nobody is told which were announced.
    async fn write(&self) -> (Session, bool) {
        let session = Session::new();
        let mut tx = self.writer.begin(&session).await;
        for id in 1..300 {
            tx.retract(&self.writer.users, &id);
        }
        tx.put("users", 1, "grace".to_owned()).await.unwrap();
        let told = tx.commit().await.unwrap().told;
        (session, told)
    }

    /// What the writing session is shown at the reader, once the reader's watermark covers the write.
    async fn shown(&self, session: &Session) -> Option<String> {
        let system = self.writer.store.history().system_identifier();
        let token = session.token().positions(system).next().unwrap().lsn;
        let covers = || self.reader.store.stats().watermark.unwrap().position >= Some(token);
        for _ in 0..20_000 {
            if covers() {
                break;
            }
            sleep(MS).await;
        }
        assert!(covers(), "it is never covered");
        self.reader.name(session, 1).await
    }
}

/// What was known of the primary before the subscription was proven is no start: a write may lie between.
#[tokio::test(start_paused = true)]
async fn hearing_begins_at_a_position_that_is_read_then() {
    let pair = Pair::new().await;
    pair.fill().await;
    pair.shared.disconnect();
    let (session, told) = pair.write().await;
    assert!(told);
    assert_eq!(pair.shown(&session).await.as_deref(), Some("grace"));
    assert!(pair.reader.store.stats().counts.gaps > 0, "it missed the retraction");
}

/// The answer to a question of an earlier time of hearing comes in the next, which begins after a write.
#[tokio::test(start_paused = true)]
async fn a_start_of_an_earlier_time_of_hearing_is_none_of_this_one() {
    let pair = Pair::new().await;
    pair.shared.wipe();
    pair.slow.store(true, Ordering::SeqCst);
    while pair.reader.store.stats().watermark.unwrap().position.is_some() {
        sleep(MS).await;
    }
    sleep(5 * MS).await;
    pair.slow.store(false, Ordering::SeqCst);
    pair.fill().await;
    pair.shared.disconnect();
    let (session, told) = pair.write().await;
    assert!(told);
    assert_eq!(pair.shown(&session).await.as_deref(), Some("grace"));
}

/// The announcement was acknowledged, and what was committed never told: the announcement is given up some day.
#[tokio::test(start_paused = true)]
async fn a_log_does_not_vouch_for_what_it_was_never_told() {
    let pair = Pair::new().await;
    pair.fill().await;
    pair.shared.set_line(Line::new(|client, call, _| match (client, call) {
        (1, Call::Retract) => Fate::Cut,
        _ => Fate::Pass(Duration::ZERO),
    }));
    let (session, told) = pair.write().await;
    assert!(!told);
    assert_eq!(pair.shown(&session).await.as_deref(), Some("grace"));
}
