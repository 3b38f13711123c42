use super::super::hearing::{Deaf, Heard, Hearing, Timing};
use super::super::listener::{Hear, listen};
use super::super::message::Frame;
use super::super::place::Gap;
use super::*;
use crate::testkit::{Proxy, RedisServer};
use crate::tier::{Offer, RedisTier, SharedTier};
use crate::{Digest, Lsn, Position, RedisSettings};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);

async fn ledger_at(url: String) -> RedisLedger {
    let link = RedisLink::connect(RedisSettings::new(url).namespace("shop")).await.unwrap();
    RedisLedger::open(link).await.unwrap()
}

/// What a listener heard, as it happens; it ends with this.
struct Ears(mpsc::UnboundedReceiver<Heard>, tokio::task::JoinHandle<()>);

struct Mouth(mpsc::UnboundedSender<Heard>);

impl Hear for Mouth {
    fn pulse(&mut self) -> Pulse {
        pulse(0)
    }

    fn answered(&mut self, _: Beat) {}

    fn hear(&mut self, heard: Heard) {
        if !matches!(heard, Heard::Covered { .. } | Heard::Begun(_) | Heard::Whole) {
            let _ = self.0.send(heard);
        }
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.1.abort();
    }
}

impl Ears {
    fn on(ledger: &RedisLedger) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let ledger = ledger.clone();
        let task = tokio::spawn(async move {
            let mut hearing = Hearing::new(Timing::default(), rand::random::<u64>, Instant::now());
            match listen(&ledger, &mut hearing, &mut Mouth(sender)).await {}
        });
        Self(receiver, task)
    }

    async fn next(&mut self) -> Heard {
        timeout(MINUTE, self.0.recv()).await.expect("nothing is heard").expect("the listener ended")
    }

    /// Waits for the next thing that `wanted` likes, and says how long it took.
    async fn until(&mut self, wanted: impl Fn(&Heard) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let heard = self.next().await;
            if wanted(&heard) {
                return began.elapsed();
            }
        }
    }

    async fn live(&mut self) -> Duration {
        self.until(|heard| matches!(heard, Heard::Live)).await
    }

    async fn deaf(&mut self) -> Duration {
        self.until(|heard| matches!(heard, Heard::Deaf(_))).await
    }
}

fn pulse(generation: u64) -> Pulse {
    Pulse { generation, history: 5, flush: Lsn::ZERO }
}

fn notice(lsn: u64, keys: usize) -> Notice {
    let keys = (0..keys).map(|key| Digest::of_key(&key.to_be_bytes())).collect();
    Notice { history: 5, position: Position::new(1, Lsn::new(lsn)), keys, groups: vec![Digest::of_group("g")] }
}

#[tokio::test]
async fn retractions_are_heard_in_order_and_leave_markers() {
    let server = RedisServer::start().await.unwrap();
    let ledger = ledger_at(server.url()).await;
    let mut ears = Ears::on(&ledger);
    ears.live().await;
    for lsn in 1..=20 {
        ledger.retract(&notice((1 << 60) + lsn, 2), MINUTE, None).await.unwrap();
    }
    for lsn in 1..=20 {
        assert_eq!(ears.next().await, Heard::Retracted(notice((1 << 60) + lsn, 2)));
    }
    for part in message::split(&notice(1 << 61, 2_500)) {
        ledger.retract(&part, MINUTE, None).await.unwrap();
    }
    let mut names = 0;
    while names < 2_501 {
        let Heard::Retracted(part) = ears.next().await else { panic!("a gap between the parts") };
        names += part.keys.len() + part.groups.len();
    }
    let tier = RedisTier::open(ledger.link.clone()).await.unwrap();
    let addresses: Vec<_> = notice(0, 2_500).keys.into_iter().map(|key| Address { history: 5, key }).collect();
    let markers = tier.fetch(&addresses).await.unwrap();
    let marker = envelope::marker(Position::new(1, Lsn::new(1 << 61)));
    assert!(markers.iter().all(|found| found.as_ref() == Some(&marker)));
    let mut admin = server.connect().await.unwrap();
    let name = entry_name("shop", &addresses[0]);
    let life: i64 = redis::cmd("PTTL").arg(name).query_async(&mut admin).await.unwrap();
    assert!((50_000..=60_000).contains(&life), "{life}");
    let life: i64 = redis::cmd("PTTL").arg("shop:log").query_async(&mut admin).await.unwrap();
    assert_eq!(life, -1, "the record has no life of its own");
}

