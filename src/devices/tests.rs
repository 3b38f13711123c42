mod deferring;

use super::deferred::{Deferred, Due, USERS_MAX};
use super::eras::{Eras, Standing};
use super::record::BYTES_MAX;
use super::*;
use crate::token::tests::{drawn, named, part};
use crate::token::{CLUSTERS_MAX, Shard};
use crate::{Lsn, Position, Timeline, Token};
use proptest::prelude::*;
use std::time::Duration;
use tokio::time::Instant;

/// Few different numbers, so that they meet, and among them what halves of 32 bits and doubles get wrong.
fn number() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![1, 2, 255, 256, 1 << 32, (1 << 53) + 1, 1 << 53, u64::MAX - 1, u64::MAX])
}

pub(super) fn tokens() -> impl Strategy<Value = Token> {
    let vouched = (prop::option::of(1..3_u64), number());
    let parts = (1..5_u32, 0..3_u64, number(), vouched)
        .prop_map(|(timeline, branch, lsn, vouched)| part(timeline, branch, lsn, vouched));
    let keys = (
        number(),
        prop::collection::vec((prop::sample::select(vec![0, 1, 255, 256, 1 << 31, u32::MAX]), number()), 0..4),
    );
    let keys = (keys, prop::collection::vec((0..20_u32, number()), 0..10));
    (drawn(prop_oneof![8 => number(), 2 => 1..40_u64], parts, CLUSTERS_MAX), keys).prop_map(
        |(token, ((rest, few), many))| {
            let by_key = |shard: &Shard| {
                let mut shard = shard.clone();
                if let Some(last) = shard.parts.pop() {
                    let keys = if shard.system_identifier.is_multiple_of(2) { &few } else { &many };
                    shard.parts.push(named(last, rest, keys));
                }
                shard
            };
            let shards = token.shards().iter().map(by_key).collect();
            Token::from_shards(shards, token.is_overflown(), token.is_collapsed())
        },
    )
}

/// Records as instances make them: some answer for a cluster, in this era or another.
fn records(era: u64) -> impl Strategy<Value = Record> {
    (tokens(), prop::sample::select(vec![0, era, era + 1])).prop_map(|(token, era)| {
        let clusters: Vec<u64> = token.shards().iter().map(|shard| shard.system_identifier).step_by(2).collect();
        if era == 0 { Record::of(token) } else { Record::answering(token, &clusters, era) }
    })
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(mut record in records(7), suspect in any::<bool>()) {
        record.suspect = suspect;
        let bytes = record.encode();
        prop_assert!(bytes.len() <= BYTES_MAX);
        let read = Record::decode(&bytes).unwrap();
        prop_assert_eq!(read.encode(), bytes);
        prop_assert_eq!((&read.token, read.suspect), (&record.token, suspect));
    }

    #[test]
    fn damaged_bytes_are_refused_or_are_a_record(
        record in records(7), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = record.encode();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Some(read) = Record::decode(bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_late_writer_lowers_nothing(stored in records(7), late in records(7)) {
        let bytes = stored.encode();
        let merged = Record::take_in(Some(&bytes), &late, b"another", 7);
        let mut both = stored.token;
        both.merge(&late.token);
        prop_assert_eq!(&merged.token, &both);
        // Whoever knew all of it may take something back.
        let replaced = Record::take_in(Some(&bytes), &late, &bytes, 7);
        let mut alone = Token::default();
        alone.merge(&late.token);
        prop_assert_eq!(&replaced.token, &alone);
    }

    #[test]
    fn noise_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Record::decode(&bytes).is_none());
        let magic = [b"HWD\x01", &bytes[..]].concat();
        let _ = Record::decode(&magic);
    }
}

#[test]
fn the_bytes_are_part_of_the_format() {
    let parts = vec![part(3, 9, 0x0102, (None, 0)), part(4, 9, 0x0103, (Some(0xABCD), 0x0101))];
    let token =
        Token::from_shards(vec![Shard { system_identifier: 5, parts: parts.into(), forgotten: false }], false, true);
    let hex: String = Record::answering(token, &[5], 7).encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let cluster = "000000000000000500000000000000070200";
    let pinned = format!("0000000300000000000000090000000000000102{}", "00".repeat(16));
    let vouched = "0000000400000000000000090000000000000101000000000000abcd0000000000000103";
    assert_eq!(hex, format!("485744010201{cluster}{pinned}{vouched}"));
    let named = named(part(4, 9, 0x0103, (None, 0)), 0x0100, &[(7, 0x0102), (0x0102_0304, 0x0103)]);
    let token = Token::from_shards(
        vec![Shard { system_identifier: 5, parts: vec![named].into(), forgotten: true }],
        false,
        false,
    );
    let hex: String = Record::of(token).encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let cluster = "000000000000000500000000000000000103";
    let pinned = format!("0000000400000000000000090000000000000103{}", "00".repeat(16));
    let keys = "000000000000010002000000070000000000000102010203040000000000000103";
    assert_eq!(hex, format!("485744010001{cluster}{pinned}{keys}"));
    assert_eq!(BYTES_MAX, 4278);
    assert!(include_str!("exchange.lua").contains(&format!("local BYTES_MAX = {BYTES_MAX}\n")));
}

