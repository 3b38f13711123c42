//! The description of a cluster, checked once.

use super::super::NodeInfo;
use super::Postgres;
use super::dial::{Dial, Dialer};
use super::encryption::Encryption;
use super::node::{Aside, Node};
use crate::Error;
use deadpool::Runtime;
use deadpool::managed::Pool;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, TargetSessionAttrs};

/// One server of a cluster.
#[derive(Clone)]
pub struct PostgresNode {
    address: Address,
    zone: Option<String>,
    pooled: bool,
}

#[derive(Clone)]
enum Address {
    Url(String),
    Config(Box<Config>),
}

impl PostgresNode {
    /// A server at a URL such as `postgres://app@db1:5432/shop`, or at a line of settings such as `host=db1 user=app`.
    ///
    /// The address must lead to one server for good, so not a name that follows the primary.
    pub fn new(url: impl Into<String>) -> Self {
        Self { address: Address::Url(url.into()), zone: None, pooled: false }
    }

    /// Where the server stands, to be preferred by clients in the same zone. Unknown by default.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Whether a transaction pooler such as PgBouncer stands in between. Then every statement runs in a transaction
    /// with its position, and nothing is prepared: loaders use `query_typed`. No by default.
    #[must_use]
    pub fn pooled(mut self, pooled: bool) -> Self {
        self.pooled = pooled;
        self
    }
}

impl From<&str> for PostgresNode {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for PostgresNode {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl From<Config> for PostgresNode {
    fn from(config: Config) -> Self {
        Self { address: Address::Config(Box::new(config)), zone: None, pooled: false }
    }
}

impl fmt::Debug for PostgresNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may carry a password.
        f.debug_struct("PostgresNode").field("zone", &self.zone).field("pooled", &self.pooled).finish_non_exhaustive()
    }
}

/// The description of a cluster, and how its servers are talked to.
#[derive(Debug, Clone)]
#[must_use = "nothing is built before `build`"]
pub struct PostgresBuilder {
    nodes: Vec<PostgresNode>,
    pool_size: usize,
    connect_timeout: Duration,
    operation_timeout: Duration,
    application_name: String,
    root_certificates: Option<PathBuf>,
    system_identifier: Option<u64>,
}

