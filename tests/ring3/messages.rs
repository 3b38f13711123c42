//! What the parent and its workers say to each other: over one socket each, which is the worker's standard input.

use crate::Result;
use bincode::config::standard;
use bincode::serde::{decode_from_std_read, encode_into_std_write};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;

/// Where a worker is told what it works with.
pub(crate) const TASK: &str = "HIGHWATER_RING3_WORKER";

/// Nanoseconds, by the clock that all processes of a machine share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// What a worker works with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Which process it is, of all there ever were: sessions and operations are numbered by it.
    pub(crate) life: u64,
    pub(crate) nodes: Vec<String>,
    pub(crate) redis: String,
}

/// What the parent wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Clients are to work on the rows from this one on.
    Begin { row: i64 },
    /// A client of another process comes in with its token.
    Take { from: u64, token: String },
    /// To be answered with [`Report::Calm`] once every session was answered and every bus is live.
    Calm,
    /// To be answered with [`Report::Over`] once every client has finished what it was doing.
    End,
    /// To be answered with [`Report::Looked`]: what somebody without a token sees.
    Look { row: i64 },
    /// To be answered with [`Report::Wrote`]: one write, of which all others are to hear.
    Write { row: i64 },
    /// Retracts as many names as go into one message, a few times.
    Flood { row: i64 },
}

/// What was seen by a read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) version: u64,
    /// The write that the row names as its maker.
    pub(crate) maker: Option<u64>,
    /// 0 local, 1 shared, 2 replica, 3 primary.
    pub(crate) rung: u8,
    pub(crate) stale: bool,
    pub(crate) place: u64,
}

/// What a read asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    Own,
    Any,
    Latest,
    WithinMs(u64),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) session: u64,
    pub(crate) monotonic: bool,
    pub(crate) row: i64,
    pub(crate) wish: Wish,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    /// `None` is an error.
    pub(crate) shown: Option<Shown>,
}

/// How a write ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum End {
    Committed { version: u64, place: u64 },
    RolledBack,
    Unknown { version: u64 },
}

/// What belongs into the history. Times are of [`now`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Deed {
    WriteBegun {
        op: u64,
        session: u64,
        row: i64,
        at: u64,
    },
    WriteEnded {
        op: u64,
        end: End,
        at: u64,
    },
    Read(Reading),
    /// The session was told that a write is lost.
    LossTold {
        session: u64,
        at: u64,
    },
    /// The token of one session came to another.
    Took {
        from: u64,
        to: u64,
        at: u64,
    },
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Ready,
    Deed(Deed),
    /// The session holds this token now.
    Holds {
        session: u64,
        token: String,
    },
    /// The client goes to another process.
    Leaves {
        session: u64,
        token: String,
    },
    Calm,
    Over,
    Looked(Vec<u64>),
    Wrote(u64),
    /// Something that no fault excuses.
    Odd(String),
}

pub(crate) fn send(message: &impl Serialize, to: &mut impl Write) -> Result {
    encode_into_std_write(message, to, standard())?;
    Ok(())
}

/// The next message, or `None` where the other side is gone.
pub(crate) fn receive<T: for<'a> Deserialize<'a>>(from: &mut BufReader<UnixStream>) -> Option<T> {
    decode_from_std_read(from, standard()).ok()
}