#[test]
fn a_log_vouches_for_what_lies_above_the_pin_or_this_is_no_record() {
    let parts = vec![part(1, 0, 10, (Some(1), 4))];
    let token =
        Token::from_shards(vec![Shard { system_identifier: 5, parts: parts.into(), forgotten: false }], false, false);
    let bytes = Record::of(token).encode();
    let changed = |from_end: usize, byte: u8| {
        let mut bytes = bytes.clone();
        let at = bytes.len() - from_end;
        bytes[at] = byte;
        Record::decode(&bytes)
    };
    assert!(changed(1, 5).is_some());
    assert!(changed(1, 4).is_none(), "not above the pin");
    assert!(changed(9, 0).is_none(), "above the pin, and no lineage");
    assert!(changed(15, 1).is_none(), "a lineage of more than 48 bits");
}

#[test]
fn an_instance_goes_back_to_no_era_from_before_the_newest() {
    let answer = |era, begun_ms, is_new| Exchanged { era, begun_ms, is_old: true, is_new, record: Vec::new() };
    let mut eras = Eras::default();
    assert_eq!(eras.judge(&answer(1, 100, false)), Standing::Known);
    assert_eq!(eras.judge(&answer(2, 200, false)), Standing::New);
    assert_eq!(eras.judge(&answer(1, 100, false)), Standing::Past);
    assert_eq!(eras.disbelieved, Some(1));
    assert_eq!(eras.judge(&answer(2, 200, false)), Standing::Known);
    // That server began another one at our wish, and its clock is behind.
    assert_eq!(eras.judge(&answer(3, 90, true)), Standing::New);
    assert_eq!(eras.judge(&answer(3, 90, false)), Standing::Known);
}

#[test]
fn what_is_deferred_is_bounded_and_merged() {
    let until = Instant::now() + Duration::from_secs(1);
    let at = |lsn| Token::at(&crate::History::new(7, Timeline(1), vec![]), Position::new(1, Lsn::new(lsn)));
    let user = |number: u64| Digest::of_user(&number.to_be_bytes());
    let mut deferred = Deferred::default();
    for number in 0..USERS_MAX as u64 + 5 {
        let is_full = deferred.put(user(number), Due { token: at(number), until });
        assert_eq!(is_full, number >= USERS_MAX as u64);
    }
    assert_eq!((deferred.len(), deferred.of(&user(4)), deferred.of(&user(5))), (USERS_MAX, None, Some(&at(5))));
    let (first, due) = deferred.first().unwrap();
    assert_eq!((first, &due.token), (user(5), &at(5)));
    assert!(!deferred.put(user(5), Due { token: at(9), until }));
    deferred.remove_first(&due);
    assert_eq!(deferred.of(&user(5)), Some(&at(9)), "it was raised while it was told");
    let (_, due) = deferred.first().unwrap();
    deferred.remove_first(&due);
    assert_eq!((deferred.len(), deferred.of(&user(5))), (USERS_MAX - 1, None));
}

#[test]
fn who_answers_for_one_era_answers_for_no_other() {
    let at = |lsn| Token::at(&crate::History::new(5, Timeline(1), vec![]), Position::new(1, Lsn::new(lsn)));
    let answer = Record::answering(at(9), &[5], 7);
    let stored = |era| Record::take_in(None, &answer, b"", era);
    assert_eq!((stored(7).era(5), stored(8).era(5)), (7, 0));
    let later = Record::take_in(Some(&stored(7).encode()), &Record::of(at(10)), b"", 7);
    assert_eq!((later.era(5), later.era(6)), (7, 0), "it stays answered for, and for no other cluster");
}

#[test]
fn a_session_that_holds_less_than_it_was_told_is_news() {
    let at = |lsn| Token::at(&crate::History::new(7, Timeline(1), vec![]), Position::new(1, Lsn::new(lsn)));
    let known = store::Known { token: at(5), ..Default::default() };
    assert!(!known.is_news(&at(5), true) && known.is_news(&at(6), false));
    assert!(known.is_news(&at(4), false), "a crash undid it");
    assert!(known.is_news(&Token::default(), false), "all of it is lost, and the user was told");
}