impl PostgresBuilder {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            pool_size: 16,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            application_name: "highwater".to_owned(),
            root_certificates: None,
            system_identifier: None,
        }
    }

    /// Adds a server: primary or replica, it tells by itself.
    pub fn node(mut self, node: impl Into<PostgresNode>) -> Self {
        self.nodes.push(node.into());
        self
    }

    /// The most connections to each server, besides one for the monitor. 16 by default.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// The longest that connecting may take, from name lookup to the end of the handshake. 5 s by default.
    pub fn connect_timeout(mut self, longest: Duration) -> Self {
        self.connect_timeout = longest;
        self
    }

    /// The longest that one statement may take. 10 s by default.
    pub fn operation_timeout(mut self, longest: Duration) -> Self {
        self.operation_timeout = longest;
        self
    }

    /// How the connections call themselves in `pg_stat_activity`, unless the URL says so. `highwater` by default.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// A PEM file of the certificates to trust, for feature `tls`. The system's by default.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.root_certificates = Some(file.into());
        self
    }

    /// The system identifier that every server must have. That of the first primary that answers by default.
    pub fn system_identifier(mut self, identifier: u64) -> Self {
        self.system_identifier = Some(identifier);
        self
    }

    /// Checks the description. Connects to nothing.
    ///
    /// # Errors
    ///
    /// A configuration error that names the setting and the remedy, and never repeats a password.
    pub fn build(self) -> Result<Postgres, Error> {
        if self.nodes.is_empty() {
            return Err(Error::configuration("a PostgreSQL source needs at least one server: give the primary's URL"));
        }
        if self.pool_size == 0 {
            return Err(Error::configuration("pool_size is 0, so nothing could be asked: give at least 1"));
        }
        for (name, value) in [("connect_timeout", self.connect_timeout), ("operation_timeout", self.operation_timeout)]
        {
            if value > Duration::from_secs(24 * 3600) {
                return Err(Error::configuration(format!("{name} is {value:?}; the limit is one day")));
            }
            if value.is_zero() {
                return Err(Error::configuration(format!(
                    "{name} is zero, so everything would time out: give a duration"
                )));
            }
        }
        let cluster = Arc::new(self.system_identifier.map_or_else(OnceLock::new, OnceLock::from));
        let nodes = self.nodes.iter().enumerate().map(|(index, node)| self.build_node(index, node, &cluster));
        let nodes: Vec<Arc<Node>> = nodes.collect::<Result<_, _>>()?;
        refuse_twice(&nodes)?;
        let infos = nodes.iter().map(|node| node.info.clone()).collect();
        Ok(Postgres { nodes, infos })
    }

    fn build_node(&self, index: usize, node: &PostgresNode, cluster: &Arc<OnceLock<u64>>) -> Result<Arc<Node>, Error> {
        let mut config = match &node.address {
            Address::Config(config) => (**config).clone(),
            // The parser's error is not passed on: it can quote parts of the URL, and so of the password.
            Address::Url(url) => url.parse().map_err(|_| malformed(&self.which(index), url))?,
        };
        let name = check_address(&self.which(index), &config)?;
        let encryption = Encryption::decide(&name, &mut config, self.root_certificates.as_deref())?;
        self.prepare(&mut config);
        let dial = Arc::new(Dial {
            name: name.clone(),
            config,
            encryption: Arc::new(encryption),
            pooled: node.pooled,
            connect_timeout: self.connect_timeout,
        });
        let pool = Pool::builder(Dialer(Arc::clone(&dial))).max_size(self.pool_size).runtime(Runtime::Tokio1).build();
        Ok(Arc::new(Node {
            info: NodeInfo { name, zone: node.zone.clone() },
            dial,
            pool: pool.map_err(|cause| Error::configuration_because("the pool cannot be built", cause))?,
            operation_timeout: self.operation_timeout,
            cluster: Arc::clone(cluster),
            known: Mutex::new(None),
            confirmed: Mutex::new(None),
            probes: Aside::default(),
            errands: Aside::default(),
            switches: Mutex::new(BTreeMap::new()),
            doubts: Mutex::new(BTreeMap::new()),
        }))
    }

    /// What a server is called as long as its address is not known.
    fn which(&self, index: usize) -> String {
        format!("server {} of {}", index + 1, self.nodes.len())
    }

    fn prepare(&self, config: &mut Config) {
        if config.get_application_name().is_none() {
            config.application_name(&self.application_name);
        }
        // What a server is, is asked on every connection; the client library's own check would be one more round trip.
        config.target_session_attrs(TargetSessionAttrs::Any);
        config.connect_timeout(self.connect_timeout);
        // A server that vanished without a word is noticed by the operating system too, also on idle connections.
        config.keepalives(true);
        config.keepalives_idle(Duration::from_secs(15));
        config.keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3);
        config.tcp_user_timeout(self.operation_timeout.max(Duration::from_secs(1)));
    }
}

fn malformed(which: &str, url: &str) -> Error {
    let shown = host_in(url).map(|host| format!(" (…@{host})")).unwrap_or_default();
    Error::configuration(format!(
        "the address of {which}{shown} cannot be read: give a URL such as postgres://user@host:5432/database; special \
         characters of a password are written as %40 for @; sslmode is disable, prefer or require (with feature `tls` \
         both prefer and require check the certificate and the host name)"
    ))
}

/// The part of a malformed URL that is certain not to be a secret: what follows the last `@` before any parameters.
fn host_in(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (_, address) = rest.split(['?', '#']).next()?.rsplit_once('@')?;
    address.split('/').next().filter(|host| !host.is_empty())
}

/// Refuses one server under one address twice: it would be watched, counted and chosen as two.
fn refuse_twice(nodes: &[Arc<Node>]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for node in nodes {
        let config = &node.dial.config;
        // Behind one pooler, servers may be told apart by the name of the database.
        let database = config.get_dbname().or_else(|| config.get_user()).unwrap_or_default().to_owned();
        if !seen.insert((node.name().to_lowercase(), config.get_hostaddrs().first().copied(), database)) {
            return Err(Error::configuration(format!(
                "{} is given twice: give each server once, whatever its role, for which of them takes writes is found out \
                 by asking",
                node.name()
            )));
        }
    }
    Ok(())
}

