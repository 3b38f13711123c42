//! The one connection to Redis that commands travel on, and what keeps it up.
//!
//! The client library's own manager is not used: its retries end, and after a longer outage it stays down until somebody
//! asks and is refused; and a server that froze is never replaced. Here one task tries for ever, and whoever asks
//! meanwhile is told at once that there is no connection.

mod connect;
mod script;
mod settings;
mod url;

pub(crate) use connect::misconfigured;
pub(crate) use script::{Call, Lua};
pub use settings::RedisSettings;

use crate::Error;
use crate::tier::TierError;
use arc_swap::ArcSwapOption;
use connect::Dial;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A connection to one Redis server, kept up in the background, for the shared tier and the ledger together.
///
/// Cheap to clone; the background task ends with the last clone.
#[derive(Clone)]
pub struct RedisLink {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    dial: Dial,
    connection: ArcSwapOption<MultiplexedConnection>,
    lost: Notify,
}

impl RedisLink {
    /// Connects, and from then on keeps the connection up. Must be called within a Tokio runtime.
    ///
    /// A server that cannot be reached now is no error, only a warning in the log: it costs speed until it is back.
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`Error::is_configuration`] for what waiting does not mend: a URL or namespace that cannot be used, a password,
    /// user or database that the server refuses, missing rights to run scripts.
    pub async fn connect(settings: RedisSettings) -> Result<Self, Error> {
        let dial = Dial::new(settings)?;
        let connection = match dial.command_connection().await {
            Ok(connection) => Some(Arc::new(connection)),
            Err(refusal) => {
                if let Some(remedy) = refusal.remedy() {
                    return Err(Error::configuration_because(remedy, refusal));
                }
                crate::trace::redis_unreachable(&refusal, "");
                None
            }
        };
        let shared = Arc::new(Shared { dial, connection: ArcSwapOption::new(connection), lost: Notify::new() });
        let keeper = tokio::spawn(keep(Arc::clone(&shared)));
        Ok(Self { inner: Arc::new(Inner { shared, keeper }) })
    }

    /// Whether there is a connection, as far as anybody has noticed.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.shared.connection.load().is_some()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.inner.shared.dial.namespace()
    }

    pub(crate) fn dial(&self) -> &Dial {
        &self.inner.shared.dial
    }

    /// Sends one command. An error of the server is an `Err` too. Dropped before it was sent it is not sent, later it
    /// is carried out.
    pub(crate) async fn request(&self, command: &Cmd) -> Result<Result<Value, RedisError>, TierError> {
        let connection = self.connection()?;
        let outcome = command.query_async(&mut MultiplexedConnection::clone(&connection)).await;
        match outcome {
            Err(error) if error.is_unrecoverable_error() || error.is_timeout() => Err(self.lose(&connection, error)),
            outcome => Ok(outcome),
        }
    }

    /// Sends several commands at once, which fail one by one: their errors are among the values. Dropped, they may have
    /// been carried out or not.
    pub(crate) async fn requests(&self, commands: &mut Pipeline) -> Result<Vec<Value>, TierError> {
        let connection = self.connection()?;
        let outcome = commands.ignore_errors().query_async(&mut MultiplexedConnection::clone(&connection)).await;
        outcome.map_err(|error| self.lose(&connection, error))
    }

    fn connection(&self) -> Result<Arc<MultiplexedConnection>, TierError> {
        self.inner.shared.connection.load_full().ok_or_else(|| TierError::new("there is no connection to Redis"))
    }

    /// Gives up `connection`, if it is still the current one. A server that froze keeps its connections open, so a
    /// time-out counts as a loss: an answer that comes later could not be waited for anyway.
    fn lose(&self, connection: &Arc<MultiplexedConnection>, error: RedisError) -> TierError {
        let shared = &self.inner.shared;
        let previous = shared.connection.compare_and_swap(connection, None);
        if previous.as_ref().is_some_and(|previous| Arc::ptr_eq(previous, connection)) {
            crate::trace::redis_lost(&error);
            shared.lost.notify_one();
        }
        TierError::new("the connection to Redis is lost").caused_by(error)
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("namespace", &self.namespace()).field("is_up", &self.is_up()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Attempts come this far apart at first, and twice as far after every failure, up to a second: a server that returns
/// after hours is used again as soon as one that returns after seconds.
const RETRY_MS_MIN: u64 = 50;
const RETRY_MS_MAX: u64 = 1_000;

/// Opens a connection whenever there is none, for ever.
async fn keep(shared: Arc<Shared>) {
    let mut failures = 0_u32;
    loop {
        if shared.connection.load().is_some() {
            shared.lost.notified().await;
            continue;
        }
        match shared.dial.command_connection().await {
            Ok(connection) => {
                shared.connection.store(Some(Arc::new(connection)));
                crate::trace::redis_back(failures);
                failures = 0;
            }
            Err(refusal) => {
                if failures == 0 {
                    let remedy = refusal.remedy().unwrap_or_default();
                    crate::trace::redis_unreachable(&refusal, &remedy);
                }
                let longest = (RETRY_MS_MIN << failures.min(10)).min(RETRY_MS_MAX);
                failures = failures.saturating_add(1);
                let wait = longest / 2 + rand::random_range(0..=longest / 2);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }
}
