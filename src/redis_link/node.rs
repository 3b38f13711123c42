//! One server: the connection that commands travel on, and what keeps it up.
//!
//! The client library's own manager is not used: its retries end, and after a longer outage it stays down until somebody
//! asks and is refused; and a server that froze is never replaced. Here one task tries for ever, and whoever asks
//! meanwhile is told at once that there is no connection.

use super::connect::{Dial, Refusal};
use crate::tier::TierError;
use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A connection to one Redis server, kept up in the background. The task ends with the owner.
pub(super) struct Node {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    dial: Dial,
    connection: ArcSwapOption<MultiplexedConnection>,
    lost: Notify,
}

impl Node {
    /// Connects, and from then on keeps the connection up. Returns why there is none yet, where there is none. Dropped, it
    /// leaves nothing behind.
    pub(super) async fn connect(dial: Dial) -> (Self, Option<Refusal>) {
        let (connection, refusal) = match dial.command_connection().await {
            Ok(connection) => (Some(Arc::new(connection)), None),
            Err(refusal) => (None, Some(refusal)),
        };
        let shared = Arc::new(Shared { dial, connection: ArcSwapOption::new(connection), lost: Notify::new() });
        let keeper = tokio::spawn(keep(Arc::clone(&shared)));
        (Self { shared, keeper }, refusal)
    }

    pub(super) fn is_up(&self) -> bool {
        self.shared.connection.load().is_some()
    }

    pub(super) fn dial(&self) -> &Dial {
        &self.shared.dial
    }

    /// What lies under these names, which are this server's; a value of another type is nothing. One round trip.
    pub(super) async fn get(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, TierError> {
        let command = match names {
            [] => return Ok(Vec::new()),
            [one] => Cmd::get(one),
            // MGET answers nil for a key of another type, so that one such key does not spoil the others.
            many => Cmd::mget(many),
        };
        let values = match (self.request(&command).await?, names.len()) {
            (Ok(Value::Array(values)), count) if count > 1 && values.len() == count => values,
            (Ok(value), 1) => vec![value],
            // GET answers an error for a key of another type.
            (Err(error), 1) if error.code() == Some("WRONGTYPE") => vec![Value::Nil],
            (Err(error), _) => return Err(TierError::new("Redis refused a read").caused_by(error)),
            (Ok(_), _) => return Err(TierError::new("Redis answered a read with something else")),
        };
        Ok(values.into_iter().map(bytes).collect())
    }

    /// Sends one command. An error of the server is an `Err` too. Dropped before it was sent it is not sent, later it
    /// is carried out.
    pub(super) async fn request(&self, command: &Cmd) -> Result<Result<Value, RedisError>, TierError> {
        let connection = self.connection()?;
        let outcome = command.query_async(&mut MultiplexedConnection::clone(&connection)).await;
        match outcome {
            Err(error) if error.is_unrecoverable_error() || error.is_timeout() => Err(self.lose(&connection, error)),
            outcome => Ok(outcome),
        }
    }

    /// Sends several commands at once, which fail one by one: their errors are among the values. Dropped, they may have
    /// been carried out or not.
    pub(super) async fn requests(&self, commands: &mut Pipeline) -> Result<Vec<Value>, TierError> {
        let connection = self.connection()?;
        let outcome = commands.ignore_errors().query_async(&mut MultiplexedConnection::clone(&connection)).await;
        outcome.map_err(|error| self.lose(&connection, error))
    }

    fn connection(&self) -> Result<Arc<MultiplexedConnection>, TierError> {
        self.shared.connection.load_full().ok_or_else(|| TierError::new("there is no connection to Redis"))
    }

    /// Gives up `connection`, if it is still the current one. A server that froze keeps its connections open, so a
    /// time-out counts as a loss: an answer that comes later could not be waited for anyway.
    fn lose(&self, connection: &Arc<MultiplexedConnection>, error: RedisError) -> TierError {
        let shared = &self.shared;
        let previous = shared.connection.compare_and_swap(connection, None);
        if previous.as_ref().is_some_and(|previous| Arc::ptr_eq(previous, connection)) {
            crate::trace::redis_lost(&shared.dial, &error);
            shared.lost.notify_one();
        }
        TierError::new("the connection to Redis is lost").caused_by(error)
    }
}

/// What a read found.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::BulkString(bytes) = value { Some(bytes) } else { None }
}

impl Drop for Node {
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
                crate::trace::redis_back(&shared.dial, failures);
                failures = 0;
            }
            Err(refusal) => {
                if failures == 0 {
                    let remedy = refusal.remedy().unwrap_or_default();
                    crate::trace::redis_unreachable(&shared.dial, &refusal, &remedy);
                }
                let longest = (RETRY_MS_MIN << failures.min(10)).min(RETRY_MS_MAX);
                failures = failures.saturating_add(1);
                let wait = longest / 2 + rand::random_range(0..=longest / 2);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }
}
