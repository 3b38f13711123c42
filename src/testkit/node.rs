//! One PostgreSQL server of a cluster: how it is reached, started and ended.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::testkit::TestkitError;
use crate::testkit::port::Port;
use crate::testkit::recipe::Recipe;
use crate::testkit::server::{Probe, Server};
use crate::testkit::settings::Settings;
use crate::testkit::shm;
use crate::testkit::user::RunAs;

/// How often a state inside PostgreSQL is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// What a node is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) port: Port,
    /// The port of the node to follow; `None` for a primary.
    pub(crate) upstream: Option<u16>,
    pub(crate) data: PathBuf,
    pub(crate) settings: Settings,
}

/// One PostgreSQL server. A clone is another handle to the same server, and none keeps the server
/// alive: it ends with its [`Cluster`](crate::testkit::Cluster).
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    server: Server,
    port: Port,
    data: PathBuf,
    bin: PathBuf,
    user: RunAs,
    standing: Mutex<Standing>,
}

/// What the configuration files say.
#[derive(Debug)]
struct Standing {
    settings: Settings,
    upstream: Option<u16>,
}

impl Node {
    pub(crate) fn new(plan: Plan, bin: &Path, user: RunAs, patience: Duration) -> Self {
        let Plan { name, port, upstream, data, settings } = plan;
        let recipe = Recipe::new(bin.join("postgres"), user, data.with_extension("log")).arg("-D").arg(&data);
        let probe = Probe::PostmasterFile(data.join("postmaster.pid"));
        let inner = Inner {
            server: Server::new(name, recipe, probe, patience),
            port,
            data,
            bin: bin.to_path_buf(),
            user,
            standing: Mutex::new(Standing { settings, upstream }),
        };
        Self { inner: Arc::new(inner) }
    }

