//! Admission, markers, and what is heard.

use crate::servers::{Clustered, Redis, Server};
use crate::{Result, until};
use highwater::devices::{DeviceStore, Exchange};
use highwater::ledger::{Announcement, Ledger, Notice, Pulse, Settlement, Subscription};
use highwater::memory::Shared;
use highwater::tier::{Address, Offer, SharedTier};
use highwater::{Digest, Lsn, Position};
use std::time::Duration;
use tokio::time::{sleep, timeout};

both! { Shared, real Redis, clustered Clustered: [
    no_slot_moves_backwards,
    what_cannot_be_compared_gives_way_and_is_not_admitted,
    lives_end,
    retractions_are_heard_in_order_and_numbered,
    nothing_is_sent_again_to_who_does_not_listen,
    a_lost_log_has_another_name,
    the_watermark_waits_for_what_was_announced,
    each_history_has_a_watermark_of_its_own,
    what_was_missed_is_kept_for_a_while,
    records_of_users_are_merged_and_a_loss_begins_an_era,
] }

const MINUTE: Duration = Duration::from_secs(60);

/// An envelope by its compared bytes alone, made here from the table in the format's documentation.
fn envelope(kind: u8, flags: u8, timeline: u32, tag: u64, rest: usize) -> Vec<u8> {
    [&b"HWE\x01"[..], &[kind, flags, 0, 0], &timeline.to_be_bytes(), &tag.to_be_bytes(), &vec![0; rest]].concat()
}

pub(crate) fn entry(tag: u64) -> Vec<u8> {
    envelope(1, 0, 1, tag, 56)
}

pub(crate) fn marker(at: u64) -> Vec<u8> {
    envelope(3, 0, 1, at, 0)
}

pub(crate) fn address(number: u64) -> Address {
    Address { history: 0xAB, key: Digest::of_key(&number.to_be_bytes()) }
}

pub(crate) fn offer(number: u64, envelope: Vec<u8>) -> Offer {
    Offer { address: address(number), envelope, life: MINUTE }
}

pub(crate) fn notice(lsn: u64, keys: impl IntoIterator<Item = u64>) -> Notice {
    let keys = keys.into_iter().map(|number| address(number).key).collect();
    Notice { history: 0xAB, position: Position::new(1, Lsn::new(lsn)), keys, groups: Vec::new() }
}

pub(crate) async fn fetch(tier: &impl SharedTier, number: u64) -> Result<Option<Vec<u8>>> {
    Ok(tier.fetch(&[address(number)]).await?.remove(0))
}

async fn no_slot_moves_backwards<S: Server>() -> Result {
    let server = S::start().await?;
    let (tier, ledger) = server.open().await?;
    // Above what a double can tell apart.
    let big = 1 << 60;
    tier.admit(vec![offer(1, entry(big)), offer(1, entry(big - 1)), offer(2, entry(7))]).await?;
    assert_eq!(fetch(&tier, 1).await?, Some(entry(big)));
    let with_upper = envelope(1, 1, 1, big, 56);
    tier.admit(vec![offer(1, with_upper.clone())]).await?;
    tier.admit(vec![offer(1, entry(big))]).await?;
    assert_eq!(fetch(&tier, 1).await?, Some(with_upper.clone()), "an upper bound is worth having");
    ledger.retract(&notice(big, [1]), MINUTE, None).await?;
    assert_eq!(fetch(&tier, 1).await?, Some(with_upper), "an entry at the position has seen the write");
    ledger.retract(&notice(big + 1, [1]), MINUTE, None).await?;
    ledger.retract(&notice(big - 5, [1]), MINUTE, None).await?;
    tier.admit(vec![offer(1, entry(big))]).await?;
    assert_eq!(fetch(&tier, 1).await?, Some(marker(big + 1)), "the classic stale refill");
    tier.admit(vec![offer(1, entry(big + 1))]).await?;
    let found = tier.fetch(&[address(3), address(2), address(1)]).await?;
    assert_eq!(found, [None, Some(entry(7)), Some(entry(big + 1))]);
    Ok(())
}

