//! The shared tier and the ledger.

use crate::support::{MS, pass};
use highwater::ledger::{Ledger as _, Notice, Pulse, Subscription as _};
use highwater::memory::{Call, Delivery, Fate, Line, Shared, Way};
use highwater::tier::{Address, SharedTier as _};
use highwater::{Digest, Lsn, Position};
use std::time::Duration;
use tokio::time::timeout;

const KEEP: Duration = Duration::from_secs(60);

fn key(name: &str) -> Digest {
    Digest::of_key(name.as_bytes())
}

fn notice(at: u64, names: &[&str]) -> Notice {
    let keys = names.iter().map(|name| key(name)).collect();
    Notice { history: 7, position: Position::new(1, Lsn::new(at)), keys, groups: vec![Digest::of_group("g")] }
}

async fn fetch(shared: &Shared, name: &str) -> Option<Vec<u8>> {
    shared.fetch(&[Address { history: 7, key: key(name) }]).await.unwrap().remove(0)
}

fn number(message: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(message[at..at + 8].try_into().unwrap())
}

/// The log's id and the sequence number of a message.
fn frame(message: &[u8]) -> (u64, u64) {
    (number(message, 4), number(message, 12))
}

fn pulse(generation: u64) -> Pulse {
    Pulse { generation, history: 1, flush: Lsn::ZERO }
}

#[tokio::test(start_paused = true)]
async fn a_retraction_leaves_markers_that_only_rise_and_that_end() {
    let shared = Shared::default();
    shared.retract(&notice(10, &["a", "b"]), KEEP, None).await.unwrap();
    let marker = fetch(&shared, "a").await.unwrap();
    assert_eq!(number(&marker, 12), 10);
    shared.retract(&notice(9, &["a"]), KEEP, None).await.unwrap();
    assert_eq!(fetch(&shared, "a").await.as_ref(), Some(&marker));
    shared.retract(&notice(11, &["a"]), KEEP, None).await.unwrap();
    assert_eq!(number(&fetch(&shared, "a").await.unwrap(), 12), 11);
    assert_eq!(shared.len(), 2);
    pass(KEEP).await;
    assert_eq!(fetch(&shared, "a").await, None);
}

#[tokio::test(start_paused = true)]
async fn everybody_hears_everything_in_order() {
    let shared = Shared::default();
    let (mut one, mut two) = (shared.client(1).subscribe().await.unwrap(), shared.client(2).subscribe().await.unwrap());
    for at in 1..4 {
        shared.retract(&notice(at, &["a"]), KEEP, None).await.unwrap();
    }
    let beat = shared.beat(77, pulse(5)).await.unwrap();
    assert_eq!(beat.generation, 5);
    assert_eq!(shared.beat(78, pulse(3)).await.unwrap().generation, 5, "it only rises");
    for subscription in [&mut one, &mut two] {
        let mut sequences = Vec::new();
        for _ in 0..4 {
            sequences.push(frame(&subscription.next().await.unwrap()).1);
        }
        assert_eq!(sequences, [1, 2, 3, 3]);
    }
    drop(two);
    shared.set_down(true);
    assert_eq!(one.next().await, None);
    assert!(shared.subscribe().await.is_err());
    shared.set_down(false);
    assert!(fetch(&shared, "a").await.is_some(), "a restart with persistence keeps it");
}