    /// `primary`, `replica0`, `replica1` and so on; also its `cluster_name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.server.name()
    }

    /// The TCP port, the same through all restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.port.number()
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.port.address()
    }

    /// Where a client connects: the superuser `postgres`, without a password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port())
    }

    /// The process number of the postmaster, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.inner.server.pid()
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.inner.server.log_tail()
    }

    /// Opens a connection and spawns the task that drives it.
    ///
    /// # Errors
    ///
    /// If the server refuses, or does not answer in time, as a frozen one does not.
    ///
    /// # Cancellation
    ///
    /// Safe: a half-open connection is closed.
    pub async fn connect(&self) -> Result<Client, TestkitError> {
        let patience = self.patience();
        let url = self.url();
        let (client, connection) = timeout(patience, tokio_postgres::connect(&url, NoTls))
            .await
            .map_err(|_| self.too_late("to accept a connection"))?
            .map_err(|source| self.refused("connect", source))?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs one or more statements on a connection of their own.
    ///
    /// # Errors
    ///
    /// If PostgreSQL refuses one, or does not answer in time.
    ///
    /// # Cancellation
    ///
    /// The statements may or may not take effect.
    pub async fn execute(&self, sql: &str) -> Result<(), TestkitError> {
        self.value(sql).await.map(drop)
    }

    /// The first column of the first row as text, for instance of `select count(*) from t`.
    ///
    /// # Errors
    ///
    /// If PostgreSQL refuses a statement, or does not answer in time.
    ///
    /// # Cancellation
    ///
    /// The statements may or may not take effect.
    pub async fn value(&self, sql: &str) -> Result<Option<String>, TestkitError> {
        let client = self.connect().await?;
        self.value_on(&client, sql).await
    }

    /// Asks `sql` again and again until its answer is true.
    ///
    /// # Errors
    ///
    /// If PostgreSQL refuses the statement, or the answer is not true in time.
    ///
    /// # Cancellation
    ///
    /// Safe if `sql` changes nothing.
    pub async fn poll_query_until(&self, sql: &str) -> Result<(), TestkitError> {
        self.wait_until(sql, sql).await
    }

    /// Starts the server and waits until it accepts connections; does nothing if it runs.
    ///
    /// # Errors
    ///
    /// If it does not come up; the error holds the end of its log.
    ///
    /// # Cancellation
    ///
    /// A half-started server is killed.
    pub async fn start(&self) -> Result<(), TestkitError> {
        self.inner.server.start().await
    }

    /// Stops the server in PostgreSQL's mode `fast`: sessions are cut, then it shuts down cleanly.
    ///
    /// # Errors
    ///
    /// If it does not end in time; then it was killed.
    ///
    /// # Cancellation
    ///
    /// It goes on stopping.
    pub async fn stop(&self) -> Result<(), TestkitError> {
        self.inner.server.stop(Signal::INT).await
    }

    /// Kills the postmaster and every backend at once, and returns when none is left: a crash.
    ///
    /// # Errors
    ///
    /// None at present; a server that is down stays down.
    ///
    /// # Cancellation
    ///
    /// Either nothing was done or all are dead.
    pub async fn kill(&self) -> Result<(), TestkitError> {
        self.inner.server.kill().await
    }

    /// [`stop`](Self::stop) and [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// As those two.
    ///
    /// # Cancellation
    ///
    /// The server may be left down.
    pub async fn restart(&self) -> Result<(), TestkitError> {
        self.stop().await?;
        self.start().await
    }

    pub(crate) fn server(&self) -> &Server {
        &self.inner.server
    }

    pub(crate) fn patience(&self) -> Duration {
        self.inner.server.patience()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.inner.data
    }

    pub(crate) fn user(&self) -> RunAs {
        self.inner.user
    }

    pub(crate) fn bin(&self) -> &Path {
        &self.inner.bin
    }

    /// Ends the server for good.
    pub(crate) fn retire(&self) {
        self.server().retire();
        shm::remove_left_by(self.data());
    }

    /// The node to follow from the next reload or start on; `None` is to follow nobody.
    pub(crate) fn set_upstream(&self, upstream: Option<u16>) -> Result<(), TestkitError> {
        self.change(|standing| standing.upstream = upstream)
    }

    pub(crate) fn set(&self, key: &str, value: &str) -> Result<(), TestkitError> {
        self.change(|standing| standing.settings.set(key, value))
    }

    pub(crate) fn write_settings(&self) -> Result<(), TestkitError> {
        self.change(|_| ())
    }

    /// Changes what the configuration files say, and writes them.
    fn change(&self, edit: impl FnOnce(&mut Standing)) -> Result<(), TestkitError> {
        let standing = &self.inner.standing;
        let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut standing);
        let Standing { settings, upstream } = &mut *standing;
        if let Some(port) = upstream {
            let name = self.name();
            let upstream = format!("host=127.0.0.1 port={port} user=postgres application_name={name}");
            settings.set("primary_conninfo", &upstream);
            settings.fit_for_standby();
            let signal = self.data().join("standby.signal");
            fs::write(&signal, "").map_err(TestkitError::folder("write", &signal))?;
            self.user().own(&signal)?;
        } else {
            settings.remove("primary_conninfo");
        }
        settings.write(self.data(), self.user())
    }

    pub(crate) async fn value_on(&self, client: &Client, sql: &str) -> Result<Option<String>, TestkitError> {
        let messages = timeout(self.patience(), client.simple_query(sql))
            .await
            .map_err(|_| self.too_late(sql))?
            .map_err(|source| self.refused(sql, source))?;
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// Looks at the value of `sql` on one connection until it is `t`.
    pub(crate) async fn wait_until(&self, what: &str, sql: &str) -> Result<(), TestkitError> {
        let client = self.connect().await?;
        let deadline = Instant::now() + self.patience();
        while self.value_on(&client, sql).await?.as_deref() != Some("t") {
            if Instant::now() > deadline {
                return Err(self.too_late(what));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    pub(crate) fn too_late(&self, what: &str) -> TestkitError {
        TestkitError::Timeout {
            waiting_for: format!("{}: {what}", self.name()),
            after: self.patience(),
            detail: self.log_tail(),
        }
    }

    fn refused(&self, doing: &str, source: tokio_postgres::Error) -> TestkitError {
        if self.pid().is_none() {
            return self.server().not_running();
        }
        TestkitError::Postgres { server: self.name().to_owned(), doing: doing.to_owned(), source }
    }
}