async fn what_cannot_be_compared_gives_way_and_is_not_admitted<S: Server>() -> Result {
    let server = S::start().await?;
    let (tier, _) = server.open().await?;
    for poison in [
        b"".to_vec(),
        b"HWE\x02".to_vec(),
        envelope(1, 0, 1, 99, 10),
        envelope(1, 8, 1, 99, 56),
        envelope(9, 0, 1, 99, 56),
    ] {
        tier.admit(vec![offer(1, poison.clone())]).await?;
        assert_eq!(fetch(&tier, 1).await?, None, "{poison:?}");
    }
    tier.admit(vec![offer(1, entry(500))]).await?;
    let later = envelope(1, 0, 2, 5, 56);
    tier.admit(vec![offer(1, later.clone())]).await?;
    assert_eq!(fetch(&tier, 1).await?, Some(later), "an entry of another timeline cannot answer here");
    Ok(())
}

async fn lives_end<S: Server>() -> Result {
    let server = S::start().await?;
    let (tier, ledger) = server.open().await?;
    let short = Duration::from_millis(150);
    let lives = [(1, short), (2, Duration::ZERO), (4, Duration::MAX)];
    tier.admit(lives.map(|(number, life)| Offer { life, ..offer(number, entry(1)) }).to_vec()).await?;
    ledger.retract(&notice(1, [3]), short, None).await?;
    let found = tier.fetch(&[1, 2, 3, 4].map(address)).await?;
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
    sleep(2 * short).await;
    assert_eq!(tier.fetch(&[address(1), address(3)]).await?, [None, None]);
    Ok(())
}

/// The log's id and the sequence number of a message.
fn frame(message: &[u8]) -> (u64, u64) {
    let number = |at: usize| u64::from_be_bytes(message[at..at + 8].try_into().expect("eight bytes"));
    (number(4), number(12))
}

async fn heard(subscription: &mut impl Subscription) -> Result<(u64, u64)> {
    let message = timeout(Duration::from_secs(5), subscription.next()).await?;
    Ok(frame(&message.ok_or("the subscription ended")?))
}

async fn retractions_are_heard_in_order_and_numbered<S: Server>() -> Result {
    let server = S::start().await?;
    let ((_, one), (_, two)) = (server.open().await?, server.open().await?);
    let mut subscriptions = [one.subscribe().await?, two.subscribe().await?];
    for at in 1..=20 {
        let by = if at % 2 == 0 { &one } else { &two };
        by.retract(&notice(100 - at, [at]), MINUTE, None).await?;
    }
    for part in (0..3).map(|part| part * 800..(part + 1) * 800) {
        one.retract(&notice(500, part), MINUTE, None).await?;
    }
    assert_eq!(one.beat(7, crate::pulse(5)).await?.generation, 5);
    assert_eq!(two.beat(8, crate::pulse(3)).await?.generation, 5, "it only rises");
    for subscription in &mut subscriptions {
        let mut sequences = Vec::new();
        let (log, first) = heard(subscription).await?;
        sequences.push(first);
        for _ in 0..24 {
            let (same, sequence) = heard(subscription).await?;
            assert_eq!(same, log);
            sequences.push(sequence);
        }
        let expected: Vec<u64> = (1..=23).chain([23, 23]).collect();
        assert_eq!(sequences, expected, "a heartbeat has the number of the last retraction");
    }
    Ok(())
}

async fn nothing_is_sent_again_to_who_does_not_listen<S: Server>() -> Result {
    let server = S::start().await?;
    let (_, ledger) = server.open().await?;
    let mut first = ledger.subscribe().await?;
    ledger.retract(&notice(1, [1]), MINUTE, None).await?;
    assert_eq!(heard(&mut first).await?.1, 1);
    drop(first);
    ledger.retract(&notice(2, [1]), MINUTE, None).await?;
    let mut second = ledger.subscribe().await?;
    assert!(timeout(Duration::from_millis(200), second.next()).await.is_err(), "it was published before");
    ledger.retract(&notice(3, [1]), MINUTE, None).await?;
    assert_eq!(heard(&mut second).await?.1, 3, "the number shows what was missed");
    server.lose_everything().await?;
    assert_eq!(timeout(Duration::from_secs(5), second.next()).await?, None, "it ends with the connection");
    Ok(())
}

async fn a_lost_log_has_another_name<S: Server>() -> Result {
    let server = S::start().await?;
    let (tier, ledger) = server.open().await?;
    let mut names = Vec::new();
    for _ in 0..3 {
        // The link comes back on its own time.
        until("a subscription", async || Ok(ledger.subscribe().await.is_ok())).await?;
        until("an answer", async || Ok(ledger.beat(0, crate::pulse(0)).await.is_ok())).await?;
        let mut subscription = ledger.subscribe().await?;
        ledger.retract(&notice(9, [1]), MINUTE, None).await?;
        let (name, sequence) = heard(&mut subscription).await?;
        assert!(sequence == 1 && !names.contains(&name), "{name} {sequence} {names:?}");
        names.push(name);
        server.lose_everything().await?;
        until("an answer", async || Ok(tier.fetch(&[address(1)]).await.is_ok())).await?;
        assert_eq!(fetch(&tier, 1).await?, None);
    }
    Ok(())
}

