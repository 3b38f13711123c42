//! A Redis Cluster that forgets everything when it ends.

use std::fmt;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{FromRedisValue, InfoDict};
use tokio::time::{Instant, sleep};

use crate::testkit::port::Port;
use crate::testkit::{RedisServer, RedisServerBuilder, TestkitError};

/// Into so many slots a cluster divides its keys.
const SLOTS: usize = 16_384;

/// How often a state that comes by itself is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Describes a [`RedisCluster`]; [`RedisCluster::builder`] makes one.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct RedisClusterBuilder {
    primaries: usize,
    replicas: bool,
    server: RedisServerBuilder,
    patience: Duration,
}

/// Redis servers (7 or later) that divide the slots among themselves, in temporary folders, gone when dropped.
///
/// A server that is restarted has its slots and its name in the cluster, and no keys. Where it has a replica, that takes
/// its slots a second or two after it was lost, and it comes back as the replica.
#[derive(Debug)]
pub struct RedisCluster {
    /// The primaries first, in the order of their slots, and then the replicas in the same order.
    servers: Vec<RedisServer>,
    patience: Duration,
    buses: Vec<Port>,
}

impl RedisClusterBuilder {
    /// How many servers divide the slots, at least three. Defaults to three.
    pub fn primaries(mut self, count: usize) -> Self {
        self.primaries = count.max(3);
        self
    }

    /// Gives each of them a replica. Defaults to none.
    pub fn with_replicas(mut self) -> Self {
        self.replicas = true;
        self
    }

    /// Adds a line to every `redis.conf`, written as it stands.
    pub fn config(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.server = self.server.config(key, value);
        self
    }

    /// Starts the servers and returns once each of them knows that all slots are served and all replicas are in sync.
    ///
    /// # Errors
    ///
    /// As [`RedisServerBuilder::start`], and if the cluster does not come about in time.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the servers and removes their folders.
    pub async fn start(self) -> Result<RedisCluster, TestkitError> {
        let count = if self.replicas { 2 * self.primaries } else { self.primaries };
        let buses = (0..count).map(|_| Port::reserve()).collect::<Result<Vec<_>, _>>()?;
        let start = |bus: &Port| self.server.clone().config("cluster-port", bus.number()).start();
        let servers = try_join_all(buses.iter().map(start)).await?;
        let cluster = RedisCluster { servers, patience: self.patience, buses };
        cluster.meet(self.primaries).await?;
        Ok(cluster)
    }
}

impl RedisCluster {
    /// Describes a cluster; without further words it has three servers and no replica.
    pub fn builder() -> RedisClusterBuilder {
        // A lost server is noticed within a second.
        let server = RedisServer::builder().config("cluster-enabled", "yes").config("cluster-node-timeout", 1_000);
        RedisClusterBuilder { primaries: 3, replicas: false, server, patience: Duration::from_secs(30) }
    }

    /// Starts a cluster of three servers.
    ///
    /// # Errors
    ///
    /// As [`RedisClusterBuilder::start`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the servers and removes their folders.
    pub async fn start() -> Result<Self, TestkitError> {
        Self::builder().start().await
    }

    /// All servers: first those that were made as primaries, in the order of their slots, then their replicas in the same
    /// order.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// Where a client connects to each of them.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(RedisServer::url).collect()
    }

    /// The number of the server that has this key, by what it says of itself: the others may hear of it later.
    ///
    /// # Errors
    ///
    /// If one that runs does not answer, or nobody has the key.
    ///
    /// # Cancellation
    ///
    /// Safe: it only asks.
    pub async fn owner_of(&self, key: &str) -> Result<usize, TestkitError> {
        for (number, server) in self.servers.iter().enumerate().filter(|(_, server)| server.pid().is_some()) {
            let slot: u16 = ask(server, "CLUSTER", &["KEYSLOT", key]).await?;
            let nodes: String = ask(server, "CLUSTER", &["NODES"]).await?;
            if nodes.lines().any(|node| is_own(node, slot)) {
                return Ok(number);
            }
        }
        Err(self.too_late("an owner of the key", "no server says that it is"))
    }

    /// Waits until all servers that run agree that all slots are served.
    ///
    /// # Errors
    ///
    /// If they do not in time.
    ///
    /// # Cancellation
    ///
    /// Safe: it only waits.
    pub async fn wait_until_whole(&self) -> Result<(), TestkitError> {
        self.each_says("CLUSTER", &["INFO"], &[("cluster_state", "ok"), ("cluster_slots_ok", "16384")]).await
    }

    async fn meet(&self, primaries: usize) -> Result<(), TestkitError> {
        let (first, replicas) = (self.servers.first(), self.servers.iter().skip(primaries));
        for (number, server) in self.servers.iter().enumerate() {
            ask::<()>(server, "CLUSTER", &["SET-CONFIG-EPOCH", &(number + 1).to_string()]).await?;
            if number < primaries {
                let (from, to) = (number * SLOTS / primaries, (number + 1) * SLOTS / primaries - 1);
                ask::<()>(server, "CLUSTER", &["ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await?;
            }
            if let (Some(first), Some(bus)) = (first, self.buses.get(number)) {
                let (port, bus) = (server.port().to_string(), bus.number().to_string());
                ask::<()>(first, "CLUSTER", &["MEET", "127.0.0.1", &port, &bus]).await?;
            }
        }
        let count = self.servers.len().to_string();
        self.each_says("CLUSTER", &["INFO"], &[("cluster_known_nodes", &count)]).await?;
        for (replica, primary) in replicas.clone().zip(&self.servers) {
            let name: String = ask(primary, "CLUSTER", &["MYID"]).await?;
            ask::<()>(replica, "CLUSTER", &["REPLICATE", &name]).await?;
        }
        self.wait_until_whole().await?;
        for replica in replicas {
            self.says(replica, "INFO", &["replication"], &[("master_link_status", "up")]).await?;
        }
        Ok(())
    }

    async fn each_says(&self, verb: &'static str, args: &[&str], wanted: &[(&str, &str)]) -> Result<(), TestkitError> {
        for server in self.servers.iter().filter(|server| server.pid().is_some()) {
            self.says(server, verb, args, wanted).await?;
        }
        Ok(())
    }

    async fn says(
        &self,
        server: &RedisServer,
        verb: &'static str,
        args: &[&str],
        wanted: &[(&str, &str)],
    ) -> Result<(), TestkitError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let found: InfoDict = ask(server, verb, args).await?;
            if wanted.iter().all(|(name, value)| found.get::<String>(name).as_deref() == Some(*value)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(
                    self.too_late(&format!("redis on port {} to say {wanted:?}", server.port()), &server.log_tail())
                );
            }
            sleep(LOOK).await;
        }
    }

    fn too_late(&self, waiting_for: &str, detail: &str) -> TestkitError {
        TestkitError::Timeout { waiting_for: waiting_for.to_owned(), after: self.patience, detail: detail.to_owned() }
    }
}

async fn ask<T: FromRedisValue>(server: &RedisServer, verb: &'static str, args: &[&str]) -> Result<T, TestkitError> {
    let mut connection = server.connect().await?;
    redis::cmd(verb).arg(args).query_async(&mut connection).await.map_err(|source| server.refused(verb, source))
}

/// Whether this line of `CLUSTER NODES` is of who was asked, and that has the slot: name, address, flags, five more, slots.
fn is_own(node: &str, slot: u16) -> bool {
    let mut words = node.split(' ').skip(2);
    let has = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
    };
    words.next().is_some_and(|flags| flags.contains("myself,master")) && words.skip(5).any(has)
}