#[tokio::test]
async fn generations_above_what_a_double_holds_only_rise() {
    let server = RedisServer::start().await.unwrap();
    let ledger = ledger_at(server.url()).await;
    let beat = async |generation| ledger.beat(1, pulse(generation)).await.unwrap().generation;
    assert_eq!(beat((1 << 53) + 1).await, (1 << 53) + 1);
    assert_eq!(beat(1 << 53).await, (1 << 53) + 1);
    assert_eq!(beat(u64::MAX).await, u64::MAX);
    let mut subscription = ledger.subscribe().await.unwrap();
    beat(0).await;
    let heard = message::Message::decode(&subscription.next().await.unwrap()).unwrap();
    assert_eq!(heard.body, message::Body::Heartbeat { nonce: 1, history: 5 });
    assert_eq!(heard.frame, Frame { generation: u64::MAX, sequence: 0, ..heard.frame });
}

#[tokio::test]
async fn a_wiped_log_and_one_that_was_set_back_are_gaps() {
    let server = RedisServer::start().await.unwrap();
    let ledger = ledger_at(server.url()).await;
    let mut ears = Ears::on(&ledger);
    ears.live().await;
    for lsn in 1..=3 {
        ledger.retract(&notice(lsn, 1), MINUTE, None).await.unwrap();
        ears.next().await;
    }
    server.flush().await.unwrap();
    let noticed = ears.until(|heard| matches!(heard, Heard::Gap(Gap::OtherLog))).await;
    println!("a wiped log was noticed after {noticed:?}");
    for lsn in 1..=3 {
        ledger.retract(&notice(lsn, 1), MINUTE, None).await.unwrap();
        assert!(matches!(ears.next().await, Heard::Retracted(_)));
    }
    let mut admin = server.connect().await.unwrap();
    let set_back = redis::cmd("HSET").arg("shop:log").arg("seq").arg(1).exec_async(&mut admin).await;
    set_back.unwrap();
    let noticed = ears.until(|heard| matches!(heard, Heard::Gap(Gap::Fell))).await;
    println!("a log that was set back was noticed after {noticed:?}");
    let spoilt = redis::cmd("HSET").arg("shop:log").arg("seq").arg("many").exec_async(&mut admin).await;
    spoilt.unwrap();
    ears.until(|heard| matches!(heard, Heard::Gap(Gap::OtherLog))).await;
}

/// Kills the server for this long, and says how long after its return the bus was live.
async fn outage(length: Duration) -> Duration {
    let server = RedisServer::start().await.unwrap();
    let ledger = ledger_at(server.url()).await;
    let mut ears = Ears::on(&ledger);
    ears.live().await;
    server.kill().await.unwrap();
    let noticed = ears.deaf().await;
    let began = Instant::now();
    assert!(ledger.beat(1, pulse(0)).await.is_err() && ledger.retract(&notice(1, 1), MINUTE, None).await.is_err());
    assert!(began.elapsed() < Duration::from_millis(100), "a dead server costs nothing: {:?}", began.elapsed());
    sleep(length).await;
    server.start_again().await.unwrap();
    let back = ears.live().await;
    println!("after an outage of {length:?}: deaf noticed after {noticed:?}, live {back:?} after the return");
    assert!(noticed < Duration::from_secs(1), "{noticed:?}");
    ledger.retract(&notice(1, 1), MINUTE, None).await.unwrap();
    ears.until(|heard| *heard == Heard::Retracted(notice(1, 1))).await;
    back
}

#[tokio::test]
async fn a_short_outage_is_over_within_five_seconds_of_its_end() {
    assert!(outage(Duration::from_secs(1)).await < Duration::from_secs(5));
}

#[tokio::test]
async fn so_is_one_that_outlasts_the_patience_of_the_client_library() {
    assert!(outage(Duration::from_secs(20)).await < Duration::from_secs(5));
}

#[tokio::test]
async fn a_frozen_server_is_noticed_in_three_seconds_and_used_again_after_it() {
    let server = RedisServer::start().await.unwrap();
    let ledger = ledger_at(server.url()).await;
    let mut ears = Ears::on(&ledger);
    ears.live().await;
    sleep(Duration::from_millis(2_500)).await;
    server.freeze().await.unwrap();
    let began = Instant::now();
    assert!(matches!(ears.next().await, Heard::Deaf(Deaf::Silent)));
    let noticed = began.elapsed();
    sleep(Duration::from_secs(10)).await;
    server.thaw().await.unwrap();
    let back = ears.live().await;
    println!("a frozen server was noticed after {noticed:?}, and was live {back:?} after its thaw");
    assert!(noticed < Duration::from_millis(4_500), "three seconds and the noise of the machine: {noticed:?}");
    assert!(back < Duration::from_secs(5), "{back:?}");
}

