//! Opening connections, and telling what waiting mends from what it does not.

use super::RedisSettings;
use super::url::client;
use crate::Error;
use crate::tier::TierError;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError};
use std::fmt;
use std::time::Duration;
use tokio::time::timeout;

/// Where to connect to, checked.
#[derive(Clone)]
pub(crate) struct Dial {
    client: Client,
    database: i64,
    settings: RedisSettings,
}

impl Dial {
    /// One for each URL of the settings, and there is at least one.
    pub(super) fn all(settings: &RedisSettings) -> Result<Vec<Self>, Error> {
        settings.check()?;
        let dial = |url: &String| {
            let (client, database) = client(settings, url)?;
            Ok(Self { client, database, settings: settings.clone() })
        };
        settings.urls.iter().map(dial).collect()
    }

    /// The same at another port and host, or at this one's, with the same user, password and trust.
    pub(super) fn at(&self, host: Option<&str>, port: u16) -> Result<Self, RedisError> {
        let info = self.client.get_connection_info();
        let address = match info.addr().clone() {
            ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host: host.map_or(own, str::to_owned), port, insecure, tls_params }
            }
            ConnectionAddr::Tcp(own, _) => ConnectionAddr::Tcp(host.map_or(own, str::to_owned), port),
            other => other,
        };
        let client = Client::open(info.clone().set_addr(address))?;
        Ok(Self { client, database: self.database, settings: self.settings.clone() })
    }

    /// The host and the port, or where the socket lies.
    pub(super) fn address(&self) -> &ConnectionAddr {
        self.client.get_connection_info().addr()
    }

    /// The number of the database that keys lie in.
    pub(crate) fn database(&self) -> i64 {
        self.database
    }

    /// A connection that the server has let in, on which scripts may run.
    pub(super) async fn command_connection(&self) -> Result<MultiplexedConnection, Refusal> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            .set_response_timeout(Some(self.settings.response_timeout));
        self.bounded(async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            // A server that wants a password lets a client without one connect, and refuses its first command.
            redis::cmd("EVAL").arg("return 1").arg(0).exec_async(&mut connection).await?;
            Ok(connection)
        })
        .await
    }

    /// A connection for one subscription, confirmed by the server.
    pub(crate) async fn subscription(&self, channel: &str) -> Result<PubSub, Refusal> {
        self.bounded(async {
            let mut pubsub = self.client.get_async_pubsub().await?;
            pubsub.subscribe(channel).await?;
            Ok(pubsub)
        })
        .await
    }

    /// The library's own time-out ends with the handshake of the transport: a frozen server passes that.
    async fn bounded<T>(&self, opening: impl Future<Output = Result<T, RedisError>>) -> Result<T, Refusal> {
        match timeout(self.settings.connect_timeout, opening).await {
            Ok(outcome) => outcome.map_err(Refusal::Error),
            Err(_) => Err(Refusal::TimedOut(self.settings.connect_timeout)),
        }
    }
}

/// Where it leads.
impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dial").field(&self.settings).finish()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Error(RedisError),
    #[error("nothing was answered within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Nobody(TierError),
}

impl Refusal {
    /// What to do about it, where waiting does not help.
    pub(crate) fn remedy(&self) -> Option<String> {
        match self {
            Self::Error(error) => remedy(error),
            Self::TimedOut(_) | Self::Nobody(_) => None,
        }
    }
}

/// What to do about an error of the server that waiting does not mend; `None` for all others.
pub(crate) fn remedy(error: &RedisError) -> Option<String> {
    let text = error.to_string();
    if error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("WRONGPASS") {
        return Some(
            "Redis refused the user or password in its URL: correct them, or the user with ACL SETUSER".into(),
        );
    }
    if error.code() == Some("NOAUTH") {
        return Some("Redis wants a password: write it into the URL, as in redis://user:password@host:6379/0".into());
    }
    // A script tells it in words: the first are those of Redis 7.0, the others of 7.2 and of Valkey.
    let in_script = ["The user executing the script can't", "ACL failure in script"];
    if error.code() == Some("NOPERM") || in_script.iter().any(|words| text.contains(words)) {
        return Some(format!(
            "the Redis user lacks a right ({text}); grant it with: ACL SETUSER <user> {RIGHTS}, \
             where <namespace> is the configured one"
        ));
    }
    if text.contains("cluster support disabled") {
        return Some("this Redis is no cluster: give it as RedisSettings::new".into());
    }
    if text.contains("refused to switch database") {
        return Some("Redis refused the database number at the end of its URL: use one that it has, such as 0".into());
    }
    if text.contains("unknown command") {
        // The arguments, which follow, are keys and values.
        let text = text.split(", with args").next().unwrap_or_default();
        return Some(format!("Redis does not know a command that is needed ({text}): it is too old, or renamed it"));
    }
    if text.contains("invalid peer certificate") {
        return Some(format!(
            "the certificate of the Redis server is not trusted ({text}): give the authority that signed it as \
             root_certificates, or let the system trust it; and use the host name that the certificate is for"
        ));
    }
    (error.kind() == ErrorKind::Parse).then(|| {
        "what answers at the Redis URL does not speak Redis: correct it, or write rediss:// where it speaks TLS".into()
    })
}

/// What a Redis user needs to be allowed; `select` only where the URL names a database.
const RIGHTS: &str = "~<namespace>:* &<namespace>:* +get +mget +set +del +hset +hget +hmget +hdel +time +info +eval \
                      +evalsha +publish +subscribe +select, with a device store +getrange, and of a cluster +cluster|slots +asking";
