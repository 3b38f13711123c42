//! Redis servers: wiped by each restart, silent when frozen.

use std::time::Duration;

use highwater::testkit::{RedisCluster, RedisServer};
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use crate::{Result, hangs};

async fn set(connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
    redis::cmd("SET").arg("k").arg("v").exec_async(connection).await
}

async fn get(connection: &mut MultiplexedConnection) -> redis::RedisResult<Option<String>> {
    redis::cmd("GET").arg("k").query_async(connection).await
}

async fn start() -> Result<RedisServer> {
    let begun = Instant::now();
    let server = RedisServer::start().await?;
    println!("redis: {:?}", begun.elapsed());
    Ok(server)
}

#[tokio::test]
async fn forgets_everything_when_killed() -> Result {
    let server = start().await?;
    let (port, mut old) = (server.port(), server.connect().await?);
    set(&mut old).await.expect("set");
    server.kill().await?;
    assert!(get(&mut old).await.is_err());
    assert!(server.connect().await.expect_err("it is dead").is_not_running());
    server.start_again().await?;
    assert_eq!(server.port(), port);
    let mut new = server.connect().await?;
    assert_eq!(get(&mut new).await.expect("get"), None);
    set(&mut new).await.expect("set");
    server.flush().await?;
    assert_eq!(get(&mut new).await.expect("get"), None);
    server.stop().await?;
    server.start_again().await
}

#[tokio::test]
async fn freezes_and_thaws() -> Result {
    let server = start().await?;
    let mut connection = server.connect().await?;
    server.freeze().await?;
    assert!(hangs(get(&mut connection)).await);
    server.thaw().await?;
    assert_eq!(get(&mut connection).await.expect("get"), None);
    server.freeze().await
}

#[tokio::test]
async fn takes_limits_passwords_and_users() -> Result {
    let server = RedisServer::builder()
        .maxmemory("4mb")
        .password("secret")
        .user("worker", "on >pass ~* +@all resetchannels")
        .start()
        .await?;
    let mut connection = server.connect().await?;
    let limit: (String, String) =
        redis::cmd("CONFIG").arg(&["GET", "maxmemory"]).query_async(&mut connection).await.expect("limit");
    assert_eq!(limit.1, "4194304");
    let worker = redis::Client::open(server.url_as("worker", "pass")).expect("url");
    let mut worker = worker.get_multiplexed_async_connection().await.expect("login");
    let publish = redis::cmd("PUBLISH").arg(&["c", "m"]).exec_async(&mut worker).await;
    assert!(publish.is_err(), "the user has no channels");
    Ok(())
}

#[tokio::test]
async fn replicates_and_fails_over() -> Result {
    let primary = RedisServer::builder().password("secret").start().await?;
    let replica = RedisServer::builder().replica_of(&primary).start().await?;
    set(&mut primary.connect().await?).await.expect("set");
    let mut connection = replica.connect().await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    // A replica that is not in sync yet has no key, or says that it is loading.
    while get(&mut connection).await.ok().flatten().is_none() {
        assert!(Instant::now() < deadline, "{}", replica.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
    assert!(set(&mut connection).await.is_err(), "a replica is read-only");
    primary.kill().await?;
    replica.promote().await?;
    set(&mut connection).await.expect("set");
    Ok(())
}

#[tokio::test]
async fn divides_keys_among_a_cluster_whose_replicas_take_over() -> Result {
    let begun = Instant::now();
    let cluster = RedisCluster::builder().with_replicas().start().await?;
    println!("a cluster of six: {:?}", begun.elapsed());
    let servers = cluster.servers();
    let owners = [cluster.owner_of("k").await?, cluster.owner_of("{k}1").await?, cluster.owner_of("b").await?];
    assert_eq!(owners, [1, 1, 0], "slots 7,629 and 3,300");
    let other = set(&mut servers[0].connect().await?).await.expect_err("it has other slots");
    assert_eq!(other.code(), Some("MOVED"));
    set(&mut servers[1].connect().await?).await.expect("set");
    servers[1].kill().await?;
    while cluster.owner_of("k").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody takes over");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cluster.owner_of("k").await?, 4, "its replica");
    cluster.wait_until_whole().await?;
    assert_eq!(get(&mut servers[4].connect().await?).await.expect("get").as_deref(), Some("v"));
    servers[1].start_again().await?;
    cluster.wait_until_whole().await
}
