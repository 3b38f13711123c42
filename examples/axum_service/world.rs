//! The two worlds: real servers where they are installed, and in memory.

use crate::instance::Instance;
use crate::{LAG, Result};
use axum::Router;
use highwater::devices::RedisDevices;
use highwater::memory::{self, Shared};
use highwater::testkit::{Cluster, RedisServer, TestkitError};
use highwater::{Highwater, RedisLink};

pub(crate) struct Servers {
    cluster: Cluster,
    redis: RedisServer,
}

impl Servers {
    async fn start() -> Result<Self, TestkitError> {
        let (cluster, redis) = (Cluster::start(1).await?, RedisServer::start().await?);
        let posts = "CREATE TABLE posts (id bigserial PRIMARY KEY, person text NOT NULL, body text NOT NULL)";
        cluster.primary().execute(posts).await?;
        cluster.wait_for_catchup().await?;
        cluster.replica(0).apply_delay(LAG).await?;
        Ok(Self { cluster, redis })
    }

    async fn instance(&self, name: &'static str) -> Result<[Router; 2]> {
        let store = Highwater::builder().replicas(self.cluster.nodes().map(|node| node.url())).connect().await?;
        let link = RedisLink::connect(self.redis.url().into()).await?;
        Instance::apps(name, store, RedisDevices::open(link).await?)
    }
}

/// The two instances, what is to be said of them, and what must live as long as they do.
pub(crate) async fn instances(in_memory: bool) -> Result<([[Router; 2]; 2], String, Option<Servers>)> {
    let why = if in_memory {
        "because you asked for it".to_owned()
    } else {
        match Servers::start().await {
            Ok(servers) => {
                let version = servers.cluster.primary().value("SHOW server_version").await?.unwrap_or_default();
                let version = version.split(' ').next().unwrap_or_default();
                let text = format!("Real servers: PostgreSQL {version} with a streaming replica, and Redis.");
                let both = [servers.instance("A").await?, servers.instance("B").await?];
                return Ok((both, text, Some(servers)));
            }
            Err(error) if error.is_missing_binary() => format!("because {error}"),
            Err(error) => return Err(error.into()),
        }
    };
    let (cluster, shared) = (memory::Cluster::new(1), Shared::new(1));
    cluster.set_lag(1, LAG);
    let open = async |name, number| {
        let store = Highwater::over(cluster.source()).start().await?;
        Instance::apps(name, store, shared.client(number))
    };
    Ok(([open("A", 1).await?, open("B", 2).await?], format!("In memory, not on real servers, {why}."), None))
}
