//! Starting, closing and resolving, dropped after every number of polls.

use crate::dropped::dropped_after;
use crate::support::{Instance, Users, cluster};
use highwater::memory::{Fate, Network, Shared, Step};
use highwater::source::Outcome;
use highwater::{Highwater, Session, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// More polls than any of them takes.
const POLLS_MAX: usize = 200;

const SOON: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_start_leaves_no_task_behind() {
    let cluster = cluster(1);
    let steps = Arc::new(AtomicUsize::new(0));
    for polls in 1..POLLS_MAX {
        let (shared, counted) = (Shared::new(1), Arc::clone(&steps));
        let network = Network::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Fate::Pass(Duration::from_millis(1))
        });
        let builder = Highwater::over(cluster.source_over(network)).shared_tier(shared.clone()).ledger(shared);
        let started = dropped_after(polls, builder.start()).await;
        let ended = started.map(|store| drop(store.unwrap())).is_some();
        // What was begun by then may come to its end.
        sleep(Duration::from_millis(100)).await;
        let before = steps.load(Ordering::Relaxed);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(steps.load(Ordering::Relaxed), before, "after {polls} polls somebody still asks the servers");
        if ended {
            println!("start: {polls} polls");
            return assert!(polls > 3);
        }
    }
    panic!("it never started");
}

/// A store with a commit under way, one of unknown outcome, and a retraction that was not taken.
#[tokio::test(start_paused = true)]
async fn a_close_goes_on_without_its_caller() {
    for polls in 1..POLLS_MAX {
        let (cluster, shared) = (cluster(0), Shared::new(1));
        cluster.set_commit_pace(Duration::from_millis(100), Duration::from_millis(100));
        let one = Instance::sharing(&cluster, &shared.client(1)).await;
        let two = Instance::sharing(&cluster, &shared.client(2)).await;
        two.get(&Session::new(), 1).await;
        shared.cut_off(1, true);
        one.write(&Session::new(), 1, "grace").await;
        let mut tx = one.begin(&Session::new()).await;
        tx.put("users", 2, "joan".to_owned()).await.unwrap();
        tx.retract(&one.users, &2);
        let committing = tokio::spawn(tx.commit());
        sleep(Duration::from_millis(1)).await;
        shared.cut_off(1, false);
        let ended = dropped_after(polls, one.store.close()).await.is_some();
        assert!(one.users.get(&Session::new(), &1).await.unwrap_err().as_cache().unwrap().is_closed());
        committing.await.unwrap().unwrap();
        sleep(SOON).await;
        let counts = one.store.stats().counts;
        assert_eq!((counts.retractions_told, counts.retractions_dropped), (2, 0), "after {polls} polls: {counts:?}");
        assert_eq!(two.store.stats().counts.retractions_heard, 2);
        timeout(SOON, one.store.close()).await.expect("called again, it ends");
        if ended {
            println!("close: {polls} polls");
            return;
        }
    }
    panic!("it never closed");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_can_be_asked_for_again() {
    let cluster = cluster(0);
    let cut = Arc::new(AtomicBool::new(false));
    let decide = Arc::clone(&cut);
    let network = Network::new(move |_, step| match step {
        Step::Acknowledge if decide.load(Ordering::SeqCst) => Fate::Cut,
        Step::Outcome => Fate::Pass(Duration::from_millis(20)),
        _ => Fate::Pass(Duration::ZERO),
    });
    let store = Highwater::over(cluster.source_over(network)).start().await.unwrap();
    let users = store.cache("users", Users::default()).build().unwrap();
    for polls in 1..POLLS_MAX {
        let session = Session::new();
        let mut tx = store.begin(&session).await.unwrap();
        tx.put("users", 1, format!("perhaps {polls}")).await.unwrap();
        tx.retract(&users, &1);
        cut.store(true, Ordering::SeqCst);
        let Err(WriteError::Unknown(unknown)) = tx.commit().await else { panic!("the answer was cut off") };
        cut.store(false, Ordering::SeqCst);
        let ended = dropped_after(polls, unknown.resolve()).await;
        assert_eq!(timeout(SOON, unknown.resolve()).await.expect("known by now"), Outcome::Committed);
        assert!(!session.token().is_empty(), "raised before anybody is told");
        if ended.is_some() {
            println!("resolve: {polls} polls");
            return assert!(polls > 1);
        }
    }
    panic!("it never resolved");
}
