//! What can go wrong when servers are started and broken on purpose.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// A failure of the testkit itself, never of the code under test.
///
/// The message names the command, the end of the server's log and what to do about it; the
/// predicates say what a caller can decide.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TestkitError {
    /// A server program is not installed.
    #[error("`{program}` was not found: {advice}")]
    MissingBinary {
        /// The program that was looked for.
        program: &'static str,
        /// What to install, and how to point at it.
        advice: &'static str,
    },
    /// A program could not be started at all.
    #[error("could not start `{command}`: {source}")]
    Spawn {
        /// The whole command line.
        command: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A server ended while it was expected to become ready.
    #[error(
        "{server} ended ({status}) before it was ready\ncommand: {command}\nlog: {}\n{log_tail}",
        log.display()
    )]
    Exited {
        /// The name of the server, for instance `replica0`.
        server: String,
        /// How it ended.
        status: ExitStatus,
        /// The whole command line.
        command: String,
        /// The log file.
        log: PathBuf,
        /// The last lines of the log.
        log_tail: String,
    },
    /// A helper program such as `initdb` failed.
    #[error("`{command}` failed ({status})\n{output}")]
    Command {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it printed.
        output: String,
    },
    /// Something did not happen in time.
    #[error("waited {after:?} for {waiting_for}\n{detail}")]
    Timeout {
        /// What was waited for.
        waiting_for: String,
        /// How long.
        after: Duration,
        /// The last lines of the log, or what to look at.
        detail: String,
    },
    /// The server is stopped or killed, or its owner was dropped.
    #[error("{server} is not running: {advice}")]
    NotRunning {
        /// The name of the server.
        server: String,
        /// What would help.
        advice: &'static str,
    },
    /// A file or folder could not be made, read or removed.
    #[error("could not {doing} {}: {source}", path.display())]
    Folder {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No free TCP port was found.
    #[error("no free TCP port among {tried} tried; are many clusters running?")]
    NoFreePort {
        /// How many ports were tried.
        tried: u32,
    },
    /// PostgreSQL refused a connection or a statement.
    #[error("{server}: {doing} failed: {source}")]
    Postgres {
        /// The name of the server.
        server: String,
        /// The statement, or `connect`.
        doing: String,
        /// What PostgreSQL said.
        source: tokio_postgres::Error,
    },
    /// Redis refused a connection or a command.
    #[error("{server}: {doing} failed: {source}")]
    Redis {
        /// The name of the server.
        server: String,
        /// The command, or `connect`.
        doing: &'static str,
        /// What Redis said.
        source: redis::RedisError,
    },
    /// What was asked for makes no sense.
    #[error("{message}")]
    Unsuitable {
        /// Why not, and what to do instead.
        message: String,
    },
}

/// The message itself: a test that returns this error prints it so, and a log is read by lines.
impl fmt::Debug for TestkitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl TestkitError {
    /// The server is not installed: skip the test, or install what the message says.
    #[must_use]
    pub const fn is_missing_binary(&self) -> bool {
        matches!(self, Self::MissingBinary { .. })
    }

    /// Something took too long: the machine may just be busy.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// The server is down, so the call had nobody to talk to.
    #[must_use]
    pub const fn is_not_running(&self) -> bool {
        matches!(self, Self::NotRunning { .. })
    }

    /// The server gave up while starting; its log says why.
    #[must_use]
    pub const fn is_exited(&self) -> bool {
        matches!(self, Self::Exited { .. })
    }

    /// Makes the closure that [`Result::map_err`] wants for a failed file operation.
    pub(crate) fn folder(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Folder {
            doing,
            path,
            source,
        }
    }
}
