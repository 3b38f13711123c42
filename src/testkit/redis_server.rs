//! A Redis server that forgets everything when it ends.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use rustix::process::Signal;
use tokio::time::timeout;

use crate::testkit::TestkitError;
use crate::testkit::binaries;
use crate::testkit::builder::Tls;
use crate::testkit::home::Home;
use crate::testkit::port::Port;
use crate::testkit::recipe::Recipe;
use crate::testkit::server::{Probe, Server};
use crate::testkit::user::RunAs;

/// Memory only, and on the loopback only.
const DEFAULTS: &str = "bind 127.0.0.1\nsave \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n";

/// Describes a [`RedisServer`]; [`RedisServer::builder`] makes one.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct RedisServerBuilder {
    lines: Vec<String>,
    password: Option<String>,
    tls: Option<Tls>,
    patience: Duration,
}

/// One Redis (or Valkey) without persistence, in a temporary folder, gone when dropped.
///
/// Its port stays the same through all restarts, and each restart is a wipe.
#[derive(Debug)]
pub struct RedisServer {
    server: Server,
    port: Port,
    tls_port: Option<Port>,
    password: Option<String>,
    home: Home,
}

impl RedisServerBuilder {
    /// Adds a line to `redis.conf`, written as it stands. Defaults to no persistence.
    pub fn config(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.lines.push(format!("{key} {value}"));
        self
    }

    /// Limits the memory, for instance to `4mb`. Defaults to no limit.
    pub fn maxmemory(self, limit: &str) -> Self {
        self.config("maxmemory", limit)
    }

    /// Asks the default user for a password. Defaults to none.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.config("requirepass", password)
    }

    /// Adds a user with rules as of `ACL SETUSER`, for instance `on >secret ~* &* +@all`.
    /// Defaults to the default user alone.
    pub fn user(self, name: &str, rules: &str) -> Self {
        self.config("user", format!("{name} {rules}"))
    }

    /// Makes the server a replica of `primary`. Defaults to a primary.
    pub fn replica_of(mut self, primary: &RedisServer) -> Self {
        if let Some(password) = &primary.password {
            self = self.config("masterauth", password);
        }
        self.config("replicaof", format!("127.0.0.1 {}", primary.port()))
    }

    /// Lets the server speak TLS on a second port, with this certificate and its key, in PEM. Clients need none. Defaults
    /// to plaintext alone.
    pub fn tls(mut self, certificate: &str, key: &str) -> Self {
        self.tls = Some(Tls { certificate: certificate.to_owned(), key: key.to_owned() });
        self
    }

    /// How long any single step may take. Defaults to 30 s.
    pub fn patience(mut self, longest: Duration) -> Self {
        self.patience = longest;
        self
    }

    /// Starts the server and returns once it answers PING; a replica may not be in sync by then.
    ///
    /// # Errors
    ///
    /// [`TestkitError::is_missing_binary`] if Redis is not installed; otherwise the error holds
    /// the end of its log.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the server and removes its folder.
    pub async fn start(self) -> Result<RedisServer, TestkitError> {
        let program = binaries::redis_server()?;
        let home = Home::create("redis-")?;
        let port = Port::reserve()?;
        let user = RunAs::choose()?;
        let mut lines = self.lines;
        let tls_port = self.tls.as_ref().map(|_| Port::reserve()).transpose()?;
        if let (Some(tls), Some(port)) = (&self.tls, &tls_port) {
            let (certificate, key) = (home.path().join("server.crt"), home.path().join("server.key"));
            tls.write(&certificate, &key, user)?;
            let (certificate, key) = (certificate.display(), key.display());
            lines.push(format!("tls-port {}\ntls-auth-clients no", port.number()));
            lines.push(format!("tls-cert-file {certificate}\ntls-key-file {key}"));
        }
        let config = home.path().join("redis.conf");
        let text = format!("{DEFAULTS}dir {}\nport {}\n{}\n", home.path().display(), port.number(), lines.join("\n"));
        fs::write(&config, text).map_err(TestkitError::folder("write", &config))?;
        // A replica writes what its primary sends into the folder.
        user.own(home.path())?;
        let log = home.path().join("redis.log");
        let recipe = Recipe::new(program, user, log).arg(&config);
        let name = format!("redis on port {}", port.number());
        let probe = Probe::Redis(port.number());
        let redis = RedisServer {
            server: Server::new(name, recipe, probe, self.patience),
            port,
            tls_port,
            password: self.password,
            home,
        };
        match redis.start_again().await {
            Ok(()) => Ok(redis),
            Err(error) => Err(redis.home.keep_logs(error)),
        }
    }
}

