//! Everything that the model remembers.

use highwater::internals::log::{Ear, Log, Retraction};
use highwater::internals::rules::{Client, KEYS, Knowledge};

/// Writes by their number, one bit each.
pub(super) type Writes = u8;

/// A record of the primary's log is ten bytes; the first one is nobody's.
pub(super) const RECORD: u64 = 10;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) primary: Primary,
    pub(super) redis: Redis,
    pub(super) reader: Reader,
    pub(super) writes: Vec<Write>,
    pub(super) clients: [Session; 2],
    pub(super) spent: Spent,
}

/// How much of what is bounded has been used.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Spent {
    pub(super) crashes: u8,
    pub(super) failovers: u8,
    pub(super) losses: u8,
    pub(super) calls: u8,
    pub(super) deafs: u8,
    pub(super) deaths: u8,
    pub(super) leases: u8,
    pub(super) fillers: u8,
    pub(super) handed_over: u8,
    pub(super) renewals: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Primary {
    /// The number of the write that a record commits, or nothing.
    pub(super) log: Vec<Option<u8>>,
    /// How many records survive a crash.
    pub(super) flushed: usize,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Redis {
    /// The replication id, and how many there were.
    pub(super) server: u64,
    pub(super) servers: u64,
    pub(super) log: Log,
    /// An older copy, and the server that was left for it.
    pub(super) copy: Option<Log>,
    pub(super) left: Option<(u64, Log)>,
}

/// The instance that holds entries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Reader {
    pub(super) knowledge: Knowledge,
    pub(super) ear: Ear,
    pub(super) live: bool,
    pub(super) whole: bool,
    /// The log that is heard, and the history and the watermark that it spoke of last.
    pub(super) lineage: Option<u64>,
    pub(super) covered: (u64, u64),
    /// What was published through the open subscription and has not arrived.
    pub(super) queue: Vec<Vec<u8>>,
    /// A question to the log: its lineage, and after which message.
    pub(super) question: Option<(u64, u64)>,
    /// A position of the primary that was read as the start of this round of hearing.
    pub(super) start: Option<u64>,
    /// What raises a floor only in the next step, where that is wrong.
    pub(super) half: Option<Retraction>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// For the property: the writes that it was told are committed.
    pub(super) told: Writes,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Write {
    pub(super) session: usize,
    pub(super) key: usize,
    /// Which name its instance has for the history.
    pub(super) name: usize,
    /// The position that it was begun at.
    pub(super) above: u64,
    pub(super) stage: Stage,
    /// An announcement is on its way that nobody waits for any more.
    pub(super) late: bool,
    /// The log did not take the retraction at this position.
    pub(super) untold: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// The commit may be sent; the log that acknowledged the announcement, if one did.
    Announced(Option<u64>),
    /// The record is in the primary's log.
    Committed(Option<u64>),
    /// The token was read.
    Placed(Option<u64>, u64),
    Over,
}

pub(super) fn bit(write: usize) -> Writes {
    1 << write
}

impl Primary {
    pub(super) fn insert(&self) -> u64 {
        self.log.len() as u64 * RECORD
    }

    pub(super) fn flush(&self) -> u64 {
        self.flushed as u64 * RECORD
    }

    pub(super) fn commits(&self, records: usize) -> Writes {
        self.log.iter().take(records).flatten().fold(0, |all, write| all | bit(usize::from(*write)))
    }

    pub(super) fn is_flushed(&self, write: usize) -> bool {
        self.commits(self.flushed) & bit(write) != 0
    }
}

impl State {
    pub(super) fn new(knowledge: Knowledge) -> Self {
        let session = Session { client: Client::new(false), told: 0 };
        Self {
            primary: Primary { log: vec![None], flushed: 1 },
            redis: Redis { server: 0, servers: 1, log: Log::new(1), copy: None, left: None },
            reader: Reader {
                knowledge,
                ear: Ear::default(),
                live: false,
                whole: false,
                lineage: None,
                covered: (0, 0),
                queue: Vec::new(),
                question: None,
                start: None,
                half: None,
            },
            writes: Vec::new(),
            clients: [session.clone(), session],
            spent: Spent::default(),
        }
    }

    /// The writes of a key.
    pub(super) fn of_key(&self, key: usize) -> Writes {
        let of_key = self.writes.iter().enumerate().filter(|(_, write)| write.key == key);
        of_key.fold(0, |all, (at, _)| all | bit(at))
    }

    pub(super) fn keys() -> std::ops::Range<usize> {
        0..KEYS
    }
}
