//! The same on a real Redis that is killed, frozen, wiped, has something else at the place, or fails over.

use crate::support::{Instance, USER, cluster};
use highwater::devices::{RedisDevices, Remembered};
use highwater::memory::Cluster;
use highwater::testkit::{Proxy, RedisServer};
use highwater::{RedisLink, RedisSettings, Rung, Session};
use std::time::Duration;
use tokio::time::{Instant, sleep};

async fn opened(url: String) -> RedisDevices {
    let link = RedisLink::connect(RedisSettings::new(url).namespace("shop")).await.unwrap();
    RedisDevices::open(link).await.unwrap()
}

async fn instance(cluster: &Cluster, url: String) -> Instance {
    Instance::over(cluster, opened(url).await).await
}

/// A cluster whose replica stands still, a server, and an instance that has answered for the user.
async fn ready() -> (Cluster, RedisServer, Instance) {
    let (cluster, server) = (cluster(1), RedisServer::start().await.unwrap());
    let phone = instance(&cluster, server.url()).await;
    cluster.pause(1, true);
    answered_for(&phone).await;
    (cluster, server, phone)
}

/// Visits until the store is known to be complete.
async fn answered_for(instance: &Instance) {
    let begun = Instant::now();
    loop {
        let before = instance.devices.stats().recalled;
        instance.look().await;
        if instance.devices.stats().recalled > before {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", instance.devices.stats());
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn another_device_on_another_instance_sees_the_write() {
    let (cluster, server, phone) = ready().await;
    assert_eq!(phone.rename("grace").await, Remembered::Stored);
    let laptop = instance(&cluster, server.url()).await;
    assert_eq!(laptop.look().await, ("grace".to_owned(), Rung::Primary));
    assert_eq!((laptop.devices.stats().recalled, laptop.devices.stats().incomplete), (1, 0));
    let bystander = instance(&cluster, server.url()).await;
    assert_eq!(bystander.look_as_nobody().await.0, "ada", "the replica does lag");
    let mut admin = server.connect().await.unwrap();
    let names: Vec<String> = redis::cmd("KEYS").arg("shop:d:*").query_async(&mut admin).await.unwrap();
    let name = format!("shop:d:{{shop:devices}}:{}", highwater::Digest::of_user(USER.as_bytes()));
    assert_eq!(names, std::slice::from_ref(&name), "not the id itself");
    let life: i64 = redis::cmd("PTTL").arg(&name).query_async(&mut admin).await.unwrap();
    assert!((500_000..=600_000).contains(&life), "{life}");
    let bytes: i64 = redis::cmd("STRLEN").arg(&name).query_async(&mut admin).await.unwrap();
    assert_eq!(bytes, 60);
}

#[tokio::test]
async fn killed_and_back_with_nothing() {
    let (cluster, server, phone) = ready().await;
    phone.rename("grace").await;
    server.kill().await.unwrap();
    let laptop = instance(&cluster, server.url()).await;
    for _ in 0..3 {
        assert_eq!(laptop.look().await.0, "grace");
    }
    assert_eq!((laptop.devices.stats().away, laptop.devices.stats().deferred), (3, 0));
    assert_eq!(phone.rename("hedy").await, Remembered::Deferred);
    server.start_again().await.unwrap();
    let tablet = instance(&cluster, server.url()).await;
    assert_eq!(tablet.look().await, ("hedy".to_owned(), Rung::Primary), "it begins another era");
    assert_eq!(tablet.devices.stats().incomplete, 1);
    let begun = Instant::now();
    while phone.devices.stats().remembered < 2 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", phone.devices.stats());
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(phone.devices.stats().dropped, 0);
}

#[tokio::test]
async fn frozen_it_costs_one_time_out() {
    let (cluster, server, phone) = ready().await;
    phone.rename("grace").await;
    let laptop = instance(&cluster, server.url()).await;
    laptop.look().await;
    server.freeze().await.unwrap();
    let begun = Instant::now();
    let session = Session::new();
    laptop.devices.visit(&session, USER);
    assert!(begun.elapsed() < Duration::from_millis(50), "a visit does not wait");
    assert_eq!(laptop.read(&session).await.unwrap().value.unwrap().as_str(), "grace");
    let first = begun.elapsed();
    assert!((400..1_500).contains(&first.as_millis()), "{first:?}");
    let begun = Instant::now();
    for _ in 0..50 {
        assert_eq!(laptop.look().await.0, "grace");
    }
    println!("frozen: the first request took {first:?}, 50 more {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    server.thaw().await.unwrap();
}

#[tokio::test]
async fn wiped() {
    let (cluster, server, phone) = ready().await;
    phone.rename("grace").await;
    server.flush().await.unwrap();
    let laptop = instance(&cluster, server.url()).await;
    assert_eq!(laptop.look().await, ("grace".to_owned(), Rung::Primary));
    assert_eq!(laptop.devices.stats().incomplete, 1);
    answered_for(&laptop).await;
    phone.look().await;
    assert_eq!(phone.devices.stats().eras, 1);
}

#[tokio::test]
async fn something_else_at_its_place_is_left_alone_and_costs_care() {
    let (cluster, server, phone) = ready().await;
    phone.rename("grace").await;
    let mut admin = server.connect().await.unwrap();
    let name = format!("shop:d:{{shop:devices}}:{}", highwater::Digest::of_user(USER.as_bytes()));
    redis::cmd("DEL").arg(&name).exec_async(&mut admin).await.unwrap();
    redis::cmd("LPUSH").arg(&name).arg("mine").exec_async(&mut admin).await.unwrap();
    let laptop = instance(&cluster, server.url()).await;
    assert_eq!(laptop.look().await.0, "grace");
    assert_eq!(laptop.rename("hedy").await, Remembered::Deferred);
    let length: i64 = redis::cmd("LLEN").arg(&name).query_async(&mut admin).await.unwrap();
    assert_eq!((length, laptop.devices.stats().away), (1, 2));
    // The era's place is the store's own: that is told at the start.
    redis::cmd("DEL").arg("shop:devices").exec_async(&mut admin).await.unwrap();
    redis::cmd("SET").arg("shop:devices").arg("mine").exec_async(&mut admin).await.unwrap();
    let link = RedisLink::connect(RedisSettings::new(server.url()).namespace("shop")).await.unwrap();
    let error = RedisDevices::open(link).await.unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("shop:devices"), "{error}");
    assert_eq!(laptop.look().await.0, "hedy", "and later it is care");
}

#[tokio::test]
async fn rights_that_are_missing_are_told_at_the_start() {
    let server = RedisServer::builder()
        .user("blind", "on >pass ~shop:* +@all -info")
        .user("enough", "on >pass ~shop:* -@all +eval +evalsha +info +time +hmget +hset +getrange +set +select")
        .start()
        .await
        .unwrap();
    let at = async |user| {
        let settings = RedisSettings::new(server.url_as(user, "pass")).namespace("shop");
        RedisDevices::open(RedisLink::connect(settings).await?).await
    };
    let error = at("blind").await.unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("+info"), "{error}");
    at("enough").await.expect("the rights that the remedy names");
}

#[tokio::test]
async fn failed_over_to_a_copy_that_was_behind_and_back_again() {
    let (primary, cluster) = (RedisServer::start().await.unwrap(), cluster(1));
    let proxy = Proxy::start(primary.address()).await.unwrap();
    let url = || format!("redis://{}/", proxy.address());
    let phone = instance(&cluster, url()).await;
    cluster.pause(1, true);
    answered_for(&phone).await;
    phone.rename("hedy").await;
    // A copy that has hedy, and not grace.
    let copy = RedisServer::builder().replica_of(&primary).start().await.unwrap();
    let mut admin = copy.connect().await.unwrap();
    let begun = Instant::now();
    loop {
        let size: i64 = redis::cmd("DBSIZE").query_async(&mut admin).await.unwrap();
        if size == 2 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(20)).await;
    }
    copy.promote().await.unwrap();
    phone.rename("grace").await;
    proxy.retarget(copy.address());
    proxy.cut().await.unwrap();
    proxy.heal().await.unwrap();
    let laptop = instance(&cluster, url()).await;
    assert_eq!(laptop.look().await, ("grace".to_owned(), Rung::Primary), "the copy says hedy");
    assert_eq!(laptop.devices.stats().incomplete, 1);
    answered_for(&laptop).await;
    assert_eq!(laptop.rename("mary").await, Remembered::Stored);
    // The old primary was never restarted, and takes its era for whole. The laptop's instance has seen a newer one.
    proxy.retarget(primary.address());
    proxy.cut().await.unwrap();
    proxy.heal().await.unwrap();
    let begun = Instant::now();
    while laptop.devices.stats().eras == 0 {
        assert_eq!(laptop.look().await.0, "mary");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", laptop.devices.stats());
        sleep(Duration::from_millis(10)).await;
    }
    let tablet = instance(&cluster, url()).await;
    assert_eq!(tablet.look().await.0, "mary", "it was made to begin another era");
}