#[tokio::test]
async fn a_channel_that_is_refused_for_a_while_is_heard_again() {
    let server = RedisServer::builder().user("app", "on >pass ~shop:* &shop:* +@all").start().await.unwrap();
    let ledger = ledger_at(server.url_as("app", "pass")).await;
    let mut ears = Ears::on(&ledger);
    ears.live().await;
    let mut admin = server.connect().await.unwrap();
    let mut rule = async |rule: &str| {
        redis::cmd("ACL").arg(&["SETUSER", "app", rule]).exec_async(&mut admin).await.unwrap();
    };
    rule("resetchannels").await;
    let noticed = ears.deaf().await;
    sleep(Duration::from_secs(5)).await;
    assert!(ledger.subscribe().await.is_err());
    rule("&shop:*").await;
    let back = ears.live().await;
    println!("a refused channel was noticed after {noticed:?}, and was live {back:?} after the right was restored");
    assert!(noticed < Duration::from_millis(4_500) && back < Duration::from_secs(5), "{noticed:?}, {back:?}");
}

#[tokio::test]
async fn markers_may_be_evicted_and_the_bus_goes_on() {
    let server = RedisServer::builder().maxmemory("4mb").config("maxmemory-policy", "allkeys-lru").start();
    let server = server.await.unwrap();
    let ledger = ledger_at(server.url()).await;
    let mut ears = Ears::on(&ledger);
    ears.live().await;
    let tier = RedisTier::open(ledger.link.clone()).await.unwrap();
    let marked = notice(50, 50);
    ledger.retract(&marked, MINUTE, None).await.unwrap();
    for number in 0..200_u64 {
        let key = Digest::of_key(&(number + 1_000).to_be_bytes());
        // An envelope by its compared bytes alone: Redis looks at nothing else.
        let envelope = [b"HWE\x01\x01\0\0\0\0\0\0\x01".as_slice(), &number.to_be_bytes(), &[0; 60_000]].concat();
        tier.admit(vec![Offer { address: Address { history: 5, key }, envelope, life: MINUTE }]).await.unwrap();
    }
    let addresses: Vec<_> = marked.keys.iter().map(|key| Address { history: 5, key: *key }).collect();
    let left = tier.fetch(&addresses).await.unwrap().iter().flatten().count();
    println!("{left} of 50 markers are left");
    ledger.retract(&notice(51, 1), MINUTE, None).await.unwrap();
    ears.until(|heard| *heard == Heard::Retracted(notice(51, 1))).await;
}

#[tokio::test]
async fn a_connection_that_is_dead_in_either_direction_is_noticed() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let ledger = ledger_at(proxy.redis_url()).await;
    let mut ears = Ears::on(&ledger);
    ears.live().await;
    type Spoil = fn(&Proxy);
    let spoils: [(&str, Spoil); 4] = [
        ("to the server", Proxy::blackhole_to_server),
        ("to the client", Proxy::blackhole_to_client),
        ("both ways", Proxy::blackhole),
        ("late", Proxy::stall),
    ];
    for (name, spoil) in spoils {
        spoil(&proxy);
        let noticed = ears.deaf().await;
        sleep(Duration::from_secs(2)).await;
        proxy.heal().await.unwrap();
        let back = ears.live().await;
        println!("dead {name}: noticed after {noticed:?}, live {back:?} after it was healed");
        assert!(noticed < Duration::from_millis(4_500), "{name}: {noticed:?}");
        assert!(back < Duration::from_secs(5), "{name}: {back:?}");
    }
}

#[tokio::test]
async fn a_subscription_on_another_server_than_the_commands_is_deaf() {
    let (old, new) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let proxy = Proxy::start(old.address()).await.unwrap();
    let ledger = ledger_at(proxy.redis_url()).await;
    let mut ears = Ears::on(&ledger);
    ears.live().await;
    proxy.retarget(new.address());
    let mut admin = old.connect().await.unwrap();
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec_async(&mut admin).await.unwrap();
    let noticed = ears.deaf().await;
    let back = ears.live().await;
    println!("two servers under one name: noticed after {noticed:?}, live on the new one {back:?} later");
    assert!(noticed < Duration::from_millis(4_500) && back < Duration::from_secs(5));
    ledger.retract(&notice(1, 1), MINUTE, None).await.unwrap();
    ears.until(|heard| *heard == Heard::Retracted(notice(1, 1))).await;
}
