//! TLS or plaintext, decided at build and never at run time.

use crate::Error;
use std::path::Path;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{CancelToken, Client, Config, NoTls};

/// What protects a connection.
#[derive(Clone)]
pub(super) enum Encryption {
    /// Nothing: a unix socket, or `sslmode=disable`, or a build without feature `tls`.
    Plain,
    /// TLS with the certificate's chain and host name checked.
    #[cfg(feature = "tls")]
    Tls(tokio_postgres_rustls::MakeRustlsConnect),
}

impl Encryption {
    /// Decides for one server, and writes the decision into its configuration, so that the client library cannot fall
    /// back to plaintext on its own as its default `prefer` does.
    pub(super) fn decide(name: &str, config: &mut Config, roots: Option<&Path>) -> Result<Self, Error> {
        let plain = match config.get_ssl_mode() {
            SslMode::Disable => true,
            _ if config.get_hosts().iter().all(is_socket) && config.get_hostaddrs().is_empty() => true,
            SslMode::Prefer => !cfg!(feature = "tls"),
            _ => false,
        };
        if plain {
            config.ssl_mode(SslMode::Disable);
            return Ok(Self::Plain);
        }
        config.ssl_mode(SslMode::Require);
        Self::checked(name, config, roots)
    }

    #[cfg(not(feature = "tls"))]
    fn checked(name: &str, _: &Config, _: Option<&Path>) -> Result<Self, Error> {
        Err(Error::configuration(format!(
            "{name} asks for TLS (sslmode), but highwater was built without its feature `tls`: enable the feature, \
             or say sslmode=disable"
        )))
    }

    #[cfg(feature = "tls")]
    fn checked(name: &str, config: &Config, roots: Option<&Path>) -> Result<Self, Error> {
        if config.get_hosts().is_empty() {
            return Err(Error::configuration(format!(
                "{name} has a hostaddr but no host, so its certificate cannot be checked: give host as well, or say \
                 sslmode=disable"
            )));
        }
        let roots = match roots {
            Some(file) => tls::roots_of_file(file)?,
            None => tls::roots_of_system()?,
        };
        Ok(Self::Tls(tls::connector(roots)?))
    }

    /// Connects; the returned task drives the connection.
    pub(super) async fn connect(&self, config: &Config) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        match self {
            Self::Plain => {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, tokio::spawn(async move { ended(connection.await) })))
            }
            #[cfg(feature = "tls")]
            Self::Tls(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                Ok((client, tokio::spawn(async move { ended(connection.await) })))
            }
        }
    }

    /// Asks the server to stop what the connection is doing.
    pub(super) async fn cancel(&self, token: CancelToken) {
        // Best effort: the connection is closed in any case.
        let _ = match self {
            Self::Plain => token.cancel_query(NoTls).await,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => token.cancel_query(tls.clone()).await,
        };
    }
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Plain) { "Plain" } else { "Tls" })
    }
}

fn is_socket(host: &Host) -> bool {
    match host {
        Host::Tcp(_) => false,
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn ended(result: Result<(), tokio_postgres::Error>) {
    if let Err(error) = result {
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        crate::trace::connection_ended(code.unwrap_or_default());
    }
}

#[cfg(feature = "tls")]
mod tls {
    use crate::Error;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, RootCertStore};
    use std::path::Path;
    use std::sync::Arc;
    use tokio_postgres_rustls::MakeRustlsConnect;

    pub(super) fn connector(roots: RootCertStore) -> Result<MakeRustlsConnect, Error> {
        // The provider is named: a process-wide default may be missing, or be set by somebody else.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| Error::configuration_because("TLS cannot be set up", cause))?;
        Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
    }

    pub(super) fn roots_of_system() -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::configuration(
                "the system has no root certificates to check the database's certificate with: give root_certificates, \
                 or say sslmode=disable",
            ));
        }
        Ok(roots)
    }

    pub(super) fn roots_of_file(file: &Path) -> Result<RootCertStore, Error> {
        let broken = || format!("root_certificates: {} is not a readable PEM file of certificates", file.display());
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|cause| Error::configuration_because(broken(), cause))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|cause| Error::configuration_because(broken(), cause))?;
            roots.add(certificate).map_err(|cause| Error::configuration_because(broken(), cause))?;
        }
        if roots.is_empty() { Err(Error::configuration(broken())) } else { Ok(roots) }
    }
}
