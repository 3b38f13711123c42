//! PgBouncer in transaction mode, the pooler that breaks what assumes a session.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::testkit::binaries;
use crate::testkit::home::Home;
use crate::testkit::port::Port;
use crate::testkit::recipe::Recipe;
use crate::testkit::server::{Probe, Server};
use crate::testkit::user::RunAs;
use crate::testkit::{Node, TestkitError};

const PATIENCE: Duration = Duration::from_secs(30);

/// A PgBouncer in transaction mode in front of some nodes, gone when dropped.
///
/// Its databases are `postgres`, which leads to the first node and can be
/// [retargeted](Self::retarget), and one named after each node.
#[derive(Debug)]
pub struct PgBouncer {
    server: Server,
    port: Port,
    config: PathBuf,
    routes: Vec<(String, u16)>,
    user: RunAs,
    home: Home,
}

impl PgBouncer {
    /// Starts a PgBouncer in front of `nodes`, of which the first is the default.
    ///
    /// # Errors
    ///
    /// [`TestkitError::is_missing_binary`] if PgBouncer is not installed; otherwise the error
    /// holds the end of its log.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the server and removes its folder.
    pub async fn start(nodes: &[&Node]) -> Result<Self, TestkitError> {
        let Some(first) = nodes.first() else {
            return Err(TestkitError::Unsuitable { message: "a PgBouncer needs at least one node".to_owned() });
        };
        let program = binaries::pgbouncer()?;
        let user = RunAs::choose()?;
        let home = Home::create("pgbouncer-")?;
        let port = Port::reserve()?;
        let config = home.path().join("pgbouncer.ini");
        let recipe = Recipe::new(program, user, home.path().join("pgbouncer.log")).arg(&config);
        let name = format!("pgbouncer on port {}", port.number());
        let probe = Probe::Tcp(port.number());
        let pooler = Self {
            server: Server::new(name, recipe, probe, PATIENCE),
            port,
            config,
            routes: nodes.iter().map(|node| route(node)).collect(),
            user,
            home,
        };
        pooler.write_config(first)?;
        match pooler.start_again().await {
            Ok(()) => Ok(pooler),
            Err(error) => Err(pooler.home.keep_logs(error)),
        }
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where a client reaches the default node.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_to("postgres")
    }

    /// Where a client reaches the node with this name.
    #[must_use]
    pub fn url_to(&self, node: &str) -> String {
        format!("postgres://postgres@{}/{node}?sslmode=disable", self.address())
    }

    /// Lets another node answer as the default, as a pooler does after a fail-over.
    ///
    /// Transactions in progress end where they began; the signal is taken within milliseconds, but
    /// PgBouncer does not say when.
    ///
    /// # Errors
    ///
    /// If the pooler is down.
    ///
    /// # Cancellation
    ///
    /// Safe: all is done at the first poll.
    pub async fn retarget(&self, node: &Node) -> Result<(), TestkitError> {
        self.write_config(node)?;
        self.server.signal(Signal::HUP)
    }

    /// Kills the pooler at once.
    ///
    /// # Errors
    ///
    /// None at present; a pooler that is down stays down.
    ///
    /// # Cancellation
    ///
    /// Either nothing was done or it is dead.
    pub async fn kill(&self) -> Result<(), TestkitError> {
        self.server.kill().await
    }

    /// Starts the pooler again on the same port; does nothing if it runs.
    ///
    /// # Errors
    ///
    /// If it does not come up; the error holds the end of its log.
    ///
    /// # Cancellation
    ///
    /// A half-started pooler is killed.
    pub async fn start_again(&self) -> Result<(), TestkitError> {
        self.server.start().await
    }

    fn write_config(&self, default: &Node) -> Result<(), TestkitError> {
        let target = |(name, port): &(String, u16)| {
            format!("{name} = host=127.0.0.1 port={port} dbname=postgres user=postgres\n")
        };
        let databases: String = self.routes.iter().map(target).collect();
        let text = format!(
            "[databases]\n{}{databases}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 20\nmax_client_conn = 500\n\
             ignore_startup_parameters = extra_float_digits,search_path\n",
            target(&("postgres".to_owned(), default.port())),
            self.port()
        );
        fs::write(&self.config, text).map_err(TestkitError::folder("write", &self.config))?;
        self.user.own(&self.config)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.server.retire_now();
    }
}

fn route(node: &Node) -> (String, u16) {
    (node.name().to_owned(), node.port())
}
