//! The URL of a Redis server: what it may say. What the client library would drop in silence is refused.

use super::settings::RedisSettings;
use crate::Error;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError, parse_redis_url};
use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

/// How a URL is written.
const FORM: &str = "write redis://user:password@host:6379/0, with special characters of a password as %40 for @";
const SOCKET_FORM: &str = "write redis+unix:///path?user=app&pass=password&db=0";

/// What is no single server.
const CLUSTER: &str = "give the servers of a Redis Cluster one by one, as RedisSettings::cluster";
const SENTINEL: &str = "Sentinel is not supported: give an address that leads to the primary";

/// The client of the server that a URL names, and the number of its database.
pub(super) fn client(settings: &RedisSettings, url: &str) -> Result<(Client, i64), Error> {
    let text = url.trim();
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    if scheme.contains("cluster") {
        return refuse(CLUSTER);
    }
    if scheme.contains("sentinel") {
        return refuse(SENTINEL);
    }
    if settings.is_cluster && scheme.ends_with("unix") {
        return refuse("a socket leads to one server, and the others of its cluster could not be reached");
    }
    let encrypted = matches!(scheme.as_str(), "rediss" | "valkeys");
    if encrypted && cfg!(not(feature = "tls")) {
        return refuse("it asks for TLS, which this build cannot speak: enable highwater's feature `tls`");
    }
    if settings.root_certificates.is_some() && !encrypted {
        return refuse(
            "it is without TLS, and root_certificates is given: write rediss://, or leave root_certificates away",
        );
    }
    let Some(url) = parse_redis_url(text) else { return refuse(FORM) };
    if url.host_str().is_some_and(|host| host.contains(',')) {
        return refuse(&format!("it names several hosts: {CLUSTER}"));
    }
    match url.fragment() {
        Some("insecure") => {
            return refuse(
                "#insecure would accept any certificate: leave it away, and give the authority that signed the \
                 server's certificate as root_certificates",
            );
        }
        Some(_) => return refuse(&format!("what follows # would be ignored: {FORM}")),
        None => {}
    }
    if scheme.ends_with("unix") {
        let misplaced = !url.username().is_empty() || url.password().is_some();
        if misplaced {
            return refuse(&format!("the user and password of a socket belong into its query: {SOCKET_FORM}"));
        }
        check_query(url.query_pairs(), &["protocol", "db", "user", "pass"], SOCKET_FORM)?;
    } else {
        check_query(url.query_pairs(), &["protocol"], FORM)?;
    }
    // The cause says what is wrong without repeating the URL, which may hold a password.
    let unusable =
        |cause: RedisError| Error::configuration_because(format!("the Redis URL cannot be used: {FORM}"), cause);
    let info = url.into_connection_info().map_err(unusable)?;
    let redis = info.redis_settings();
    let (database, user, password) = (redis.db(), redis.username().is_some(), redis.password().is_some());
    if user && !password {
        return refuse(&format!("it names a user and no password, and the user would be ignored: {FORM}"));
    }
    // Telling the server the library's name needs a right of its own, and servers before 7.2 do not know the command.
    let redis = redis.clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
    let mut info = info.set_redis_settings(redis);
    if !matches!(info.addr(), ConnectionAddr::Unix(_)) {
        info = info.set_tcp_settings(tcp_settings());
    }
    let client = match &settings.root_certificates {
        None => Client::open(info).map_err(unusable)?,
        Some(file) => trusting(info, file)?,
    };
    Ok((client, database))
}

#[cfg(not(feature = "tls"))]
fn trusting(_: ConnectionInfo, _: &Path) -> Result<Client, Error> {
    refuse("root_certificates is given, and TLS is not in this build: enable highwater's feature `tls`")
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

/// Refuses parameters that the client library does not know, such as a misspelt one for the password. They are not
/// repeated: nobody knows what was written there.
fn check_query<'a>(
    mut pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    known: &[&str],
    form: &str,
) -> Result<(), Error> {
    if pairs.any(|(key, _)| !known.contains(&&*key)) {
        return refuse(&format!("a parameter other than {} would be ignored: {form}", known.join(", ")));
    }
    Ok(())
}

fn refuse<T>(why: &str) -> Result<T, Error> {
    Err(Error::configuration(format!("the Redis URL cannot be used: {why}")))
}

/// Heartbeats notice a dead peer within seconds on their own. This makes the kernel let go of it too, so that a
/// connection that nobody uses any more does not linger.
fn tcp_settings() -> TcpSettings {
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(probes);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(5));
    settings
}
