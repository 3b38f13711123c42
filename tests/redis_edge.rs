//! The shared tier and the log on a real Redis: what is a configuration error, what is a miss, and what nothing costs.
#![cfg(feature = "testkit")]

use highwater::ledger::{Ledger, Notice, RedisLedger, Subscription};
use highwater::testkit::RedisServer;
use highwater::tier::{Address, Offer, RedisTier, SharedTier};
use highwater::{Digest, Error, Lsn, Position, RedisLink, RedisSettings};
use std::error::Error as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[cfg(feature = "tls")]
#[path = "common/authority.rs"]
mod authority;
#[cfg(feature = "tls")]
#[path = "redis_edge/encrypted.rs"]
mod encrypted;

const MINUTE: Duration = Duration::from_secs(60);

/// An envelope by its compared bytes alone, made here from the table in the format's documentation.
fn envelope(kind: u8, tag: u64, rest: usize) -> Vec<u8> {
    [&b"HWE\x01"[..], &[kind, 0, 0, 0], &1_u32.to_be_bytes(), &tag.to_be_bytes(), &vec![0; rest]].concat()
}

fn entry(tag: u64) -> Vec<u8> {
    envelope(1, tag, 56)
}

fn address(number: u64) -> Address {
    Address { history: 0xAB, key: Digest::of_key(&number.to_be_bytes()) }
}

fn offer(number: u64, envelope: Vec<u8>) -> Offer {
    Offer { address: address(number), envelope, life: MINUTE }
}

fn notice(lsn: u64, keys: &[u64]) -> Notice {
    let keys = keys.iter().map(|number| address(*number).key).collect();
    Notice { history: 0xAB, position: Position::new(1, Lsn::new(lsn)), keys, groups: Vec::new() }
}

async fn opened(url: String) -> Result<(RedisTier, RedisLedger), Error> {
    let link = RedisLink::connect(RedisSettings::new(url).namespace("shop")).await?;
    Ok((RedisTier::open(link.clone()).await?, RedisLedger::open(link).await?))
}

/// The text of a configuration error with all its causes.
async fn refused(url: String) -> String {
    let Err(error) = opened(url).await else { panic!("it must be refused") };
    assert!(error.is_configuration(), "{error}");
    told(&error)
}

/// An error with all its causes.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    println!("{text}");
    text
}

#[tokio::test]
async fn what_waiting_does_not_mend_is_a_configuration_error_with_its_remedy() {
    let server = RedisServer::builder()
        .password("hunter2")
        .user("keyless", "on >pass ~other:* &shop:* +@all")
        .user("mute", "on >pass ~shop:* resetchannels +@all")
        .user("scriptless", "on >pass ~shop:* &shop:* +@all -eval -evalsha")
        .user("writeless", "on >pass ~shop:* &shop:* +@all -hincrby")
        .user("earless", "on >pass ~shop:* &shop:* +@all -subscribe")
        .user("enough", "on >pass ~shop:* &shop:* -@all +get +mget +set +hset +hmget +hincrby +eval +evalsha +publish +subscribe +select")
        .start()
        .await
        .unwrap();
    let at = server.address();
    for (url, remedy) in [
        (format!("redis://:hunter3@{at}/"), "user or password"),
        (format!("redis://nobody:hunter2@{at}/"), "user or password"),
        (format!("redis://{at}/"), "wants a password"),
        (format!("redis://:hunter2@{at}/99"), "database number"),
        (format!("redis://:hunter2@{at}/x"), "Redis URL"),
        (format!("http://:hunter2@{at}/"), "Redis URL"),
        ("hunter2".to_owned(), "Redis URL"),
        (String::new(), "Redis URL"),
        (server.url_as("keyless", "pass"), "~<namespace>:*"),
        (server.url_as("mute", "pass"), "&<namespace>:*"),
        (server.url_as("scriptless", "pass"), "+evalsha"),
        (server.url_as("writeless", "pass"), "+hincrby"),
        (server.url_as("earless", "pass"), "+subscribe"),
    ] {
        let text = refused(url).await;
        assert!(text.contains(remedy), "{remedy:?} in {text:?}");
        assert!(!text.contains("hunter"), "a password in {text:?}");
    }
    opened(server.url()).await.unwrap();
    let (tier, ledger) =
        opened(format!("{}1", server.url_as("enough", "pass"))).await.expect("the rights that the remedy names");
    tier.admit(vec![offer(1, entry(1))]).await.unwrap();
    tier.fetch(&[address(1), address(2)]).await.unwrap();
    let mut subscription = ledger.subscribe().await.unwrap();
    ledger.retract(&notice(2, &[1]), MINUTE).await.unwrap();
    subscription.next().await.expect("a message");
}