const ANNOUNCED: [u8; 16] = [1; 16];
const LATE: [u8; 16] = [2; 16];
const DEAD: [u8; 16] = [3; 16];

fn announcement(id: [u8; 16], above: u64, lease: Duration) -> Announcement {
    Announcement { id, notice: notice(above, [1, 2]), xid: Some(7), lease, renews: false }
}

async fn watermark(subscription: &mut impl Subscription) -> Result<u64> {
    let message = timeout(Duration::from_secs(5), subscription.next()).await?.ok_or("the subscription ended")?;
    Ok(u64::from_be_bytes(message[28..36].try_into()?))
}

async fn the_watermark_waits_for_what_was_announced<S: Server>() -> Result {
    let server = S::start().await?;
    let (_, ledger) = server.open().await?;
    let mut subscription = ledger.subscribe().await?;
    let settle = |id, flush| Some(Settlement { id, flush: Lsn::new(flush) });
    let advance = async |flush| ledger.beat(1, Pulse { flush: Lsn::new(flush), ..crate::pulse(0) }).await;
    let lineage = ledger.announce(&announcement(ANNOUNCED, 50, MINUTE)).await?;
    assert!(lineage.is_some());
    let unannounced = ledger.retract(&notice(100, [1]), MINUTE, settle(LATE, 100)).await?;
    assert_eq!((unannounced.vouched_by, watermark(&mut subscription).await?), (None, 50));
    assert_eq!(ledger.announce(&announcement(LATE, 60, MINUTE)).await?, None, "it was settled before it came");
    let more = Announcement { renews: true, ..announcement(ANNOUNCED, 50, MINUTE) };
    assert_eq!(ledger.announce(&more).await?, lineage, "more is told of it");
    let other = announcement(ANNOUNCED, 80, MINUTE);
    assert_eq!(ledger.announce(&other).await?, None, "an instance that was cloned draws the same ids");
    advance(110).await?;
    assert_eq!(watermark(&mut subscription).await?, 50);
    let settled = ledger.retract(&notice(60, [1]), MINUTE, settle(ANNOUNCED, 90)).await?;
    assert_eq!((settled.vouched_by, watermark(&mut subscription).await?), (lineage, 90));
    let again = ledger.retract(&notice(60, [1]), MINUTE, settle(ANNOUNCED, 80)).await?;
    assert_eq!((again.vouched_by, watermark(&mut subscription).await?), (None, 90), "it never falls");
    // Whoever withdraws holds nobody back, and whoever dies not for long.
    ledger.announce(&announcement([4; 16], 100, MINUTE)).await?;
    ledger.withdraw([4; 16]).await?;
    assert!(ledger.announce(&announcement(DEAD, 120, Duration::from_millis(50))).await?.is_some());
    assert_eq!(advance(200).await?.abandoned, Vec::<Vec<u8>>::new());
    assert_eq!(watermark(&mut subscription).await?, 120);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(advance(200).await?.abandoned.len(), 1, "somebody has to retract it");
    assert_eq!(watermark(&mut subscription).await?, 200);
    let more = Announcement { renews: true, ..announcement(DEAD, 120, MINUTE) };
    assert_eq!(ledger.announce(&more).await?, None, "what was given up stays so");
    ledger.announce(&announcement([5; 16], 210, Duration::from_millis(50))).await?;
    let more = Announcement { renews: true, ..announcement([5; 16], 220, MINUTE) };
    ledger.announce(&more).await?;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(advance(220).await?.abandoned.len(), 1, "nobody is waited for longer because more was told");
    assert_eq!(watermark(&mut subscription).await?, 220);
    let late = ledger.retract(&notice(190, [1]), MINUTE, settle(DEAD, 300)).await?;
    assert_eq!((late.vouched_by, watermark(&mut subscription).await?), (None, 300));
    Ok(())
}