#[cfg(feature = "testkit")]
mod on_a_server {
    use super::*;
    use crate::testkit::RedisServer;
    use crate::{RedisLink, RedisSettings};
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    async fn opened(server: &RedisServer) -> (RedisLink, RedisDevices) {
        let link = RedisLink::connect(RedisSettings::new(server.url())).await.unwrap();
        (link.clone(), RedisDevices::open(link).await.unwrap())
    }

    async fn put(link: &RedisLink, user: Digest, record: &[u8]) {
        let name = format!("highwater:d:{{highwater:devices}}:{user}");
        link.requests(&name, ::redis::pipe().set(&name, record)).await.unwrap();
    }

    fn exchange(record: Vec<u8>, from: Vec<u8>) -> Exchange {
        Exchange { record, from, life: Duration::from_secs(60), disbelieved: None }
    }

    #[tokio::test]
    async fn records_are_merged_the_same_in_lua() {
        let server = RedisServer::start().await.unwrap();
        let (link, devices) = opened(&server).await;
        let era = devices.exchange(Digest::of_user(b"x"), exchange(vec![], vec![])).await.unwrap().era;
        let damaged = (records(era), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(record, at, byte)| {
            let mut bytes = record.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        });
        let noise = prop::collection::vec(any::<u8>(), 1..3_000);
        let suspect = records(era).prop_map(|mut record| {
            record.suspect = true;
            record.encode()
        });
        let whole = records(era).prop_map(|record| record.encode());
        let stored = prop_oneof![6 => whole, 1 => suspect, 2 => damaged, 1 => noise];
        let cases = prop::collection::vec((prop::option::weighted(0.9, stored), records(era), any::<bool>()), 3_000);
        let cases = cases.new_tree(&mut TestRunner::default()).unwrap().current();
        let (mut unreadable, mut replaced) = (0, 0);
        for (number, (stored, incoming, knew)) in cases.into_iter().enumerate() {
            let user = Digest::of_user(&number.to_be_bytes());
            if let Some(stored) = &stored {
                put(&link, user, stored).await;
            }
            let from = stored.clone().filter(|_| knew).unwrap_or_default();
            let found = devices.exchange(user, exchange(incoming.encode(), from.clone())).await.unwrap();
            let by_rust = Record::take_in(stored.as_deref(), &incoming, &from, era);
            assert_eq!(found.record, by_rust.encode(), "{stored:?} {incoming:?} {knew}");
            let again = devices.exchange(user, exchange(vec![], vec![])).await.unwrap();
            assert_eq!(again.record, found.record);
            unreadable += u32::from(by_rust.suspect);
            replaced += u32::from(knew);
        }
        assert!(unreadable > 100 && replaced > 1_000, "{unreadable} {replaced}");
    }

    #[tokio::test]
    async fn of_two_lineages_the_higher_stays_and_the_other_is_pinned() {
        let server = RedisServer::start().await.unwrap();
        let (_, devices) = opened(&server).await;
        let record = |part| {
            let shard = Shard { system_identifier: 5, parts: vec![part].into(), forgotten: false };
            Record::of(Token::from_shards(vec![shard], false, false)).encode()
        };
        let brings = async |user: &[u8], part| {
            let user = Digest::of_user(user);
            devices.exchange(user, exchange(record(part), vec![])).await.unwrap().record
        };
        brings(b"x", part(1, 0, 20, (Some(3), 4))).await;
        let both = brings(b"x", part(1, 0, 30, (Some(2), 5))).await;
        assert_eq!(both, record(part(1, 0, 30, (Some(2), 20))));
        assert_eq!(brings(b"x", part(1, 0, 40, (Some(2), 7))).await, record(part(1, 0, 40, (Some(2), 20))));
        assert_eq!(brings(b"x", part(1, 0, 35, (None, 0))).await, record(part(1, 0, 40, (Some(2), 35))));
        assert_eq!(brings(b"x", part(1, 0, 40, (None, 0))).await, record(part(1, 0, 40, (None, 0))));
    }

    #[tokio::test]
    async fn a_value_of_any_size_at_its_place_costs_no_more_than_a_record() {
        let server = RedisServer::start().await.unwrap();
        let (link, devices) = opened(&server).await;
        let user = Digest::of_user(b"x");
        let huge = vec![b'H'; 2 << 20];
        put(&link, user, &huge).await;
        let found = devices.exchange(user, exchange(vec![], vec![])).await.unwrap();
        assert_eq!(found.record.len(), BYTES_MAX + 1);
        assert!(Record::decode(&found.record).is_none());
    }

