//! What a cluster should be, before it is.

use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::testkit::binaries;
use crate::testkit::home::Home;
use crate::testkit::node::{Node, Plan};
use crate::testkit::port::Port;
use crate::testkit::settings::Settings;
use crate::testkit::template::{self, Template};
use crate::testkit::user::RunAs;
use crate::testkit::{Cluster, TestkitError};

/// More nodes than this are a slip of the pen, not a test.
const REPLICAS_MAX: usize = 16;

/// Describes a [`Cluster`]; [`Cluster::builder`] makes one.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct ClusterBuilder {
    replicas: usize,
    settings: Settings,
    fresh_identity: bool,
    tls: Option<Tls>,
    patience: Duration,
}

/// What a server that speaks TLS shows, in PEM.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Tls {
    /// Writes both for `user`, to whom alone the key is readable: otherwise PostgreSQL refuses it.
    pub(crate) fn write(&self, certificate: &Path, key: &Path, user: RunAs) -> Result<(), TestkitError> {
        for (path, pem) in [(certificate, &self.certificate), (key, &self.key)] {
            fs::write(path, pem).map_err(TestkitError::folder("write", path))?;
            fs::set_permissions(path, Permissions::from_mode(0o600))
                .map_err(TestkitError::folder("change the mode of", path))?;
            user.own(path)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl ClusterBuilder {
    pub(crate) fn new() -> Self {
        Self {
            replicas: 0,
            settings: Settings::defaults(),
            fresh_identity: false,
            tls: None,
            patience: Duration::from_secs(60),
        }
    }

    /// How many streaming replicas follow the primary. Defaults to 0.
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Sets a parameter of `postgresql.conf` on all nodes. Defaults to small and quick.
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.settings.set(key, value);
        self
    }

    /// Turns `fsync` on, so that a commit takes as long as the disk does. Defaults to off.
    ///
    /// [`Node::kill`] loses no page cache, so data survives it either way; what needs this are
    /// tests in which the moment between writing and flushing a commit matters.
    pub fn durable(self, yes: bool) -> Self {
        self.config("fsync", if yes { "on" } else { "off" })
    }

    /// Gives the cluster a system identifier of its own, at the price of one `initdb`.
    /// Defaults to off: clusters are copies of one template and share its identifier.
    pub fn fresh_identity(mut self) -> Self {
        self.fresh_identity = true;
        self
    }

    /// Lets all nodes speak TLS besides plaintext, with this certificate and its key, in PEM. Defaults to plaintext.
    pub fn tls(mut self, certificate: &str, key: &str) -> Self {
        self.tls = Some(Tls { certificate: certificate.to_owned(), key: key.to_owned() });
        self.config("ssl", "on")
    }

    /// How long any single step may take. Defaults to 60 s.
    pub fn patience(mut self, longest: Duration) -> Self {
        self.patience = longest;
        self
    }

    /// Starts all nodes and returns once every replica streams.
    ///
    /// # Errors
    ///
    /// [`TestkitError::is_missing_binary`] if PostgreSQL is not installed; otherwise the error
    /// holds the end of the log of the server that failed, and all logs are kept.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends what was started and removes its folder.
    pub async fn start(self) -> Result<Cluster, TestkitError> {
        if self.replicas > REPLICAS_MAX {
            return Err(TestkitError::Unsuitable {
                message: format!("{} replicas; at most {REPLICAS_MAX}", self.replicas),
            });
        }
        let bin = binaries::postgres_folder()?;
        let user = RunAs::choose()?;
        let home = Home::create("pg-")?;
        let (primary, replicas) = self.plans(&home)?;
        let make = |plan| Node::new(plan, &bin, user, self.patience);
        // From here on the drop of `cluster` cleans up, whatever happens.
        let cluster = Cluster::new(make(primary), replicas.into_iter().map(make).collect(), home);
        match self.fill_and_start(&cluster, &bin, user).await {
            Ok(()) => Ok(cluster),
            Err(error) => Err(cluster.keep_logs(error)),
        }
    }

    async fn fill_and_start(&self, cluster: &Cluster, bin: &Path, user: RunAs) -> Result<(), TestkitError> {
        let folders = cluster.nodes().map(|node| node.data().to_path_buf());
        if self.fresh_identity {
            let first = cluster.primary().data();
            template::initdb(bin, user, self.patience, first).await?;
            for folder in folders.skip(1) {
                template::copy_folder(first, &folder, user)?;
            }
        } else {
            let template = Template::ensure(bin, user, self.patience).await?;
            for folder in folders {
                template.copy_to(&folder)?;
                // The copies block, so between them others get a turn, and a cancel its chance.
                tokio::task::yield_now().await;
            }
        }
        for node in cluster.nodes() {
            if let Some(tls) = &self.tls {
                tls.write(&node.data().join("server.crt"), &node.data().join("server.key"), user)?;
            }
            node.write_settings()?;
        }
        // All at once: a replica that finds no primary yet tries again within 100 ms.
        futures_util::future::try_join_all(cluster.nodes().map(Node::start)).await?;
        for replica in cluster.replicas() {
            replica.wait_until_streaming().await?;
        }
        Ok(())
    }

    /// The primary and the replicas.
    fn plans(&self, home: &Home) -> Result<(Plan, Vec<Plan>), TestkitError> {
        let port = Port::reserve()?;
        let upstream = Some(port.number());
        let primary = self.plan("primary".to_owned(), port, None, home);
        let replicas = (0..self.replicas)
            .map(|index| {
                let port = Port::reserve()?;
                Ok(self.plan(format!("replica{index}"), port, upstream, home))
            })
            .collect::<Result<_, TestkitError>>()?;
        Ok((primary, replicas))
    }

    fn plan(&self, name: String, port: Port, upstream: Option<u16>, home: &Home) -> Plan {
        let mut settings = self.settings.clone();
        settings.set("cluster_name", &name);
        settings.set("port", &port.number().to_string());
        let data = home.path().join(&name);
        // In the data folder because that is the server's own; socket paths are limited to about
        // a hundred bytes, and temporary folders can be deep.
        let sockets = data.to_string_lossy();
        let fits = sockets.len() < 80;
        settings.set("unix_socket_directories", if fits { &sockets } else { "" });
        Plan { name, port, upstream, data: data.clone(), settings }
    }
}
