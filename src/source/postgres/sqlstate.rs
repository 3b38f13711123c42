//! What an error of the client library means for the router: the one place that knows SQLSTATEs.

use super::super::{Fault, FaultKind};
use std::error::Error as StdError;
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

/// Who wrote the statement that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Author {
    /// This crate: whatever is wrong with it, is wrong with the server or the role.
    Us,
    /// The application, on a server in recovery.
    ReaderOnStandby,
    /// The application, on the primary.
    OnPrimary,
    /// The application, with the COMMIT of a transaction that was in order until then.
    AtCommit,
}

/// What a SQLSTATE means.
pub(super) fn kind_of(state: &SqlState, author: Author) -> FaultKind {
    let code = state.code();
    match code {
        "25006" => FaultKind::WrongRole,
        // "recovery is in progress", and the reverse. Elsewhere 55000 is any object in any unfit state.
        "55000" if author == Author::Us => FaultKind::WrongRole,
        // A standby has no serialization failures of its own: class 40 there is a conflict with replay, 57P04 a
        // replayed DROP DATABASE. On the primary 40001 and 40P01 belong to the statement; at COMMIT there is none left.
        "40001" | "40P01" | "57P04" if author == Author::ReaderOnStandby => FaultKind::Conflict,
        // Ours take no locks and are never serialized: on a standby they are in the way of replay, as an open snapshot is.
        "40001" | "40P01" if matches!(author, Author::AtCommit | Author::Us) => FaultKind::Conflict,
        // A limit that the application set (statement_timeout) or an operator's pg_cancel_backend: recovery cancels with
        // the codes above, and what we give up ourselves, nobody waits for. Of our own statements none is slow.
        "57014" if author == Author::Us => FaultKind::TimedOut,
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => FaultKind::Down,
        "53300" => FaultKind::Busy,
        "3D000" | "42501" | "42883" | "42P01" if author == Author::Us => FaultKind::Misconfigured,
        // A prepared statement is missing or was prepared by somebody else: an undeclared pooler stands between.
        "26000" | "42P05" => FaultKind::Misconfigured,
        _ if code.starts_with("08") => FaultKind::Down,
        _ if code.starts_with("28") => FaultKind::Misconfigured,
        _ => FaultKind::Statement,
    }
}

/// What an error means.
pub(super) fn kind(error: &Error, author: Author) -> FaultKind {
    match error.code() {
        Some(state) => kind_of(state, author),
        None if error.is_closed() || is_io(error) => FaultKind::Down,
        // Only our own statements run while connecting. Without a server's answer and with a working socket it is
        // TLS, the authentication method or a setting of the client that does not fit.
        None if author == Author::Us => FaultKind::Misconfigured,
        None => FaultKind::Statement,
    }
}

fn is_io(error: &Error) -> bool {
    let io = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    // rustls reports a refused certificate as invalid data: no other attempt will end differently.
    io.is_some_and(|io| io.kind() != std::io::ErrorKind::InvalidData)
}

/// Whether the connection can be used after this answer: the server reported an error and went on.
pub(super) fn is_clean<T>(answer: &Result<T, Error>) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) => error.as_db_error().is_some_and(|db| db.parsed_severity() == Some(Severity::Error)),
    }
}

/// The error as a fault of `node` while it was `doing` something.
///
/// The text names the SQLSTATE, never the server's message: that can quote values of the application.
pub(super) fn fault(node: &str, author: Author, doing: &str, error: Error) -> Fault {
    let kind = kind(&error, author);
    let what = match (error.code(), kind) {
        (Some(state), _) => format!("{doing}: the server answered {}", told(state)),
        (None, FaultKind::Down) => format!("{doing}: the connection failed{}", system_reason(&error)),
        (None, _) => format!("{doing}: {}", connect_hint(&error)),
    };
    Fault::new(kind, node, what).caused_by(error)
}

/// What the operating system said, where it was asked: that nobody listens there, or that the name is not known.
fn system_reason(error: &Error) -> String {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.map(|cause| format!(" ({cause})")).unwrap_or_default()
}

/// The SQLSTATE, with a word to those that a configuration mends.
pub(super) fn told(state: &SqlState) -> String {
    let hint = match state.code() {
        "28P01" | "28000" => " (credentials or pg_hba.conf)",
        "3D000" => " (the database does not exist)",
        "42501" => " (the role lacks a privilege)",
        "53300" => " (too many clients)",
        "57P03" => " (starting up or shutting down)",
        "26000" | "42P05" => {
            " (prepared statements do not survive here; if a pooler stands in between, say so with pooled(true))"
        }
        _ => "",
    };
    [state.code(), hint].concat()
}

fn connect_hint(error: &Error) -> &'static str {
    // The client library keeps its kinds of error to itself; their texts carry no values.
    let text = error.to_string();
    if text.contains("TLS") {
        "TLS failed; check the certificate's chain and host name, or give root_certificates, or say sslmode=disable"
    } else if text.contains("password") || text.contains("authentication") || text.contains("configuration") {
        "the credentials do not fit what the server asks for"
    } else {
        "the client library refused"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_the_router_acts_on() {
        use Author::{AtCommit, OnPrimary, ReaderOnStandby, Us};
        let table = [
            ("25006", OnPrimary, FaultKind::WrongRole),
            ("55000", Us, FaultKind::WrongRole),
            ("55000", OnPrimary, FaultKind::Statement),
            ("40001", ReaderOnStandby, FaultKind::Conflict),
            ("40001", OnPrimary, FaultKind::Statement),
            ("40P01", ReaderOnStandby, FaultKind::Conflict),
            ("57P04", ReaderOnStandby, FaultKind::Conflict),
            ("40001", Us, FaultKind::Conflict),
            ("40P01", Us, FaultKind::Conflict),
            ("57P01", ReaderOnStandby, FaultKind::Down),
            ("57P02", OnPrimary, FaultKind::Down),
            ("57P03", Us, FaultKind::Down),
            ("08006", OnPrimary, FaultKind::Down),
            ("40001", AtCommit, FaultKind::Conflict),
            ("40P01", AtCommit, FaultKind::Conflict),
            ("23505", AtCommit, FaultKind::Statement),
            ("57014", Us, FaultKind::TimedOut),
            ("57014", OnPrimary, FaultKind::Statement),
            ("57014", ReaderOnStandby, FaultKind::Statement),
            ("53300", Us, FaultKind::Busy),
            ("28P01", Us, FaultKind::Misconfigured),
            ("3D000", Us, FaultKind::Misconfigured),
            ("42501", Us, FaultKind::Misconfigured),
            ("42501", OnPrimary, FaultKind::Statement),
            ("26000", OnPrimary, FaultKind::Misconfigured),
            ("23505", OnPrimary, FaultKind::Statement),
            ("25P02", OnPrimary, FaultKind::Statement),
            ("42P01", ReaderOnStandby, FaultKind::Statement),
        ];
        for (code, author, kind) in table {
            assert_eq!(kind_of(&SqlState::from_code(code), author), kind, "{code} by {author:?}");
        }
    }
}
