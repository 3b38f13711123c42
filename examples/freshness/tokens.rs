//! Each user's position in Redis, as it is kept where clients carry nothing: fetched for a request, and raised after a write.

use highwater::Token;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

#[derive(Clone)]
pub(crate) enum Tokens {
    Redis(Arc<Redis>),
    Memory(Arc<Memory>),
}

/// A connection that is opened anew when it has failed.
pub(crate) struct Redis {
    client: redis::Client,
    open: tokio::sync::Mutex<Option<MultiplexedConnection>>,
}

/// The same in memory, one millisecond away.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) down: AtomicBool,
    texts: Mutex<BTreeMap<u32, String>>,
}

const WAIT_MAX: Duration = Duration::from_millis(250);
const WAY: Duration = Duration::from_millis(1);

/// A token is worth nothing after that: every replica has it.
const LIFE_SECONDS: u64 = 120;

impl Tokens {
    /// The user's token; an error where nobody knows.
    pub(crate) async fn get(&self, user: u32) -> Result<Option<Token>, ()> {
        let text: Option<String> = match self {
            Self::Redis(redis) => redis.ask(async |mut redis| redis.get(name(user)).await).await?,
            Self::Memory(memory) => {
                memory.travel().await?;
                memory.texts.lock().unwrap_or_else(PoisonError::into_inner).get(&user).cloned()
            }
        };
        text.map(|text| serde_json::from_str(&text).map_err(drop)).transpose()
    }

    /// Keeps the token; the user's requests follow each other, so nothing higher can be there.
    pub(crate) async fn set(&self, user: u32, token: &Token) -> Result<(), ()> {
        let text = serde_json::to_string(token).map_err(drop)?;
        match self {
            Self::Redis(redis) => {
                redis.ask(async |mut redis| redis.set_ex(name(user), &text, LIFE_SECONDS).await).await
            }
            Self::Memory(memory) => {
                memory.travel().await?;
                memory.texts.lock().unwrap_or_else(PoisonError::into_inner).insert(user, text);
                Ok(())
            }
        }
    }
}

impl Redis {
    pub(crate) fn at(url: &str) -> Result<Self, redis::RedisError> {
        Ok(Self { client: redis::Client::open(url)?, open: tokio::sync::Mutex::default() })
    }

    async fn ask<T>(&self, ask: impl AsyncFnOnce(MultiplexedConnection) -> redis::RedisResult<T>) -> Result<T, ()> {
        let asked = async {
            let open = self.open.lock().await.clone();
            let connection = match open {
                Some(connection) => connection,
                None => {
                    let connection = self.client.get_multiplexed_async_connection().await?;
                    *self.open.lock().await = Some(connection.clone());
                    connection
                }
            };
            ask(connection).await
        };
        let answer = timeout(WAIT_MAX, asked).await.map_err(drop).and_then(|answer| answer.map_err(drop));
        if answer.is_err() {
            *self.open.lock().await = None;
        }
        answer
    }
}

impl Memory {
    async fn travel(&self) -> Result<(), ()> {
        sleep(WAY).await;
        if self.down.load(Ordering::Relaxed) { Err(()) } else { Ok(()) }
    }
}

fn name(user: u32) -> String {
    format!("freshness:user:{user}")
}
