//! Calls that are dropped after every number of polls: nothing is left running, and the next call works.

use crate::dropped::dropped_after;
use crate::start;
use highwater::testkit::{Cluster, Proxy, RedisServer};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// More polls than any of the calls takes.
const POLLS_MAX: usize = 2_000;

/// What this process has begun and not ended: its children, and folders that it holds.
fn left() -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ours = format!(" {} ", std::process::id());
    let children = processes.flatten().filter_map(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        // State and parent are what follows the name.
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?);
        (parent == ours.trim() && state != "Z").then(|| format!("process {name})"))
    });
    let files = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let held = files.filter_map(|file| {
        let path = std::fs::read_link(file.path()).ok()?.display().to_string();
        path.contains("owner.lock").then_some(path)
    });
    children.chain(held).collect()
}

async fn nothing_left(what: &str, polls: usize) {
    let begun = Instant::now();
    while !left().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}, after {polls} polls: {:?}", left());
        sleep(Duration::from_millis(5)).await;
    }
}

/// The numbers of polls that are tried: each of the first ones, and then ever fewer.
fn polls() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |polls| Some(polls + 1 + polls / 6)).take_while(|polls| *polls < POLLS_MAX)
}

#[tokio::test]
async fn starts() {
    for polls in polls() {
        let started = dropped_after(polls, RedisServer::start()).await.map(drop);
        nothing_left("RedisServer::start", polls).await;
        if started.is_some() {
            println!("RedisServer::start: {polls} polls");
            break;
        }
    }
    let server = RedisServer::start().await.expect("a server");
    let before = left().len();
    assert!(before >= 2, "a running server is noticed: {:?}", left());
    for polls in 1.. {
        let started = dropped_after(polls, Proxy::start(server.address())).await.is_some();
        assert_eq!(left().len(), before);
        if started {
            break;
        }
    }
}

#[tokio::test]
async fn starts_of_clusters() {
    let mut polls = 1;
    loop {
        let started = dropped_after(polls, start(1)).await.map(drop);
        nothing_left("Cluster::start", polls).await;
        if started.is_some() {
            println!("Cluster::start: {polls} polls");
            return;
        }
        polls += 1 + polls / 3;
    }
}

/// Drops what `call` gives after 1, 2, 3, ... polls until it ends by itself; each time `next` must work.
async fn at_every_poll<T>(
    what: &str,
    mut call: impl AsyncFnMut() -> Result<T>,
    mut next: impl AsyncFnMut() -> Result,
) -> Result {
    for polls in polls() {
        let ended = dropped_after(polls, call()).await.transpose()?.is_some();
        let works = timeout(Duration::from_secs(20), next()).await.unwrap_or_else(|_| Err("stuck".into()));
        works.map_err(|error| format!("{what}, after {polls} polls: {error}"))?;
        if ended {
            println!("{what}: {polls} polls");
            return Ok(());
        }
    }
    Err(format!("{what}: it never came to its end").into())
}

#[tokio::test]
async fn calls_of_a_redis_server() -> Result {
    let server = RedisServer::start().await?;
    let pings = async || Ok(::redis::cmd("PING").exec_async(&mut server.connect().await?).await?);
    // What was asked to stop goes on stopping.
    let up = async || loop {
        let _ = server.thaw().await;
        server.start_again().await?;
        match pings().await {
            Ok(()) => return Ok(()),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    at_every_poll("connect", async || Ok(server.connect().await?), pings).await?;
    at_every_poll("flush", async || Ok(server.flush().await?), pings).await?;
    at_every_poll("freeze", async || Ok(server.freeze().await?), up).await?;
    at_every_poll("thaw", async || Ok(server.thaw().await?), up).await?;
    at_every_poll("kill", async || Ok(server.kill().await?), up).await?;
    at_every_poll("stop", async || Ok(server.stop().await?), up).await?;
    at_every_poll(
        "start_again",
        async || {
            server.kill().await?;
            Ok(server.start_again().await?)
        },
        up,
    )
    .await
}

#[tokio::test]
async fn calls_of_a_cluster() -> Result {
    let cluster: Cluster = start(1).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let works = async || -> Result {
        replica.thaw().await?;
        replica.start().await?;
        replica.resume_replay().await?;
        Ok(cluster.wait_for_catchup().await?)
    };
    at_every_poll("execute", async || Ok(primary.execute("select 1").await?), works).await?;
    at_every_poll("value", async || Ok(primary.value("select 1").await?), works).await?;
    at_every_poll("connect", async || Ok(primary.connect().await?), works).await?;
    at_every_poll("apply_delay", async || Ok(replica.apply_delay(Duration::ZERO).await?), works).await?;
    at_every_poll("pause_replay", async || Ok(replica.pause_replay().await?), works).await?;
    at_every_poll("freeze", async || Ok(replica.freeze().await?), works).await?;
    at_every_poll("wait_for_catchup", async || Ok(cluster.wait_for_catchup().await?), works).await?;
    // A call that was dropped may still end whoever asks next.
    let works_again = async || match works().await {
        Ok(()) => Ok(()),
        Err(_) => works().await,
    };
    at_every_poll("terminate_backends", async || Ok(primary.terminate_backends().await?), works_again).await
}

#[tokio::test]
async fn calls_that_stop_and_start_a_node() -> Result {
    let cluster = start(1).await?;
    let replica = cluster.replica(0);
    let works = async || loop {
        replica.start().await?;
        match cluster.wait_for_catchup().await {
            Ok(()) => return Ok(()),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    at_every_poll("kill", async || Ok(replica.kill().await?), works).await?;
    at_every_poll("stop", async || Ok(replica.stop().await?), works).await?;
    at_every_poll("restart", async || Ok(replica.restart().await?), works).await
}