/// Checks that the address leads to one server, and names it without credentials.
fn check_address(which: &str, config: &Config) -> Result<String, Error> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    if hosts.len() > 1 || addresses.len() > 1 || ports.len() > 1 {
        return Err(Error::configuration(format!(
            "{which} names several hosts: give each as a server of its own, because a position is true of one \
             server only"
        )));
    }
    let host = match (hosts.first(), addresses.first()) {
        (Some(Host::Tcp(host)), _) => host.clone(),
        #[cfg(unix)]
        (Some(Host::Unix(folder)), _) => folder.display().to_string(),
        (None, Some(address)) => address.to_string(),
        (None, None) => {
            return Err(Error::configuration(format!("{which} has no host: give its address")));
        }
    };
    Ok(format!("{host}:{}", ports.first().unwrap_or(&5432)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(builder: PostgresBuilder) -> String {
        let error = builder.build().unwrap_err();
        assert!(error.is_configuration());
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
        error.to_string()
    }

    fn node(url: &str) -> PostgresBuilder {
        Postgres::builder().node(url)
    }

    #[test]
    fn each_mistake_is_named_with_its_remedy() {
        assert!(refused(Postgres::builder()).contains("at least one server"));
        assert!(
            refused(node("postgres://app:s3cret@host:port/db")).contains("server 1 of 1 (…@host:port) cannot be read")
        );
        assert!(refused(node("postgres://app@host/db?s3cret=x")).contains("cannot be read"));
        assert!(refused(node("postgres://app:s3cret@a,b/db")).contains("several hosts"));
        assert!(refused(node("user=app password=s3cret")).contains("no host"));
        assert!(refused(node("host=a sslmode=verify-full password=s3cret")).contains("sslmode"));
        assert!(refused(node("host=a").pool_size(0)).contains("pool_size"));
        assert!(refused(node("host=a").connect_timeout(Duration::ZERO)).contains("connect_timeout"));
        assert!(refused(node("host=a").operation_timeout(Duration::ZERO)).contains("operation_timeout"));
    }

    #[test]
    fn a_server_that_is_given_twice_is_named() {
        let twice = |one: &str, two: &str| node(one).node("host=between").node(two);
        for (one, two) in [
            ("postgres://app:s3cret@db1/shop", "postgres://app:s3cret@db1/shop"),
            ("postgres://app:s3cret@db1/shop", "postgres://other:s3cret@DB1:5432/shop?sslmode=disable"),
            ("host=db1 user=shop", "postgres://shop@db1"),
        ] {
            let text = refused(twice(one, two)).to_lowercase();
            assert!(text.contains("db1:5432") && text.contains("twice"), "{text}");
        }
        // A pooler tells servers apart by the names of databases.
        for (one, two) in [
            ("postgres://app@pooler/primary", "postgres://app@pooler/replica"),
            ("postgres://app@db1/shop", "postgres://app@db1:5433/shop"),
            ("host=db1 hostaddr=10.0.0.1 sslmode=disable", "host=db1 hostaddr=10.0.0.2 sslmode=disable"),
        ] {
            twice(one, two).build().unwrap();
        }
    }

    #[test]
    fn an_address_that_cannot_be_read_is_named_as_far_as_it_is_no_secret() {
        for (url, shown) in [
            ("postgres://app:s3cret@db1:port/shop?password=s3cret", Some("db1:port")),
            ("postgres://app:s3cret@s3cret@db1:54320000/shop", Some("db1:54320000")),
            ("http://app:s3cret@db1/shop", Some("db1")),
            ("postgres://db1:s3cret/shop", None),
            ("s3cret", None),
            ("host=db1 port=x password=s3cret", None),
        ] {
            let text = refused(node("host=a").node(url));
            assert!(text.contains("server 2 of 2"), "{text}");
            assert!(shown.is_none_or(|shown| text.contains(shown)), "{text}");
        }
    }

    #[test]
    fn a_name_has_no_credentials() {
        let source = node("postgres://app:s3cret@db1:6432/shop?sslmode=disable").build().unwrap();
        assert_eq!(source.infos[0].name, "db1:6432");
        assert!(!format!("{source:?} {:?}", node("postgres://app:s3cret@db1/shop")).contains("s3cret"));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_the_feature_is_an_error_that_names_it() {
        assert!(refused(node("host=a sslmode=require")).contains("feature `tls`"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn with_the_feature_only_disable_and_sockets_are_plaintext() {
        for (url, tls) in [
            ("host=a sslmode=disable", false),
            ("host=/run/postgresql", false),
            ("host=/run/postgresql sslmode=require", false),
        ] {
            let source = node(url).build().unwrap();
            assert_eq!(matches!(*source.nodes[0].dial.encryption, Encryption::Plain), !tls, "{url}");
        }
        assert!(refused(node("host=a").root_certificates("/nowhere")).contains("root_certificates"));
        assert!(refused(node("hostaddr=127.0.0.1")).contains("hostaddr"));
    }
}
