//! Connecting to one server: the whole of it under one deadline.

use super::super::{Fault, FaultKind};
use super::encryption::Encryption;
use super::link::Link;
use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Config;

/// How one server is reached. Serves as the pool's manager.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) encryption: Arc<Encryption>,
    /// A transaction pooler stands in between: no statement may be prepared, and any one may reach another server.
    pub(super) pooled: bool,
    /// Covers name lookup, TCP, TLS, log-in and our own handshake; the client library's limit covers only TCP.
    pub(super) connect_timeout: Duration,
}

impl Dial {
    /// Connects. Dropped, the half-open connection is closed.
    pub(super) async fn connect(&self) -> Result<Link, Fault> {
        timeout(self.connect_timeout, Box::pin(Link::open(self))).await.unwrap_or_else(|_| {
            let text = format!("connecting took longer than {:?}", self.connect_timeout);
            Err(Fault::new(FaultKind::TimedOut, &self.name, text))
        })
    }
}

/// The pool's view of a [`Dial`], which the monitor's own connection uses too.
#[derive(Debug)]
pub(super) struct Dialer(pub(super) Arc<Dial>);

impl Manager for Dialer {
    /// Boxed: a borrowed connection is moved through every future of a load, and each keeps room for it.
    type Type = Box<Link>;
    type Error = Fault;

    async fn create(&self) -> Result<Box<Link>, Fault> {
        self.0.connect().await.map(Box::new)
    }

    async fn recycle(&self, link: &mut Box<Link>, _: &Metrics) -> RecycleResult<Fault> {
        if link.is_idle() && !link.client.is_closed() {
            Ok(())
        } else {
            Err(RecycleError::message("left in use, or closed"))
        }
    }
}