    async fn until_in_sync(replica: &RedisServer) {
        let begun = Instant::now();
        let mut admin = replica.connect().await.unwrap();
        loop {
            let info: String = ::redis::cmd("INFO").arg("replication").query_async(&mut admin).await.unwrap();
            if info.contains("master_link_status:up") && info.contains("master_sync_in_progress:0") {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{info}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn what_an_era_ends_with() {
        let server = RedisServer::builder().config("maxmemory-policy", "volatile-random").start().await.unwrap();
        let (_, devices) = opened(&server).await;
        let user = Digest::of_user(b"x");
        let look = async |devices: &RedisDevices| devices.exchange(user, exchange(vec![], vec![])).await.unwrap();
        let first = look(&devices).await;
        assert!(!first.is_old && look(&devices).await.era == first.era);
        let short = Exchange { life: Duration::from_millis(1), ..exchange(vec![], vec![]) };
        tokio::time::sleep(Duration::from_millis(3)).await;
        assert!(devices.exchange(user, short).await.unwrap().is_old);
        // Something was evicted, which may have been a record.
        let mut admin = server.connect().await.unwrap();
        ::redis::cmd("SET")
            .arg("filler")
            .arg(vec![0_u8; 1 << 20])
            .arg("EX")
            .arg(600)
            .exec_async(&mut admin)
            .await
            .unwrap();
        let used: String = ::redis::cmd("INFO").arg("memory").query_async(&mut admin).await.unwrap();
        let used: u64 = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap();
        ::redis::cmd("CONFIG")
            .arg(&["SET", "maxmemory", &(used - 500_000).to_string()])
            .exec_async(&mut admin)
            .await
            .unwrap();
        let _ = ::redis::cmd("SET").arg("more").arg("x").exec_async(&mut admin).await;
        let evicted: String = ::redis::cmd("INFO").arg("stats").query_async(&mut admin).await.unwrap();
        assert!(!evicted.contains("evicted_keys:0\r"), "the test means to evict");
        ::redis::cmd("CONFIG").arg(&["SET", "maxmemory", "0"]).exec_async(&mut admin).await.unwrap();
        let second = look(&devices).await;
        assert!(second.era != first.era && second.is_new && !second.is_old && second.begun_ms >= first.begun_ms);
        // Somebody believes it no more.
        let disbelieved = Exchange { disbelieved: Some(second.era), ..exchange(vec![], vec![]) };
        let third = devices.exchange(user, disbelieved.clone()).await.unwrap();
        assert!(third.era != second.era && third.is_new);
        assert_eq!(devices.exchange(user, disbelieved).await.unwrap().era, third.era, "once");
        // A server that was told to follow another and has not reached it tells nothing: what it holds is its own, and old.
        ::redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec_async(&mut admin).await.unwrap();
        assert!(devices.exchange(user, exchange(vec![], vec![])).await.is_err());
        server.promote().await.unwrap();
        let third = look(&devices).await;
        // A replica tells nothing.
        let replica = RedisServer::builder().replica_of(&server).start().await.unwrap();
        let link = RedisLink::connect(RedisSettings::new(replica.url())).await.unwrap();
        let of_replica =
            RedisDevices::open(link).await.expect("a role that can change again is no configuration error");
        assert!(of_replica.exchange(user, exchange(vec![], vec![])).await.is_err());
        // Promoted, it is another copy.
        until_in_sync(&replica).await;
        replica.promote().await.unwrap();
        let promoted = look(&of_replica).await;
        assert!(promoted.is_new && promoted.era != third.era);
        // And so is the old one, once it was a replica of that and came back: its process is the same all along.
        let follow = async |one: &RedisServer, other: &RedisServer| {
            let mut admin = one.connect().await.unwrap();
            let verb = ::redis::cmd("REPLICAOF").arg("127.0.0.1").arg(other.port()).to_owned();
            verb.exec_async(&mut admin).await.unwrap();
            until_in_sync(one).await;
        };
        follow(&server, &replica).await;
        server.promote().await.unwrap();
        let fourth = look(&devices).await;
        assert!(fourth.is_new);
        // Also where nobody looked at the other one meanwhile, so that the era is still its own.
        follow(&replica, &server).await;
        replica.promote().await.unwrap();
        follow(&server, &replica).await;
        server.promote().await.unwrap();
        assert!(look(&devices).await.is_new);
    }
}