#[tokio::test]
async fn namespaces_that_could_be_mistaken_are_refused() {
    for namespace in ["", "a:b", "a b", "a{b}", "ä", &"x".repeat(65)] {
        let settings = RedisSettings::new("redis://127.0.0.1:1/").namespace(namespace);
        let error = RedisLink::connect(settings).await.unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("namespace"), "{error}");
    }
}

#[tokio::test]
async fn tls_is_not_dropped_in_silence() {
    for scheme in ["rediss", "REDISS", "valkeys"] {
        let text = refused(format!("{scheme}://:hunter2@127.0.0.1:1/#insecure")).await;
        assert!(text.contains(if cfg!(feature = "tls") { "#insecure" } else { "feature `tls`" }), "{text}");
    }
    if cfg!(not(feature = "tls")) {
        assert!(refused("rediss://127.0.0.1:1/".to_owned()).await.contains("feature `tls`"));
    }
}

#[tokio::test]
async fn a_server_without_scripts_and_a_name_that_is_taken_are_told() {
    let server = RedisServer::builder().config("rename-command", "EVALSHA \"\"").start().await.unwrap();
    assert!(refused(server.url()).await.contains("does not know a command"));
    let server = RedisServer::start().await.unwrap();
    let mut admin = server.connect().await.unwrap();
    redis::cmd("SET").arg("shop:log").arg("mine").exec_async(&mut admin).await.unwrap();
    assert!(refused(server.url()).await.contains("shop:log"));
    redis::cmd("DEL").arg("shop:log").exec_async(&mut admin).await.unwrap();
    let (_, ledger) = opened(server.url()).await.unwrap();
    redis::cmd("DEL").arg("shop:log").exec_async(&mut admin).await.unwrap();
    redis::cmd("SET").arg("shop:log").arg("mine").exec_async(&mut admin).await.unwrap();
    let error = ledger.retract(&notice(9, &[1]), MINUTE).await.unwrap_err();
    assert!(error.to_string().contains("shop:log"), "{error}");
    let left: i64 = redis::cmd("DBSIZE").query_async(&mut admin).await.unwrap();
    assert_eq!(left, 1, "it failed before it wrote anything");
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_used_once_it_is() {
    let server = RedisServer::start().await.unwrap();
    server.kill().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.expect("Redis can only cost speed");
    let began = Instant::now();
    assert!(tier.fetch(&[address(1)]).await.is_err() && ledger.beat(1, 0).await.is_err());
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    server.start_again().await.unwrap();
    let back = async {
        while tier.fetch(&[address(1)]).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), back).await.expect("used within five seconds of its return");
}

#[tokio::test]
async fn no_slot_moves_backwards() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    let at = async || tier.fetch(&[address(1)]).await.unwrap().remove(0);
    let big = 1 << 60;
    tier.admit(vec![offer(1, entry(big)), offer(1, entry(big - 1)), offer(2, entry(7))]).await.unwrap();
    assert_eq!(at().await, Some(entry(big)));
    ledger.retract(&notice(big, &[1]), MINUTE).await.unwrap();
    assert_eq!(at().await, Some(entry(big)), "an entry at the position has seen the write");
    ledger.retract(&notice(big + 1, &[1]), MINUTE).await.unwrap();
    assert_eq!(at().await, Some(envelope(3, big + 1, 0)));
    tier.admit(vec![offer(1, entry(big))]).await.unwrap();
    assert_eq!(at().await, Some(envelope(3, big + 1, 0)), "the classic stale refill");
    tier.admit(vec![offer(1, entry(big + 1))]).await.unwrap();
    assert_eq!(at().await, Some(entry(big + 1)));
    assert_eq!(
        tier.fetch(&[address(3), address(2), address(1)]).await.unwrap(),
        [None, Some(entry(7)), Some(entry(big + 1))]
    );
    assert_eq!(tier.fetch(&[]).await.unwrap(), Vec::<Option<Vec<u8>>>::new());
}

