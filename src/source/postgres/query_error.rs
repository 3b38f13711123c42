//! What a loader's or a writer's statement can fail with.

use super::super::{Fault, FaultKind};
use super::sqlstate::{self, Author};
use std::error::Error as StdError;
use std::fmt;
use tokio_postgres::error::{DbError, SqlState};

/// An error of a statement, for the application's own code to return with `?` or to look into.
pub struct QueryError(Kind);

enum Kind {
    /// From the server of this name; empty where a row was read afterwards.
    Client(String, tokio_postgres::Error),
    Fault(Fault),
    Refused(String),
    Rows {
        wanted: &'static str,
        found: usize,
    },
}

impl QueryError {
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self(Kind::Refused(text.into()))
    }

    pub(super) fn rows(wanted: &'static str, found: usize) -> Self {
        Self(Kind::Rows { wanted, found })
    }

    pub(super) fn from_server(node: &str, error: tokio_postgres::Error) -> Self {
        Self(Kind::Client(node.to_owned(), error))
    }

    /// What the server answered, where it answered. Its texts can quote values of the statement.
    #[must_use]
    pub fn as_db_error(&self) -> Option<&DbError> {
        match &self.0 {
            Kind::Client(_, error) => error.as_db_error(),
            _ => None,
        }
    }

    /// The server's SQLSTATE, where it answered.
    #[must_use]
    pub fn code(&self) -> Option<&SqlState> {
        self.as_db_error().map(DbError::code)
    }

    /// The statement was not sent, because it does not belong on this connection.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.0, Kind::Refused(_))
    }

    /// The server did not answer in time. A limit of the server's own (`statement_timeout`) is an answer: 57014.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(&self.0, Kind::Fault(fault) if fault.kind == FaultKind::TimedOut)
    }

    /// Begun anew, the whole transaction may succeed: it could not be serialized (40001), was in a deadlock (40P01), or the
    /// connection to the server was lost or silent. A load is tried elsewhere without the loader's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.0 {
            Kind::Client(_, error) => {
                let kind = sqlstate::kind(error, Author::AtCommit);
                matches!(kind, FaultKind::Conflict | FaultKind::Down | FaultKind::WrongRole | FaultKind::Busy)
            }
            Kind::Fault(fault) => fault.is_worth_another_server() && fault.kind != FaultKind::Misconfigured,
            Kind::Refused(_) | Kind::Rows { .. } => false,
        }
    }
}

impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(Kind::Client(String::new(), error))
    }
}

impl From<Fault> for QueryError {
    fn from(fault: Fault) -> Self {
        Self(Kind::Fault(fault))
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Client(node, error) if node.is_empty() => error.fmt(f),
            Kind::Client(node, error) => write!(f, "{node}: {error}"),
            Kind::Fault(fault) => fault.fmt(f),
            Kind::Refused(text) => f.write_str(text),
            Kind::Rows { wanted, found } => write!(f, "the statement returned {found} rows where {wanted} was wanted"),
        }
    }
}

impl fmt::Debug for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Client(node, error) => f.debug_tuple("QueryError").field(node).field(error).finish(),
            Kind::Fault(fault) => f.debug_tuple("QueryError").field(fault).finish(),
            Kind::Refused(_) | Kind::Rows { .. } => write!(f, "QueryError({self})"),
        }
    }
}

impl StdError for QueryError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Kind::Client(_, error) => error.source(),
            Kind::Fault(fault) => fault.source(),
            Kind::Refused(_) | Kind::Rows { .. } => None,
        }
    }
}
