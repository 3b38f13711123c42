//! Writers that are gone: what they announced is retracted, whoever finds that out. In virtual time.

use crate::support::{Instance, cluster};
use highwater::memory::{Call, Cluster, Fate, Line, Shared, Way};
use highwater::{Highwater, Session, Tx};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

/// Some instances, and the last of them has no way to Redis any more once it has committed a write of row 1.
struct Scene {
    shared: Shared,
    cluster: Cluster,
    others: Vec<Instance>,
    gone: Instance,
}

impl Scene {
    async fn set(others: usize) -> Self {
        let (cluster, shared) = (cluster(0), Shared::new(1));
        let mut instances = Vec::new();
        for number in 1..=others + 1 {
            instances.push(Instance::sharing(&cluster, &shared.client(number)).await);
        }
        let gone = instances.pop().unwrap();
        Self { shared, cluster, others: instances, gone }
    }

    fn one(&self) -> &Instance {
        self.others.first().unwrap()
    }

    /// What the first of the others holds of row 1 is of before.
    async fn fill(&self) {
        // So that its tag lies above where hearing began, and nobody asks how old it is.
        self.cluster.put("users", 8, "so that the log moves on".to_owned());
        sleep(1_000 * MS).await;
        for _ in 0..2 {
            assert_eq!(self.one().name(&Session::new(), 1).await.as_deref(), Some("ada"));
            sleep(100 * MS).await;
        }
    }

    /// Writes row 1 and announces it, with the transaction's number; the settlement does not arrive.
    async fn write_and_go(&self) {
        let mut tx = self.gone.begin(&Session::new()).await;
        tx.put("users", 1, "grace".to_owned()).await.unwrap();
        tx.retract(&self.gone.users, &1);
        self.cluster.set_commit_pace(10 * MS, 10 * MS);
        let (committed, ()) = tokio::join!(tx.commit(), async {
            sleep(5 * MS).await;
            self.shared.cut_off(self.others.len() + 1, true);
        });
        assert!(!committed.unwrap().told);
    }

    /// What anybody is shown of row 1.
    async fn shown(&self) -> Option<String> {
        self.one().name(&Session::new(), 1).await
    }
}

/// An instance had no way to Redis for a while, and is the first to ask it for anything afterwards: for a retraction that was
/// put off.
#[tokio::test(start_paused = true)]
async fn what_is_found_with_a_retraction_that_was_put_off_is_retracted() {
    let scene = Scene::set(1).await;
    scene.fill().await;
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    scene.write_and_go().await;
    scene.shared.set_line(Line::new(move |client, call, _| match (client, call) {
        (1, Call::Beat | Call::Announce) => Fate::Cut,
        (1, Call::Retract) if is_away.load(Ordering::SeqCst) => Fate::Cut,
        _ => Fate::Pass(Duration::ZERO),
    }));
    scene.one().write(&Session::new(), 2, "joan").await;
    sleep(1_600 * MS).await;
    assert_eq!(scene.shown().await.as_deref(), Some("ada"), "nobody has looked");
    away.store(false, Ordering::SeqCst);
    sleep(1_000 * MS).await;
    assert_eq!(scene.one().store.stats().counts.abandoned, 1);
    assert_eq!(scene.shown().await.as_deref(), Some("grace"));
}

/// A process dies with many transactions under way, most of which had not written anything when they were announced.
#[tokio::test(start_paused = true)]
async fn of_many_writers_that_are_gone_at_once_none_is_forgotten() {
    let scene = Scene::set(1).await;
    scene.fill().await;
    let mut open: Vec<Tx<_>> = Vec::new();
    for id in 100..200 {
        let mut tx = scene.gone.begin(&Session::new()).await;
        tx.retract(&scene.gone.users, &id);
        open.push(tx);
    }
    sleep(5 * MS).await;
    scene.write_and_go().await;
    sleep(3_500 * MS).await;
    assert_eq!(scene.one().store.stats().counts.abandoned, 101);
    assert_eq!(scene.shown().await.as_deref(), Some("grace"));
}

/// Whoever finds that a writer is gone is not told so.
#[tokio::test(start_paused = true)]
async fn what_is_found_and_not_answered_is_found_again() {
    let scene = Scene::set(2).await;
    scene.fill().await;
    scene.write_and_go().await;
    let answers_are_lost = Arc::new(AtomicBool::new(true));
    let are_lost = Arc::clone(&answers_are_lost);
    scene.shared.set_line(Line::new(move |client, call, way| match (client, call, way) {
        (1 | 2, Call::Beat, Way::Back) if are_lost.load(Ordering::SeqCst) => Fate::Cut,
        _ => Fate::Pass(Duration::ZERO),
    }));
    sleep(2_600 * MS).await;
    answers_are_lost.store(false, Ordering::SeqCst);
    assert_eq!(scene.one().store.stats().watermark.unwrap().lag_bytes, Some(0), "somebody's script has given it up");
    sleep(12_000 * MS).await;
    assert_eq!(scene.shown().await.as_deref(), Some("grace"));
}

/// A job that has no cache retracts a group while it has no way to Redis for a moment.
#[tokio::test(start_paused = true)]
async fn what_an_instance_without_caches_could_not_tell_is_told_again() {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    cluster.put("users", 2, "team/joan".to_owned());
    let reader = Instance::sharing(&cluster, &shared.client(1)).await;
    let job = Highwater::over(cluster.source()).world(77, 1_700_000_000_000).ledger(shared.client(2));
    let job = job.start().await.unwrap();
    cluster.put("users", 8, "so that the log moves on".to_owned());
    sleep(1_000 * MS).await;
    assert_eq!(reader.name(&Session::new(), 2).await.as_deref(), Some("team/joan"));
    shared.cut_off(2, true);
    let mut tx = job.begin(&Session::new()).await.unwrap();
    tx.put("users", 2, "team/grace".to_owned()).await.unwrap();
    tx.retract_group("team");
    assert!(!tx.commit().await.unwrap().told);
    sleep(1_000 * MS).await;
    shared.cut_off(2, false);
    sleep(2_000 * MS).await;
    let counts = job.stats().counts;
    assert_eq!((counts.retractions_told, counts.retractions_dropped), (1, 0));
    assert_eq!(reader.name(&Session::new(), 2).await.as_deref(), Some("team/grace"));
}