#[tokio::test(start_paused = true)]
async fn messages_are_lost_doubled_and_overtaken() {
    let shared = Shared::default();
    shared.set_delivery(Delivery::new(|client, message| match (client, frame(message).1) {
        (1, 1) => vec![],
        (1, 2) => vec![50 * MS, 60 * MS],
        (1, _) => vec![10 * MS],
        _ => vec![MS],
    }));
    let mut one = shared.client(1).subscribe().await.unwrap();
    let mut two = shared.client(2).subscribe().await.unwrap();
    for at in 1..4 {
        shared.retract(&notice(at, &["a"]), KEEP, None).await.unwrap();
    }
    let mut heard = Vec::new();
    while let Ok(Some(message)) = timeout(100 * MS, one.next()).await {
        heard.push(frame(&message).1);
    }
    assert_eq!(heard, [3, 2, 2]);
    assert_eq!(frame(&two.next().await.unwrap()).1, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deaf_client_is_connected_and_hears_nothing() {
    let shared = Shared::default();
    let mut before = shared.client(1).subscribe().await.unwrap();
    shared.deafen(1, true);
    let mut after = shared.client(1).subscribe().await.unwrap();
    shared.beat(1, pulse(0)).await.unwrap();
    assert!(timeout(1_000 * MS, before.next()).await.is_err());
    assert!(timeout(1_000 * MS, after.next()).await.is_err());
    shared.deafen(1, false);
    shared.beat(2, pulse(0)).await.unwrap();
    assert!(before.next().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_comes_back_under_another_name_and_so_does_an_older_copy() {
    let shared = Shared::default();
    let mut heard = shared.subscribe().await.unwrap();
    shared.retract(&notice(1, &["a"]), KEEP, None).await.unwrap();
    let copy = shared.copy();
    shared.retract(&notice(2, &["b"]), KEEP, None).await.unwrap();
    let first = frame(&heard.next().await.unwrap());
    assert_eq!(frame(&heard.next().await.unwrap()), (first.0, 2));

    shared.fall_back(&copy);
    assert!(fetch(&shared, "b").await.is_none() && fetch(&shared, "a").await.is_some());
    shared.beat(1, pulse(0)).await.unwrap();
    let copied = frame(&heard.next().await.unwrap());
    assert!(copied.0 != first.0 && copied.1 == 1, "a promotion begins another lineage, with what the copy held");

    let wipe: [fn(&Shared); 2] = [Shared::wipe, Shared::evict_log];
    let mut names = vec![first.0, copied.0];
    for wipe in wipe {
        wipe(&shared);
        shared.beat(1, pulse(0)).await.unwrap();
        let (name, sequence) = frame(&heard.next().await.unwrap());
        assert!(sequence == 0 && !names.contains(&name));
        names.push(name);
    }
    assert_eq!(frame_of_new(Shared::new(1)).await, frame_of_new(Shared::new(1)).await);
}

#[tokio::test(start_paused = true)]
async fn two_servers_at_once_are_two_logs_and_each_client_hears_its_own() {
    let shared = Shared::default();
    let (old, new) = (shared.client(1), shared.client(2));
    let mut left = old.subscribe().await.unwrap();
    let mut gone = new.subscribe().await.unwrap();
    old.retract(&notice(1, &["a"]), KEEP, None).await.unwrap();
    let before = frame(&left.next().await.unwrap());
    assert_eq!(frame(&gone.next().await.unwrap()), before);

    shared.split([1]);
    assert!(gone.next().await.is_none(), "who noticed has to subscribe again");
    let mut heard = new.subscribe().await.unwrap();
    old.retract(&notice(2, &["b"]), KEEP, None).await.unwrap();
    new.retract(&notice(3, &["c"]), KEEP, None).await.unwrap();
    assert_eq!(frame(&left.next().await.unwrap()), (before.0, 2));
    let other = frame(&heard.next().await.unwrap());
    assert!(other.0 != before.0 && other.1 == 2, "{other:?}");
    assert!(timeout(1_000 * MS, left.next()).await.is_err() && timeout(1_000 * MS, heard.next()).await.is_err());
    assert!(fetch(&old, "b").await.is_some() && fetch(&new, "b").await.is_none());

    shared.unite();
    assert!(left.next().await.is_none());
    assert!(fetch(&old, "b").await.is_none() && fetch(&old, "c").await.is_some(), "what only the old one had is lost");
}

async fn frame_of_new(shared: Shared) -> (u64, u64) {
    let mut heard = shared.subscribe().await.unwrap();
    shared.beat(1, pulse(0)).await.unwrap();
    frame(&heard.next().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_call_may_happen_without_its_answer_and_after_its_end() {
    let shared = Shared::default();
    shared.set_line(Line::new(|_, call, way| match (call, way) {
        (Call::Retract, Way::Back) => Fate::Cut,
        _ => Fate::Pass(MS),
    }));
    assert!(shared.retract(&notice(1, &["a"]), KEEP, None).await.is_err());
    assert!(fetch(&shared, "a").await.is_some());

    shared.set_line(Line::new(|_, call, _| Fate::Pass(if call == Call::Retract { 900 * MS } else { MS })));
    assert!(shared.retract(&notice(2, &["b"]), KEEP, None).await.is_err(), "it gave up");
    assert!(fetch(&shared, "b").await.is_none());
    pass(1_000 * MS).await;
    assert!(fetch(&shared, "b").await.is_some(), "and it happened after all");
}

#[tokio::test(start_paused = true)]
async fn trouble_is_an_error_in_bounded_time() {
    let shared = Shared::default();
    shared.retract(&notice(1, &["a"]), KEEP, None).await.unwrap();
    shared.set_full(true);
    assert!(shared.retract(&notice(2, &["b"]), KEEP, None).await.is_err());
    assert!(fetch(&shared, "a").await.is_some(), "reads go on");
    shared.set_full(false);

    shared.cut_off(1, true);
    assert!(shared.client(1).beat(1, pulse(0)).await.is_err());
    assert!(shared.client(2).beat(1, pulse(0)).await.is_ok());

    shared.freeze(true);
    assert!(shared.retract(&notice(3, &["c"]), KEEP, None).await.is_err());
    shared.freeze(false);
    assert!(fetch(&shared, "c").await.is_some());

    shared.evict(|address| address.key == key("c"));
    assert!(fetch(&shared, "c").await.is_none());
    shared.tamper(|_, bytes| bytes.truncate(3));
    assert_eq!(fetch(&shared, "a").await.map(|bytes| bytes.len()), Some(3));
    shared.disconnect();
    shared.wipe();
    assert!(shared.is_empty());
}
