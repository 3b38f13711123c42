//! A store over PostgreSQL and Redis by URL.

use crate::ledger::RedisLedger;
use crate::redis_link::{RedisLink, RedisSettings};
use crate::source::postgres::{Postgres, PostgresBuilder, PostgresNode};
use crate::tier::RedisTier;
use crate::{Error, Highwater, Settings};
use std::fmt;

/// Connects a store to PostgreSQL, and to Redis where instances share; begun by [`Highwater::builder`].
#[must_use = "a store is made by connect()"]
pub struct HighwaterBuilder {
    postgres: PostgresBuilder,
    redis: Option<RedisSettings>,
    settings: Settings,
}

impl Highwater<Postgres> {
    /// Begins a store over PostgreSQL.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), highwater::Error> {
    /// let store = highwater::Highwater::builder()
    ///     .primary("postgres://app@db1:5432/shop")
    ///     .replica("postgres://app@db2:5432/shop")
    ///     .redis("redis://cache:6379")
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> HighwaterBuilder {
        HighwaterBuilder { postgres: Postgres::builder(), redis: None, settings: Settings::default() }
    }
}

impl HighwaterBuilder {
    /// Adds the server that is the primary at present, by an address of its own and not by a name that follows the primary.
    ///
    /// Which server takes writes is found out by asking, now and after every promotion, so this is the same as
    /// [`replica`](Self::replica): the two names are there for the reader of the call.
    pub fn primary(self, node: impl Into<PostgresNode>) -> Self {
        self.replica(node)
    }

    /// Adds a server that is a replica at present.
    pub fn replica(mut self, node: impl Into<PostgresNode>) -> Self {
        self.postgres = self.postgres.node(node);
        self
    }

    /// Adds servers that are replicas at present.
    pub fn replicas<N: Into<PostgresNode>>(self, nodes: impl IntoIterator<Item = N>) -> Self {
        nodes.into_iter().fold(self, Self::replica)
    }

    /// Shares entries and retractions with other instances through this Redis, which may be lost at any time; by the URL of one
    /// server, or as [`RedisSettings`].
    pub fn redis(mut self, redis: impl Into<RedisSettings>) -> Self {
        self.redis = Some(redis.into());
        self
    }

    /// Changes how PostgreSQL is talked to: pool size, time-outs, certificates.
    pub fn postgres(mut self, change: impl FnOnce(PostgresBuilder) -> PostgresBuilder) -> Self {
        self.postgres = change(self.postgres);
        self
    }

    /// Replaces the settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Connects and starts. Must be called within a Tokio runtime with time and I/O enabled.
    ///
    /// # Errors
    ///
    /// A malformed URL, one server given twice, or a setting that cannot work; wrong credentials; a PostgreSQL that is too
    /// old; a server of another cluster, or two that both take writes; a Redis that refuses the user or has no scripts; or
    /// no primary within ten seconds. A replica or a Redis that cannot be reached is no error: it joins when it is back.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await; nothing was started then.
    pub async fn connect(self) -> Result<Highwater<Postgres>, Error> {
        let Self { postgres, redis, settings } = self;
        let mut store = Highwater::over(postgres.build()?).settings(settings);
        if let Some(redis) = redis {
            let link = RedisLink::connect(redis).await?;
            store = store.shared_tier(RedisTier::open(link.clone()).await?).ledger(RedisLedger::open(link).await?);
        }
        store.start().await
    }
}

impl fmt::Debug for HighwaterBuilder {
    /// Without addresses, which may carry passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HighwaterBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
