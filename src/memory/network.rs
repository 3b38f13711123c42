//! The way to the servers: how long each step takes, and where a connection breaks.

use crate::source::NodeId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A step on the way to a server or back. Between any two of them other things may happen, there and here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Step {
    /// A new connection is opened.
    Connect,
    /// The server is asked for its position.
    Position,
    /// The server is asked for its timeline.
    Timeline,
    /// The server is asked which transactions are in progress.
    Quiesce,
    /// A statement of the loader or of a writer arrives.
    Statement,
    /// The answer to a statement or to a question comes back. What it tells was so when it set out.
    Answer,
    /// The server is asked for an upper bound of what it showed.
    Upper,
    /// A transaction begins.
    Begin,
    /// A COMMIT is on its way.
    Commit,
    /// The answer to a COMMIT comes back. Cut here, the outcome is unknown.
    Acknowledge,
    /// A ROLLBACK is on its way.
    Rollback,
    /// The server is asked for the token of a commit.
    Token,
    /// The monitor asks what the server is.
    Probe,
    /// The server is asked what became of a transaction.
    Outcome,
    /// The server is asked to move its log.
    Nudge,
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It gets through after this time.
    Pass(Duration),
    /// The connection breaks.
    Cut,
}

/// Decides over the steps between one instance and the servers. Without one, all pass at once.
#[derive(Clone)]
pub struct Network(Arc<dyn Fn(NodeId, Step) -> Fate + Send + Sync>);

impl Network {
    /// A network that asks `decide` at each step.
    pub fn new(decide: impl Fn(NodeId, Step) -> Fate + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }

    pub(super) fn decide(&self, node: NodeId, step: Step) -> Fate {
        (self.0)(node, step)
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new(|_, _| Fate::Pass(Duration::ZERO))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}
