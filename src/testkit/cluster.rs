//! A PostgreSQL primary with its replicas.

use rustix::process::Signal;

use crate::testkit::home::Home;
use crate::testkit::node::Node;
use crate::testkit::{ClusterBuilder, TestkitError};

/// A primary and its streaming replicas, in a temporary folder, gone when dropped.
///
/// Dropping blocks for some tens of milliseconds while the servers end. If the thread is panicking
/// the logs are kept, and their folder is printed.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    primary: Node,
    home: Home,
}

impl Cluster {
    /// Describes a cluster; without further words it is a lone primary.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// Starts a primary with `replicas` replicas and the default settings.
    ///
    /// # Errors
    ///
    /// As [`ClusterBuilder::start`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends what was started and removes its folder.
    pub async fn start(replicas: usize) -> Result<Self, TestkitError> {
        Self::builder().replicas(replicas).start().await
    }

    pub(crate) fn new(primary: Node, replicas: Vec<Node>, home: Home) -> Self {
        let nodes = std::iter::once(primary.clone()).chain(replicas).collect();
        Self {
            nodes,
            primary,
            home,
        }
    }

    /// The node that was made as the primary; a promotion does not change which one that is.
    #[must_use]
    pub fn primary(&self) -> &Node {
        &self.primary
    }

    /// The replica with this number, from 0.
    ///
    /// # Panics
    ///
    /// If the cluster was made with fewer replicas.
    #[must_use]
    #[expect(
        clippy::panic,
        reason = "a wrong number is a bug of the test, best met where it is"
    )]
    pub fn replica(&self, index: usize) -> &Node {
        self.replicas().nth(index).unwrap_or_else(|| {
            panic!(
                "no replica {index}: the cluster has {}",
                self.nodes.len() - 1
            )
        })
    }

    /// The nodes that were made as replicas.
    pub fn replicas(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().skip(1)
    }

    /// All nodes, the primary first.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The temporary folder with the data and the logs.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.home.path()
    }

    /// Waits until every running replica has replayed all that the primary has written.
    ///
    /// # Errors
    ///
    /// If a replica does not get there in time, or is down.
    ///
    /// # Cancellation
    ///
    /// Safe: it only waits.
    pub async fn wait_for_catchup(&self) -> Result<(), TestkitError> {
        for replica in self.replicas() {
            replica.wait_for_catchup(&self.primary).await?;
        }
        Ok(())
    }

    pub(crate) fn keep_logs(&self, error: TestkitError) -> TestkitError {
        self.home.keep_logs(error)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The immediate shutdown, all at once: unlike a kill it lets each postmaster give its
        // shared memory back.
        for node in &self.nodes {
            node.server().ask_to_end(Signal::QUIT);
        }
        for node in &self.nodes {
            node.retire();
        }
    }
}
