//! What can go wrong, as questions that a caller can act on.

use crate::Position;
use crate::digest::KEY_BYTES_MAX;
use crate::source::{Fault, FaultKind};
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// An error of highwater itself. Cheap to clone: one failed load may be told to many readers.
///
/// What happened is in the text, what to do about it in the predicates, and the chain of causes in
/// [`source`](StdError::source).
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Debug)]
enum Kind {
    Configuration(String),
    Key { cache: String, problem: String },
    Source(Fault),
    Unavailable(String),
    TimedOut(&'static str),
    Overloaded(&'static str),
    NotFresh(String),
    WriteLost(Option<Position>),
    LoaderPanicked,
    Closed,
}

impl Error {
    fn from_kind(kind: Kind) -> Self {
        Self(Arc::new(Inner { kind, cause: None }))
    }

    fn with_cause(kind: Kind, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { kind, cause: Some(Box::new(cause)) }))
    }

    pub(crate) fn configuration(text: impl Into<String>) -> Self {
        Self::from_kind(Kind::Configuration(text.into()))
    }

    pub(crate) fn configuration_because(text: impl Into<String>, cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::with_cause(Kind::Configuration(text.into()), cause)
    }

    pub(crate) fn key_unserializable(cache: &str, cause: impl StdError + Send + Sync + 'static) -> Self {
        let problem = "it cannot be serialized; give it a serde form that bincode can write".to_owned();
        Self::with_cause(Kind::Key { cache: cache.to_owned(), problem }, cause)
    }

    pub(crate) fn key_too_long(cache: &str, bytes: usize) -> Self {
        let problem = format!("its serialized form has {bytes} bytes, and the limit is {KEY_BYTES_MAX}");
        Self::from_kind(Kind::Key { cache: cache.to_owned(), problem })
    }

    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::from_kind(Kind::Unavailable(text.into()))
    }

    pub(crate) fn timed_out(doing: &'static str) -> Self {
        Self::from_kind(Kind::TimedOut(doing))
    }

    pub(crate) fn overloaded(what: &'static str) -> Self {
        Self::from_kind(Kind::Overloaded(what))
    }

    pub(crate) fn not_fresh(text: impl Into<String>) -> Self {
        Self::from_kind(Kind::NotFresh(text.into()))
    }

    pub(crate) fn write_lost(position: Option<Position>) -> Self {
        Self::from_kind(Kind::WriteLost(position))
    }

    pub(crate) fn loader_panicked() -> Self {
        Self::from_kind(Kind::LoaderPanicked)
    }

    pub(crate) fn closed() -> Self {
        Self::from_kind(Kind::Closed)
    }

    /// The configuration is wrong; the text names the setting and the remedy.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(&self.0.kind, Kind::Configuration(_))
            || matches!(&self.0.kind, Kind::Source(fault) if fault.kind == FaultKind::Misconfigured)
    }

    /// The key cannot be used: too long, or not serializable.
    #[must_use]
    pub fn is_key(&self) -> bool {
        matches!(self.0.kind, Kind::Key { .. })
    }

    /// A server was needed and could not serve: down, frozen, or not what it should be.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        use FaultKind::{Down, Foreign, TimedOut, Unproven, WrongRole};
        let serves_not = |kind| matches!(kind, Down | TimedOut | WrongRole | Foreign | Unproven);
        matches!(&self.0.kind, Kind::Unavailable(_))
            || matches!(&self.0.kind, Kind::Source(fault) if serves_not(fault.kind))
    }

    /// The deadline passed. What was asked for may be tried again.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(&self.0.kind, Kind::TimedOut(_))
            || matches!(&self.0.kind, Kind::Source(fault) if fault.kind == FaultKind::TimedOut)
    }

    /// A limit on concurrent work was reached. Back off and try again.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        matches!(&self.0.kind, Kind::Overloaded(_))
            || matches!(&self.0.kind, Kind::Source(fault) if fault.kind == FaultKind::Busy)
    }

    /// The very same may succeed a moment later: a server was away, silent, busy or behind, or another transaction had to
    /// go first. Back off before trying again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let conflict = matches!(&self.0.kind, Kind::Source(fault) if fault.kind == FaultKind::Conflict);
        conflict || self.is_unavailable() || self.is_timeout() || self.is_overloaded() || self.is_not_fresh()
    }

    /// No permitted server reached the floor in time, and the read's policy forbids anything less.
    #[must_use]
    pub fn is_not_fresh(&self) -> bool {
        matches!(self.0.kind, Kind::NotFresh(_))
    }

    /// A write that the session was told was committed is not in the database's present history, or cannot be shown to
    /// be: a failover lost it. Tell the user, then call
    /// [`Highwater::accept_loss`](crate::Highwater::accept_loss).
    #[must_use]
    pub fn is_write_lost(&self) -> bool {
        matches!(self.0.kind, Kind::WriteLost(_))
    }

    /// The store was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.0.kind, Kind::Closed)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::from_kind(Kind::Source(fault))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::Configuration(text) => f.write_str(text),
            Kind::Key { cache, problem } => write!(f, "a key of cache {cache:?} cannot be used: {problem}"),
            Kind::Source(fault) => write!(f, "{fault}"),
            Kind::TimedOut(doing) => write!(f, "the deadline passed while {doing}"),
            Kind::Overloaded(what) => write!(f, "{what}"),
            Kind::NotFresh(text) | Kind::Unavailable(text) => f.write_str(text),
            Kind::WriteLost(Some(position)) => {
                write!(f, "a committed write at {position} is not in the database's present history: a failover lost it")
            }
            Kind::WriteLost(None) => f.write_str(
                "a committed write cannot be shown to be in the database's present history: a failover may have lost it",
            ),
            Kind::LoaderPanicked => f.write_str("the loader panicked"),
            Kind::Closed => f.write_str("the store is closed"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("cause", &self.0.cause).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Kind::Source(fault) = &self.0.kind {
            return StdError::source(fault);
        }
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
