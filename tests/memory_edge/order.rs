//! What a stamp promises holds whatever happens between the steps of a read: every transaction whose token is at or
//! below the tag is in the data, and everything in the data is at or below the upper bound.

use crate::support::*;
use highwater::memory::{Cluster, Fate, Network, Step};
use highwater::source::{Committed, FaultKind, Lease as _, Source as _, Transaction as _};
use highwater::{Lsn, Origin, Position, Stamp};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A small generator of numbers, the same on every run (splitmix64).
#[derive(Clone)]
struct Dice(Arc<Mutex<u64>>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    fn below(&self, limit: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

type Writes = Arc<Mutex<Vec<(u64, Position)>>>;
type Reads = Arc<Mutex<Vec<(u64, Stamp)>>>;

/// Versions of one row, counted up under its lock, so that a version stands for all before it.
async fn writer(cluster: Cluster, dice: Dice, writes: Writes) {
    let source = cluster.source_over(jitter(&dice));
    for _ in 0..40 {
        pass(Duration::from_millis(dice.below(8))).await;
        let Ok(tx) = source.begin(0, soon()).await else { continue };
        let Ok(Some(seen)) = tx.conn().lock::<u64>("t", 1).await else { continue };
        let _ = tx.conn().put("t", 1, *seen + 1).await;
        if dice.below(4) == 0 {
            tx.conn().commit_asynchronously();
        }
        if dice.below(8) == 0 {
            cluster.fill_page(0);
        }
        if let Committed::Done { token, .. } = tx.commit(soon()).await {
            writes.lock().unwrap().push((*seen + 1, token));
        }
    }
}

async fn reader(cluster: Cluster, node: usize, dice: Dice, reads: Reads) {
    let source = cluster.source_over(jitter(&dice));
    for _ in 0..80 {
        pass(Duration::from_millis(dice.below(4))).await;
        let asked = ask(node == 0);
        let Ok(lease) = source.lease(node, asked).await else { continue };
        let Ok(Some(value)) = lease.conn().get::<u64>("t", 1).await else { continue };
        match lease.finish().await {
            Ok(stamp) => reads.lock().unwrap().push((*value, stamp)),
            Err(fault) => assert_ne!(fault.kind, FaultKind::Statement),
        }
    }
}

fn jitter(dice: &Dice) -> Network {
    let dice = dice.clone();
    Network::new(move |_, _| Fate::Pass(Duration::from_millis(dice.below(5))))
}

async fn run(seed: u64) -> (Vec<(u64, Position)>, Vec<(u64, Stamp)>) {
    let (cluster, _) = cluster(2);
    let dice = Dice::new(seed);
    cluster.set_commit_pace(Duration::from_millis(dice.below(6)), Duration::from_millis(dice.below(6)));
    cluster.set_wal_writer_delay(Duration::from_millis(1 + dice.below(30)));
    cluster.set_lag(1, Duration::from_millis(dice.below(20)));
    cluster.set_report_gap(1, Duration::from_millis(dice.below(5)));
    cluster.set_transit(2, Duration::from_millis(dice.below(10)));
    let (writes, reads) = (Writes::default(), Reads::default());
    let mut tasks = tokio::task::JoinSet::new();
    (0..3).for_each(|_| drop(tasks.spawn(writer(cluster.clone(), dice.clone(), writes.clone()))));
    (0..6).for_each(|n| drop(tasks.spawn(reader(cluster.clone(), n % 3, dice.clone(), reads.clone()))));
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let (writes, reads) = (writes.lock().unwrap().clone(), reads.lock().unwrap().clone());
    (writes, reads)
}

#[tokio::test(start_paused = true)]
async fn a_stamp_promises_no_more_than_the_data_holds() {
    let mut strict = 0;
    for seed in 0..60 {
        let (writes, reads) = run(seed).await;
        assert!(writes.len() > 60 && reads.len() > 300, "seed {seed}: {} writes, {} reads", writes.len(), reads.len());
        for (value, stamp) in &reads {
            for (version, token) in &writes {
                let told = token.lsn <= stamp.tag;
                assert!(!told || version <= value, "seed {seed}: {stamp:?} shows {value}, not {version} of {token}");
                let visible_beyond = version <= value && token.lsn < stamp.tag && stamp.origin == Origin::Primary;
                strict += u64::from(visible_beyond);
            }
        }
    }
    assert!(strict > 0, "the tags were worth nothing");
}

#[tokio::test(start_paused = true)]
async fn without_the_strict_comparison_the_same_runs_show_stale_data() {
    let mut poisoned = 0;
    for seed in 0..60 {
        let (writes, reads) = run(seed).await;
        for (value, stamp) in reads.iter().filter(|(_, stamp)| stamp.origin == Origin::Primary) {
            let naive = Lsn::new(stamp.tag.offset() + 1);
            poisoned += writes.iter().filter(|(version, token)| token.lsn <= naive && version > value).count();
        }
    }
    assert!(poisoned > 0, "the servers were kinder than the real ones");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_run() {
    assert_eq!(format!("{:?}", run(7).await), format!("{:?}", run(7).await));
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_moves_to_another_timeline_while_it_is_asked_is_not_counted_on_the_old_one() {
    let cluster = Cluster::new(2);
    cluster.put("t", 1, 1_u64);
    let moves = Arc::new(Mutex::new(false));
    let (servers, due) = (cluster.clone(), moves.clone());
    // With the answer to the first question, whichever it is.
    let source = cluster.source_over(Network::new(move |node, step| {
        if node == 1 && step == Step::Answer && std::mem::take(&mut *due.lock().unwrap()) {
            servers.kill(0);
            servers.promote(2);
            servers.follow(1, 2);
            servers.put("t", 1, 2_u64);
        }
        Fate::Pass(Duration::ZERO)
    }));
    let end = cluster.token(0).unwrap();
    *moves.lock().unwrap() = true;
    let (value, stamp) = on_standby(&source, 1).await;
    assert_eq!(value, Some(2));
    assert!(stamp.timeline != end.timeline || stamp.tag <= end.lsn, "beyond the end of timeline 1: {stamp:?}");
}