async fn each_history_has_a_watermark_of_its_own<S: Server>() -> Result {
    let server = S::start().await?;
    let (_, ledger) = server.open().await?;
    let mut subscription = ledger.subscribe().await?;
    assert!(ledger.announce(&announcement(ANNOUNCED, 50, MINUTE)).await?.is_some());
    for (history, flush, expected) in [(0xCD, 90, 90), (0xAB, 90, 50), (0xCD, 10, 90), (0xEF, 7, 7), (0xAB, 95, 50)] {
        ledger.beat(1, Pulse { history, flush: Lsn::new(flush), ..crate::pulse(0) }).await?;
        assert_eq!(watermark(&mut subscription).await?, expected, "of {history:x} with {flush}");
    }
    Ok(())
}

async fn what_was_missed_is_kept_for_a_while<S: Server>() -> Result {
    let server = S::start().await?;
    let (_, ledger) = server.open().await?;
    let mut subscription = ledger.subscribe().await?;
    let lineage = ledger.announce(&announcement(ANNOUNCED, 1, MINUTE)).await?.ok_or("no lineage")?;
    let mut heard = Vec::new();
    for at in 1..=1_100 {
        ledger.retract(&notice(at, [at]), MINUTE, None).await?;
        heard.push(timeout(Duration::from_secs(5), subscription.next()).await?.ok_or("the subscription ended")?);
    }
    assert_eq!(ledger.repair(lineage, 1_097).await?.as_deref(), heard.get(1_097..));
    assert_eq!(ledger.repair(lineage, 1_100).await?, Some(Vec::new()));
    assert_eq!(ledger.repair(lineage, 76).await?.as_deref(), heard.get(76..), "the last 1,024");
    assert_eq!(ledger.repair(lineage, 75).await?, None);
    assert_eq!(ledger.repair(lineage, 1_101).await?, None, "beyond the end");
    // One that is long is not kept.
    ledger.retract(&notice(2_000, 0..300), MINUTE, None).await?;
    assert_eq!(ledger.repair(lineage, 1_100).await?, None);
    server.lose_everything().await?;
    until("another log", async || Ok(ledger.repair(lineage, 0).await.is_ok_and(|found| found.is_none()))).await?;
    Ok(())
}

/// A record of one position, made here from the table in the format's documentation.
fn record(lsn: u64) -> Vec<u8> {
    let cluster = [&5_u64.to_be_bytes()[..], &[0; 8], &[1, 0]].concat();
    let part = [&1_u32.to_be_bytes()[..], &[0; 8], &lsn.to_be_bytes(), &[0; 16]].concat();
    [&b"HWD\x01\0\x01"[..], &cluster, &part].concat()
}

async fn records_of_users_are_merged_and_a_loss_begins_an_era<S: Server>() -> Result {
    let server = S::start().await?;
    let devices = server.devices().await?;
    let (one, other) = (Digest::of_user(b"1"), Digest::of_user(b"2"));
    let look = || Exchange { record: vec![], from: vec![], life: MINUTE, disbelieved: None };
    let bring = |lsn, from: Vec<u8>| Exchange { record: record(lsn), from, ..look() };
    let first = devices.exchange(one, look()).await?;
    assert!(first.era != 0 && !first.is_old && first.record.is_empty());
    assert_eq!(devices.exchange(one, bring(7, vec![])).await?.record, record(7));
    assert_eq!(devices.exchange(one, bring(5, vec![])).await?.record, record(7), "nothing is lowered");
    assert_eq!(devices.exchange(one, bring(5, record(6))).await?.record, record(7), "it was made from another");
    assert_eq!(devices.exchange(one, bring(5, record(7))).await?.record, record(5), "it was made from this one");
    let stored = devices.exchange(one, look()).await?;
    assert_eq!((stored.era, stored.is_new, stored.record), (first.era, false, record(5)));
    let short = Duration::from_millis(150);
    devices.exchange(other, Exchange { life: short, ..bring(9, vec![]) }).await?;
    sleep(2 * short).await;
    let ended = devices.exchange(other, Exchange { life: short, ..look() }).await?;
    assert!(ended.record.is_empty() && ended.is_old && ended.era == first.era);
    let disbelieved = Exchange { disbelieved: Some(first.era), ..look() };
    let second = devices.exchange(one, disbelieved.clone()).await?;
    assert!(second.is_new && second.era != first.era && second.begun_ms > first.begun_ms && second.record == record(5));
    assert_eq!(devices.exchange(one, disbelieved).await?.era, second.era);
    server.lose_everything().await?;
    until("an answer", async || Ok(devices.exchange(one, look()).await.is_ok())).await?;
    let third = devices.exchange(one, look()).await?;
    assert!(third.era != second.era && third.record.is_empty());
    Ok(())
}