#[tokio::test]
async fn lives_end_and_are_not_begun_where_over() {
    let server = RedisServer::start().await.unwrap();
    let (tier, _) = opened(server.url()).await.unwrap();
    let short = Offer { life: Duration::from_millis(200), ..offer(1, entry(1)) };
    let over = Offer { life: Duration::ZERO, ..offer(2, entry(1)) };
    let endless = Offer { life: Duration::MAX, ..offer(3, entry(1)) };
    tier.admit(vec![short, over, endless]).await.unwrap();
    let found = tier.fetch(&[address(1), address(2), address(3)]).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    sleep(Duration::from_millis(400)).await;
    assert_eq!(tier.fetch(&[address(1)]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_foreign_value_is_a_miss_and_is_left_alone() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    let mut admin = server.connect().await.unwrap();
    let name = format!("shop:e:{:016x}:{}", 0xAB, address(1).key);
    redis::cmd("LPUSH").arg(&name).arg("mine").exec_async(&mut admin).await.unwrap();
    tier.admit(vec![offer(2, entry(5))]).await.unwrap();
    assert_eq!(tier.fetch(&[address(1)]).await.unwrap(), [None]);
    assert_eq!(tier.fetch(&[address(1), address(2)]).await.unwrap(), [None, Some(entry(5))]);
    let error = tier.admit(vec![offer(1, entry(9)), offer(3, entry(9))]).await.unwrap_err();
    assert!(error.to_string().contains("1 of 2"), "{error}");
    assert_eq!(tier.fetch(&[address(3)]).await.unwrap(), [Some(entry(9))], "the others are stored");
    ledger.retract(&notice(10, &[1, 3]), MINUTE).await.expect("a marker that cannot be left is no failure");
    assert_eq!(tier.fetch(&[address(3)]).await.unwrap(), [Some(envelope(3, 10, 0))]);
    let length: i64 = redis::cmd("LLEN").arg(&name).query_async(&mut admin).await.unwrap();
    assert_eq!(length, 1);
}

#[tokio::test]
async fn lost_scripts_are_sent_again() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    let mut admin = server.connect().await.unwrap();
    for round in 1..=3 {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut admin).await.unwrap();
        tier.admit((0..200).map(|number| offer(number, entry(round))).collect()).await.unwrap();
        assert_eq!(tier.fetch(&[address(0), address(199)]).await.unwrap(), vec![Some(entry(round)); 2]);
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut admin).await.unwrap();
        ledger.retract(&notice(round, &[5_000]), MINUTE).await.unwrap();
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut admin).await.unwrap();
        ledger.beat(1, 0).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_server_and_one_that_became_a_replica_refuse_writes_and_serve_reads() {
    let full = RedisServer::builder().maxmemory("3mb").config("maxmemory-policy", "noeviction").start().await.unwrap();
    let (tier, ledger) = opened(full.url()).await.unwrap();
    let mut stored = 0;
    while tier.admit(vec![offer(stored, envelope(1, 1, 50_000))]).await.is_ok() {
        stored += 1;
        assert!(stored < 200, "it must become full");
    }
    assert!(tier.fetch(&[address(0)]).await.unwrap()[0].is_some());
    ledger.retract(&notice(9, &[0]), MINUTE).await.expect("there is room for a number and a marker");
    let mut admin = full.connect().await.unwrap();
    redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1mb"]).exec_async(&mut admin).await.unwrap();
    assert!(ledger.retract(&notice(9, &[0]), MINUTE).await.is_err(), "told to the caller, who tries again");
    let (primary, other) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let (tier, ledger) = opened(other.url()).await.unwrap();
    let mut admin = other.connect().await.unwrap();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(primary.port()).exec_async(&mut admin).await.unwrap();
    assert!(tier.admit(vec![offer(1, entry(1))]).await.is_err() && ledger.beat(1, 0).await.is_err());
    let (tier, _) = opened(other.url()).await.expect("a role that can change again is no configuration error");
    assert!(tier.admit(vec![offer(1, entry(1))]).await.is_err());
}

