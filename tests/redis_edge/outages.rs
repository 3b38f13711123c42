//! A server that is away, full, frozen or in another role.

use crate::{MINUTE, address, entry, envelope, notice, offer, opened};
use highwater::ledger::Ledger;
use highwater::testkit::RedisServer;
use highwater::tier::{RedisTier, SharedTier};
use highwater::{RedisLink, RedisSettings};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_used_once_it_is() {
    let server = RedisServer::start().await.unwrap();
    server.kill().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.expect("Redis can only cost speed");
    let began = Instant::now();
    assert!(tier.fetch(&[address(1)]).await.is_err() && ledger.beat(1, crate::pulse(0)).await.is_err());
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
async fn a_full_server_and_one_that_became_a_replica_refuse_writes_and_serve_reads() {
    let full = RedisServer::builder().maxmemory("3mb").config("maxmemory-policy", "noeviction").start().await.unwrap();
    let (tier, ledger) = opened(full.url()).await.unwrap();
    let mut stored = 0;
    while tier.admit(vec![offer(stored, envelope(1, 1, 50_000))]).await.is_ok() {
        stored += 1;
        assert!(stored < 200, "it must become full");
    }
    assert!(tier.fetch(&[address(0)]).await.unwrap()[0].is_some());
    ledger.retract(&notice(9, &[0]), MINUTE, None).await.expect("there is room for a number and a marker");
    let mut admin = full.connect().await.unwrap();
    redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1mb"]).exec_async(&mut admin).await.unwrap();
    assert!(ledger.retract(&notice(9, &[0]), MINUTE, None).await.is_err(), "told to the caller, who tries again");
    let (primary, other) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let (tier, ledger) = opened(other.url()).await.unwrap();
    let mut admin = other.connect().await.unwrap();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(primary.port()).exec_async(&mut admin).await.unwrap();
    assert!(tier.admit(vec![offer(1, entry(1))]).await.is_err() && ledger.beat(1, crate::pulse(0)).await.is_err());
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
