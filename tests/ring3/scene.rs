//! The servers, and the networks in front of them.

use crate::Result;
use crate::rows::TABLE;
use highwater::testkit::{Cluster, Node, Proxy, RedisServer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Every write leaves a line in `made`: which operations are part of history is known without asking the library.
const MADE: &str = "create table made (op bigint primary key, version bigint not null)";

pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) redis: RedisServer,
    /// In front of each node, for some of the workers.
    pub(crate) networks: Vec<Proxy>,
    pub(crate) redis_network: Proxy,
    primary: AtomicUsize,
}

impl Scene {
    pub(crate) async fn set() -> Result<Self> {
        let cluster = Cluster::builder().replicas(2).config("max_wal_size", "256MB").start().await?;
        cluster.primary().execute(&format!("{TABLE}; {MADE}; create table other (n int)")).await?;
        cluster.wait_for_catchup().await?;
        let redis = RedisServer::start().await?;
        let mut networks = Vec::new();
        for node in cluster.nodes() {
            networks.push(Proxy::start(node.address()).await?);
        }
        let redis_network = Proxy::start(redis.address()).await?;
        Ok(Self { cluster, redis, networks, redis_network, primary: AtomicUsize::new(0) })
    }

    pub(crate) fn nodes(&self) -> Vec<&Node> {
        self.cluster.nodes().collect()
    }

    pub(crate) fn primary_number(&self) -> usize {
        self.primary.load(Ordering::SeqCst)
    }

    pub(crate) fn promoted(&self, number: usize) {
        self.primary.store(number, Ordering::SeqCst);
    }

    pub(crate) fn primary(&self) -> &Node {
        let number = self.primary_number();
        self.cluster.nodes().nth(number).unwrap_or_else(|| self.cluster.primary())
    }

    pub(crate) fn replicas(&self) -> Vec<(usize, &Node)> {
        let primary = self.primary_number();
        self.cluster.nodes().enumerate().filter(|(number, _)| *number != primary).collect()
    }

    /// Mends the networks. Servers are mended by whoever broke them.
    pub(crate) async fn heal(&self) -> Result {
        for network in self.networks.iter().chain([&self.redis_network]) {
            network.heal().await?;
        }
        for (_, replica) in self.replicas() {
            replica.wait_for_catchup(self.primary()).await?;
        }
        Ok(())
    }

    /// Which operations are part of history, with the versions that they made.
    pub(crate) async fn truth(&self) -> Result<BTreeMap<u64, u64>> {
        let client = self.primary().connect().await?;
        let rows = client.query("select op, version from made", &[]).await?;
        let number = |row: &tokio_postgres::Row, at| row.get::<_, i64>(at).cast_unsigned();
        Ok(rows.iter().map(|row| (number(row, 0), number(row, 1))).collect())
    }

    /// Forgets the rows of earlier rounds.
    pub(crate) async fn clear(&self) -> Result {
        Ok(self.primary().execute("truncate made; truncate rows").await?)
    }
}
