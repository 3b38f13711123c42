//! Opening connections, and telling what waiting mends from what it does not.

use super::RedisSettings;
use crate::Error;
use crate::tier::TierError;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisError, Value,
};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// Where to connect to, checked.
pub(crate) struct Dial {
    client: Client,
    settings: RedisSettings,
}

impl Dial {
    pub(super) fn new(settings: RedisSettings) -> Result<Self, Error> {
        settings.check()?;
        let client = client(&settings)?;
        Ok(Self { client, settings })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.settings.namespace
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
}

impl Refusal {
    /// What to do about it, where waiting does not help.
    pub(crate) fn remedy(&self) -> Option<String> {
        match self {
            Self::Error(error) => remedy(error),
            Self::TimedOut(_) => None,
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
    if error.code() == Some("NOPERM") || text.contains("The user executing the script can't") {
        return Some(format!(
            "the Redis user lacks a right ({text}); grant it with: ACL SETUSER <user> {RIGHTS}, \
             where <namespace> is the configured one"
        ));
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

/// The first answer that waiting does not mend, as an error. Everything else is left to later: that there is no
/// connection, that memory is short, that the server is a replica just now.
pub(crate) fn misconfigured(outcome: Result<Vec<Value>, TierError>) -> Result<(), Error> {
    let refused = outcome.into_iter().flatten().find_map(|answer| {
        let Value::ServerError(error) = answer else { return None };
        let error = RedisError::from(error);
        Some((remedy(&error)?, error))
    });
    refused.map_or(Ok(()), |(remedy, error)| Err(Error::configuration_because(remedy, error)))
}

/// What a Redis user needs to be allowed; `select` only where the URL names a database.
const RIGHTS: &str = "~<namespace>:* &<namespace>:* +get +mget +set +hset +hmget +hincrby +eval +evalsha +publish \
                      +subscribe +select";

fn client(settings: &RedisSettings) -> Result<Client, Error> {
    let url = settings.url.trim();
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    let encrypted = matches!(scheme.as_str(), "rediss" | "valkeys");
    if settings.root_certificates.is_some() && !encrypted {
        return Err(Error::configuration(
            "root_certificates is given for a Redis URL without TLS: write rediss://, or leave root_certificates away",
        ));
    }
    if encrypted {
        if cfg!(not(feature = "tls")) {
            return Err(Error::configuration(
                "the Redis URL asks for TLS, which this build cannot speak: enable highwater's feature `tls`",
            ));
        }
        if url.to_ascii_lowercase().ends_with("#insecure") {
            return Err(Error::configuration(
                "the Redis URL ends with #insecure, which would accept any certificate: leave it away, and let the \
                 system trust the authority that signed the server's certificate",
            ));
        }
    }
    // The causes below say what is wrong without repeating the URL, which may hold a password.
    let unusable = |cause: RedisError| {
        Error::configuration_because("the Redis URL cannot be used: write redis://user:password@host:6379/0", cause)
    };
    let info = url.into_connection_info().map_err(unusable)?;
    // Telling the server the library's name needs a right of its own, and servers before 7.2 do not know the command.
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
    let mut info = info.set_redis_settings(redis);
    if !matches!(info.addr(), ConnectionAddr::Unix(_)) {
        info = info.set_tcp_settings(tcp_settings());
    }
    match &settings.root_certificates {
        None => Client::open(info).map_err(unusable),
        Some(file) => trusting(info, file),
    }
}

#[cfg(not(feature = "tls"))]
fn trusting(_: ConnectionInfo, _: &Path) -> Result<Client, Error> {
    Err(Error::configuration(
        "root_certificates is given, and TLS is not in this build: enable highwater's feature `tls`",
    ))
}

#[cfg(feature = "tls")]
fn trusting(info: ConnectionInfo, file: &Path) -> Result<Client, Error> {
    let broken = || format!("root_certificates: {} is not a readable PEM file of certificates", file.display());
    let pem = std::fs::read(file).map_err(|cause| Error::configuration_because(broken(), cause))?;
    if !pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Err(Error::configuration(broken()));
    }
    let trusted = redis::TlsCertificates { client_tls: None, root_cert: Some(pem) };
    Client::build_with_tls(info, trusted).map_err(|cause| Error::configuration_because(broken(), cause))
}

/// Without one certificate nobody would be trusted, and every server refused for a reason that does not say so.
#[cfg(feature = "tls")]
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Heartbeats notice a dead peer within seconds on their own. This makes the kernel let go of it too, so that a
/// connection that nobody uses any more does not linger.
fn tcp_settings() -> TcpSettings {
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(probes);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(5));
    settings
}
