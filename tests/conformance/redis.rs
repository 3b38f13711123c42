//! Admission, markers, and what is heard.

use crate::{Result, until};
use highwater::devices::{DeviceStore, Exchange, RedisDevices};
use highwater::ledger::{Ledger, Notice, RedisLedger, Subscription};
use highwater::memory::Shared;
use highwater::testkit::RedisServer;
use highwater::tier::{Address, Offer, RedisTier, SharedTier};
use highwater::{Digest, Lsn, Position, RedisLink, RedisSettings};
use std::time::Duration;
use tokio::time::timeout;

both! { Shared, Redis:
    no_slot_moves_backwards,
    what_cannot_be_compared_gives_way_and_is_not_admitted,
    lives_end,
    retractions_are_heard_in_order_and_numbered,
    nothing_is_kept_for_who_does_not_listen,
    a_lost_log_has_another_name,
    records_of_users_are_merged_and_a_loss_begins_an_era,
}

const MINUTE: Duration = Duration::from_secs(60);

/// A Redis of either kind: its tier and its ledger.
pub(crate) trait Server: Sized {
    type Tier: SharedTier;
    type Ledger: Ledger;
    type Devices: DeviceStore;

    async fn devices(&self) -> Result<Self::Devices>;
    async fn start() -> Result<Self>;
    async fn open(&self) -> Result<(Self::Tier, Self::Ledger)>;
    /// Everything in it is lost, and it is back when this returns.
    async fn lose_everything(&self) -> Result;
}

impl Server for Shared {
    type Tier = Self;
    type Ledger = Self;
    type Devices = Self;

    async fn devices(&self) -> Result<Self> {
        Ok(self.client(3))
    }

    async fn start() -> Result<Self> {
        Ok(Self::new(1))
    }

    async fn open(&self) -> Result<(Self, Self)> {
        Ok((self.client(1), self.client(2)))
    }

    async fn lose_everything(&self) -> Result {
        self.set_down(true);
        self.wipe();
        self.set_down(false);
        Ok(())
    }
}

pub(crate) struct Redis(pub(crate) RedisServer);

impl Redis {
    pub(crate) async fn link(&self) -> Result<RedisLink> {
        Ok(RedisLink::connect(RedisSettings::new(self.0.url()).namespace("shop")).await?)
    }
}

impl Server for Redis {
    type Tier = RedisTier;
    type Ledger = RedisLedger;
    type Devices = RedisDevices;

    async fn devices(&self) -> Result<RedisDevices> {
        Ok(RedisDevices::open(self.link().await?).await?)
    }

    async fn start() -> Result<Self> {
        Ok(Self(RedisServer::start().await?))
    }

    async fn open(&self) -> Result<(RedisTier, RedisLedger)> {
        let link = self.link().await?;
        Ok((RedisTier::open(link.clone()).await?, RedisLedger::open(link).await?))
    }

    async fn lose_everything(&self) -> Result {
        self.0.kill().await?;
        Ok(self.0.start_again().await?)
    }
}

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
    ledger.retract(&notice(big, [1]), MINUTE).await?;
    assert_eq!(fetch(&tier, 1).await?, Some(with_upper), "an entry at the position has seen the write");
    ledger.retract(&notice(big + 1, [1]), MINUTE).await?;
    ledger.retract(&notice(big - 5, [1]), MINUTE).await?;
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
    ledger.retract(&notice(1, [3]), short).await?;
    let found = tier.fetch(&[1, 2, 3, 4].map(address)).await?;
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
    tokio::time::sleep(2 * short).await;
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
        by.retract(&notice(100 - at, [at]), MINUTE).await?;
    }
    // More names than one message holds are told in several.
    one.retract(&notice(500, 0..2_500), MINUTE).await?;
    assert_eq!(one.beat(7, 5).await?.generation, 5);
    assert_eq!(two.beat(8, 3).await?.generation, 5, "it only rises");
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

async fn nothing_is_kept_for_who_does_not_listen<S: Server>() -> Result {
    let server = S::start().await?;
    let (_, ledger) = server.open().await?;
    let mut first = ledger.subscribe().await?;
    ledger.retract(&notice(1, [1]), MINUTE).await?;
    assert_eq!(heard(&mut first).await?.1, 1);
    drop(first);
    ledger.retract(&notice(2, [1]), MINUTE).await?;
    let mut second = ledger.subscribe().await?;
    assert!(timeout(Duration::from_millis(200), second.next()).await.is_err(), "it was published before");
    ledger.retract(&notice(3, [1]), MINUTE).await?;
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
        until("an answer", async || Ok(ledger.beat(0, 0).await.is_ok())).await?;
        let mut subscription = ledger.subscribe().await?;
        ledger.retract(&notice(9, [1]), MINUTE).await?;
        let (name, sequence) = heard(&mut subscription).await?;
        assert!(sequence == 1 && !names.contains(&name), "{name} {sequence} {names:?}");
        names.push(name);
        server.lose_everything().await?;
        until("an answer", async || Ok(tier.fetch(&[address(1)]).await.is_ok())).await?;
        assert_eq!(fetch(&tier, 1).await?, None);
    }
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
    tokio::time::sleep(2 * short).await;
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
