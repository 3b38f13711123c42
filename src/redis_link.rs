//! The way to Redis: one server, or a cluster of them among which the keys are spread.

mod cluster;
mod connect;
mod node;
mod script;
mod settings;
mod slots;
mod url;

pub(crate) use script::{Call, Lua};
pub use settings::RedisSettings;

use crate::Error;
use crate::tier::TierError;
use cluster::Cluster;
use connect::{Dial, Refusal, remedy};
use node::Node;
use redis::aio::PubSub;
use redis::{Pipeline, RedisError, Value};
use std::fmt;
use std::sync::Arc;

/// Connections to one Redis server or to the nodes of a cluster, kept up in the background, for the shared tier and the
/// ledger together.
///
/// Cheap to clone; the background tasks end with the last clone.
#[derive(Clone)]
pub struct RedisLink {
    servers: Arc<Servers>,
    namespace: Arc<str>,
}

enum Servers {
    One(Node),
    Many(Cluster),
}

impl RedisLink {
    /// Connects, and from then on keeps the connections up. Must be called within a Tokio runtime.
    ///
    /// A server that cannot be reached now is no error, only a warning in the log: it costs speed until it is back.
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`Error::is_configuration`] for what waiting does not mend: a URL or namespace that cannot be used, a password,
    /// user or database that the server refuses, missing rights to run scripts, one server where a cluster was given.
    pub async fn connect(settings: RedisSettings) -> Result<Self, Error> {
        let dials = Dial::all(&settings)?;
        let namespace = settings.namespace.as_str().into();
        let servers = if settings.is_cluster {
            Servers::Many(Cluster::connect(dials).await?)
        } else {
            let Some(dial) = dials.into_iter().next() else { return Err(Error::configuration("no Redis is given")) };
            let (node, refusal) = Node::connect(dial).await;
            refusal.map_or(Ok(()), |refusal| tolerable(node.dial(), refusal))?;
            Servers::One(node)
        };
        Ok(Self { servers: Arc::new(servers), namespace })
    }

    /// Whether there is a connection, as far as anybody has noticed; in a cluster, to all that have keys.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match &*self.servers {
            Servers::One(node) => node.is_up(),
            Servers::Many(cluster) => cluster.is_up(),
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether keys lie on several servers, so that one script cannot name those of several slots.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(&*self.servers, Servers::Many(_))
    }

    /// The number of the database that keys lie in.
    pub(crate) fn database(&self) -> i64 {
        match &*self.servers {
            Servers::One(node) => node.dial().database(),
            Servers::Many(_) => 0,
        }
    }

    /// What lies under these names, in the same order; a value of another type is nothing. One round trip, to each node of
    /// a cluster at once: what one that is away has is nothing, and it is an error only where no node answered.
    pub(crate) async fn get(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, TierError> {
        match &*self.servers {
            Servers::One(node) => node.get(names).await,
            Servers::Many(cluster) => cluster.get(names).await,
        }
    }

    /// Runs a script once for each call and returns what each returned: the errors of the server are among the values.
    /// Calls with their first key on one server run in order. An error, and a future that is dropped, leave open which runs
    /// have happened.
    ///
    /// A server that has lost the script is sent its text with the same call, so there is no moment between loading and
    /// running in which it could be lost again, and no right to load scripts is needed.
    pub(crate) async fn run(&self, script: &Lua, calls: &[Call<'_>]) -> Result<Vec<Value>, TierError> {
        match &*self.servers {
            Servers::One(node) => node.run(script, &calls.iter().collect::<Vec<_>>()).await,
            Servers::Many(cluster) => cluster.run(script, calls).await,
        }
    }

    /// Sends commands about this key, which fail one by one: their errors are among the values.
    pub(crate) async fn requests(&self, key: &str, commands: &mut Pipeline) -> Result<Vec<Value>, TierError> {
        match &*self.servers {
            Servers::One(node) => node.requests(commands).await,
            Servers::Many(cluster) => cluster.node_of(key)?.requests(commands).await,
        }
    }

    /// A connection for one subscription, confirmed by the server that has `key`.
    pub(crate) async fn subscription(&self, key: &str, channel: &str) -> Result<PubSub, Refusal> {
        match &*self.servers {
            Servers::One(node) => node.dial().subscription(channel).await,
            Servers::Many(cluster) => match cluster.node_of(key) {
                Ok(node) => node.dial().subscription(channel).await,
                Err(error) => Err(Refusal::Nobody(error)),
            },
        }
    }

    /// The first answer that waiting does not mend, as an error. Everything else is left to later: that there is no
    /// connection, that memory is short, that the server is a replica just now.
    pub(crate) fn misconfigured(&self, outcome: Result<Vec<Value>, TierError>) -> Result<(), Error> {
        let refused = outcome.into_iter().flatten().find_map(|answer| {
            let Value::ServerError(error) = answer else { return None };
            let error = RedisError::from(error);
            let remedy = remedy(&error).or_else(|| self.unexpected_cluster(&error))?;
            Some((remedy, error))
        });
        refused.map_or(Ok(()), |(remedy, error)| Err(Error::configuration_because(remedy, error)))
    }

    /// In a cluster slots move and nodes are away; a server that is given alone must have all keys.
    fn unexpected_cluster(&self, error: &RedisError) -> Option<String> {
        let is_cluster = matches!(error.code(), Some("CROSSSLOT" | "MOVED" | "ASK" | "CLUSTERDOWN"));
        (is_cluster && !self.is_cluster())
            .then(|| format!("this Redis is part of a cluster ({error}): give it as RedisSettings::cluster"))
    }
}

/// Lets pass what waiting mends.
fn tolerable(dial: &Dial, refusal: Refusal) -> Result<(), Error> {
    match refusal.remedy() {
        Some(remedy) => Err(Error::configuration_because(remedy, refusal)),
        None => {
            crate::trace::redis_unreachable(dial, &refusal, "");
            Ok(())
        }
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("namespace", &self.namespace()).field("is_up", &self.is_up()).finish()
    }
}
