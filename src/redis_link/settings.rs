//! How to reach Redis.

use crate::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach Redis, and under which names.
#[derive(Clone)]
#[must_use]
pub struct RedisSettings {
    pub(super) urls: Vec<String>,
    pub(super) is_cluster: bool,
    pub(super) namespace: String,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) root_certificates: Option<PathBuf>,
}

impl RedisSettings {
    /// The server at this URL (`redis://user:password@host:6379/0`, `rediss://` for TLS with the feature `tls`,
    /// `redis+unix:///path?user=app&pass=password&db=0` for a socket), with the namespace `highwater`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            is_cluster: false,
            namespace: "highwater".to_owned(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_millis(500),
            root_certificates: None,
        }
    }

    /// The Redis Cluster that these servers belong to; the others are found by asking them. All are reached with the user,
    /// the password and the trust of the first URL.
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut settings = Self::new("");
        settings.urls = urls.into_iter().map(Into::into).collect();
        settings.is_cluster = true;
        settings
    }

    /// What the names of all keys and channels begin with: 1 to 64 letters, digits, `_`, `.` or `-`. Instances share
    /// entries and retractions if they have the server, the numbered database and the namespace in common. Defaults to
    /// `highwater`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// How long opening a connection may take, with everything that belongs to it. Defaults to 1 s.
    pub fn connect_timeout(mut self, longest: Duration) -> Self {
        self.connect_timeout = longest;
        self
    }

    /// How long an answer may take. One that takes longer counts as a lost connection. Defaults to 500 ms.
    pub fn response_timeout(mut self, longest: Duration) -> Self {
        self.response_timeout = longest;
        self
    }

    /// A PEM file of the certificates to trust, for `rediss://` and feature `tls`. Read once, when the link is made. The
    /// system's by default.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.root_certificates = Some(file.into());
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if self.namespace.is_empty() || self.namespace.len() > 64 || !self.namespace.bytes().all(allowed) {
            return Err(Error::configuration(format!(
                "the Redis namespace {:?} cannot be used: give 1 to 64 letters, digits, '_', '.' or '-'",
                self.namespace
            )));
        }
        if self.urls.is_empty() {
            return Err(Error::configuration("no server of the Redis cluster is given: give the URLs of some of them"));
        }
        if self.connect_timeout.is_zero() || self.response_timeout.is_zero() {
            return Err(Error::configuration("a Redis timeout of zero lets nothing through: give some milliseconds"));
        }
        Ok(())
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { urls: _, is_cluster, namespace, connect_timeout, response_timeout, root_certificates } = self;
        // A URL may hold a password.
        f.debug_struct("RedisSettings")
            .field("is_cluster", is_cluster)
            .field("namespace", namespace)
            .field("connect_timeout", connect_timeout)
            .field("response_timeout", response_timeout)
            .field("root_certificates", root_certificates)
            .finish_non_exhaustive()
    }
}

impl From<&str> for RedisSettings {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for RedisSettings {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}