impl RedisServer {
    /// Describes a server; without further words it is a bare one.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder { lines: Vec::new(), password: None, tls: None, patience: Duration::from_secs(30) }
    }

    /// Starts a server with the default settings.
    ///
    /// # Errors
    ///
    /// As [`RedisServerBuilder::start`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the server and removes its folder.
    pub async fn start() -> Result<Self, TestkitError> {
        Self::builder().start().await
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The TCP port on which it speaks TLS, where it was given a certificate.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port.as_ref().map(Port::number)
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where a client connects as the default user.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same at another address: that of a [`Proxy`](crate::testkit::Proxy) in front.
    #[must_use]
    pub fn url_at(&self, address: SocketAddr) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{address}/"),
            None => format!("redis://{address}/"),
        }
    }

    /// Where a client connects as one of the users that were added.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@{}/", self.address())
    }

    /// The process number, while the server runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }

    /// Opens a connection as the default user.
    ///
    /// # Errors
    ///
    /// If the server refuses, or does not answer in time, as a frozen one does not.
    ///
    /// # Cancellation
    ///
    /// Safe: a half-open connection is closed.
    pub async fn connect(&self) -> Result<MultiplexedConnection, TestkitError> {
        let connecting = async { redis::Client::open(self.url())?.get_multiplexed_async_connection().await };
        timeout(self.server.patience(), connecting)
            .await
            .map_err(|_| TestkitError::Timeout {
                waiting_for: format!("{} to accept a connection", self.server.name()),
                after: self.server.patience(),
                detail: self.log_tail(),
            })?
            .map_err(|source| self.refused("connect", source))
    }

    /// Removes all keys of all databases.
    ///
    /// # Errors
    ///
    /// If the server is down or refuses.
    ///
    /// # Cancellation
    ///
    /// The keys may or may not be gone.
    pub async fn flush(&self) -> Result<(), TestkitError> {
        self.command("FLUSHALL", &[]).await
    }

    /// Makes a replica a primary.
    ///
    /// # Errors
    ///
    /// If the server is down or refuses.
    ///
    /// # Cancellation
    ///
    /// The server may or may not be promoted.
    pub async fn promote(&self) -> Result<(), TestkitError> {
        self.command("REPLICAOF", &["NO", "ONE"]).await
    }

    /// Stops the server cleanly; it forgets everything all the same.
    ///
    /// # Errors
    ///
    /// If it does not end in time; then it was killed.
    ///
    /// # Cancellation
    ///
    /// It goes on stopping.
    pub async fn stop(&self) -> Result<(), TestkitError> {
        self.server.stop(Signal::TERM).await
    }

    /// Kills the server at once.
    ///
    /// # Errors
    ///
    /// None at present; a server that is down stays down.
    ///
    /// # Cancellation
    ///
    /// Either nothing was done or it is dead.
    pub async fn kill(&self) -> Result<(), TestkitError> {
        self.server.kill().await
    }

    /// Starts the server again on the same port, empty; does nothing if it runs.
    ///
    /// # Errors
    ///
    /// If it does not come up; the error holds the end of its log.
    ///
    /// # Cancellation
    ///
    /// A half-started server is killed.
    pub async fn start_again(&self) -> Result<(), TestkitError> {
        self.server.start().await
    }

    /// Stops the server where it is: connections are accepted and kept, nobody answers.
    ///
    /// # Errors
    ///
    /// If it is down.
    ///
    /// # Cancellation
    ///
    /// Safe: all is done at the first poll.
    pub async fn freeze(&self) -> Result<(), TestkitError> {
        self.server.freeze()
    }

    /// Ends a [`freeze`](Self::freeze).
    ///
    /// # Errors
    ///
    /// If the server is down.
    ///
    /// # Cancellation
    ///
    /// Safe: all is done at the first poll.
    pub async fn thaw(&self) -> Result<(), TestkitError> {
        self.server.thaw()
    }

    async fn command(&self, verb: &'static str, args: &[&str]) -> Result<(), TestkitError> {
        let mut connection = self.connect().await?;
        redis::cmd(verb).arg(args).exec_async(&mut connection).await.map_err(|source| self.refused(verb, source))
    }

    pub(crate) fn refused(&self, doing: &'static str, source: redis::RedisError) -> TestkitError {
        if self.pid().is_none() {
            return self.server.not_running();
        }
        TestkitError::Redis { server: self.server.name().to_owned(), doing, source }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Nothing is worth saving.
        self.server.retire_now();
    }
}