#[tokio::test]
async fn a_frozen_server_costs_one_time_out_and_then_nothing() {
    let server = RedisServer::start().await.unwrap();
    let (tier, _) = opened(server.url()).await.unwrap();
    server.freeze().await.unwrap();
    let began = Instant::now();
    assert!(tier.fetch(&[address(1)]).await.is_err());
    let first = began.elapsed();
    assert!((400..1_500).contains(&first.as_millis()), "{first:?}");
    let began = Instant::now();
    for _ in 0..1_000 {
        assert!(tier.fetch(&[address(1)]).await.is_err());
    }
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    sleep(Duration::from_secs(3)).await;
    server.thaw().await.unwrap();
    let began = Instant::now();
    while tier.fetch(&[address(1)]).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(5)).await;
    }
    println!("frozen: the first read took {first:?}; read again {:?} after the thaw", began.elapsed());
}

#[tokio::test]
async fn two_namespaces_share_a_server_and_nothing_else() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    let link = RedisLink::connect(RedisSettings::new(server.url()).namespace("shop.2")).await.unwrap();
    let (other_tier, other_ledger) =
        (RedisTier::open(link.clone()).await.unwrap(), RedisLedger::open(link).await.unwrap());
    let mut subscription = other_ledger.subscribe().await.unwrap();
    tier.admit(vec![offer(1, entry(5))]).await.unwrap();
    ledger.retract(&notice(4, &[2]), MINUTE).await.unwrap();
    assert_eq!(other_tier.fetch(&[address(1), address(2)]).await.unwrap(), [None, None]);
    assert!(timeout(Duration::from_millis(200), subscription.next()).await.is_err());
    assert_eq!(other_ledger.beat(1, 3).await.unwrap().generation, 3);
    assert_eq!(ledger.beat(1, 0).await.unwrap().generation, 0);
}

#[tokio::test]
async fn no_password_reaches_the_log() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    // One thread, so that the default of this thread sees all tasks.
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = RedisServer::builder().password("hunter2").start().await.unwrap();
    let settings = RedisSettings::new(server.url());
    assert!(!format!("{settings:?}").contains("hunter2"));
    let link = RedisLink::connect(settings).await.unwrap();
    assert!(!format!("{link:?}").contains("hunter2"));
    let tier = RedisTier::open(link).await.unwrap();
    server.kill().await.unwrap();
    while tier.fetch(&[address(1)]).await.is_ok() {}
    sleep(Duration::from_millis(300)).await;
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the connection to Redis is lost"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

/// Prints what a read costs beside a bare one; asserts nothing, for the machine is shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_beside_a_bare_one() {
    let server = RedisServer::start().await.unwrap();
    let (tier, _) = opened(server.url()).await.unwrap();
    tier.admit(vec![offer(1, envelope(1, 1, 1_000))]).await.unwrap();
    let name = format!("shop:e:{:016x}:{}", 0xAB, address(1).key);
    let mut bare = server.connect().await.unwrap();
    let mut rounds = Vec::new();
    for _ in 0..7 {
        let began = Instant::now();
        for _ in 0..1_000 {
            let _: Option<Vec<u8>> = redis::cmd("GET").arg(&name).query_async(&mut bare).await.unwrap();
        }
        let theirs = began.elapsed();
        let began = Instant::now();
        for _ in 0..1_000 {
            tier.fetch(&[address(1)]).await.unwrap();
        }
        rounds.push((began.elapsed().as_secs_f64() / theirs.as_secs_f64(), theirs / 1_000));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!("a read costs {:.3} of a bare GET, which took {:?}", rounds[3].0, rounds[3].1);
}
