//! Everything that the model remembers. What no real part knows, and only the properties look at, is marked as such.

use highwater::internals::rules::{Client, Demand, Fill, KEYS, Knowledge, Stored};

/// Writes by their number, one bit each.
pub(crate) type Writes = u16;

/// A record of the log is ten bytes; the first one is nobody's.
pub(crate) const RECORD: u64 = 10;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// The first primary and its standby.
    pub(crate) servers: [Server; 2],
    pub(crate) instances: Vec<Instance>,
    pub(crate) clients: Vec<Session>,
    pub(crate) redis: Redis,
    /// Retractions on their way: to which instance or, as a marker, to Redis; which key; where.
    pub(crate) bus: Vec<(Option<usize>, usize, (u32, u64))>,
    /// Which key each write is of.
    pub(crate) writes: Vec<usize>,
    pub(crate) spent: Spent,
    /// What was broken.
    pub(crate) broken: Option<&'static str>,
}

/// How much of what is bounded has been used.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) crashes: u8,
    pub(crate) promotions: u8,
    pub(crate) fallbacks: u8,
    pub(crate) fillers: u8,
    pub(crate) lost_answers: u8,
    pub(crate) handed_over: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Server {
    pub(crate) up: bool,
    pub(crate) primary: bool,
    pub(crate) timeline: u32,
    /// Where the parent of its timeline ended.
    pub(crate) switch: Option<u64>,
    /// The number of the write that a record commits, or nothing.
    pub(crate) log: Vec<Option<u8>>,
    /// How many records survive a crash.
    pub(crate) flushed: usize,
    /// How many records a standby has replayed, and how many it says.
    pub(crate) applied: usize,
    pub(crate) reported: usize,
    /// The commits that a snapshot contains.
    pub(crate) visible: Writes,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Instance {
    pub(crate) knowledge: Knowledge,
    pub(crate) local: [Option<Entry>; KEYS],
    pub(crate) flights: [Option<Flight>; KEYS],
    /// For the properties: the writes whose retraction was made or heard here.
    pub(crate) retracted: Writes,
}

/// A fill, with what its snapshot contained: for the properties.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) fill: Fill,
    pub(crate) reflects: Writes,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Flight {
    pub(crate) wanted: Demand,
    /// What was known when the load was closed.
    pub(crate) closed_in: Knowledge,
    pub(crate) stage: Stage,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stage {
    Boarding,
    /// The position was read; on the primary perhaps with the commits to be waited for.
    Positioned {
        server: usize,
        as_primary: bool,
        timeline: u32,
        position: u64,
        awaited: Writes,
    },
    /// The data was read.
    Read {
        entry: Entry,
        as_primary: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) busy: Busy,
    /// For the properties: the writes that it was told are committed, and those that it was shown.
    pub(crate) told: Writes,
    pub(crate) shown: Writes,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Busy {
    Idle,
    Reading(Reading),
    /// The commit is in the log of a server.
    Writing {
        write: u8,
        server: usize,
        timeline: u32,
        instance: usize,
    },
    /// Its connection was lost.
    Unresolved {
        write: u8,
        timeline: u32,
        instance: usize,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reading {
    pub(crate) key: usize,
    pub(crate) instance: usize,
    pub(crate) demand: Demand,
    pub(crate) entitled: bool,
    /// For the properties, all as they were when the read began: the history, its own writes, what it was shown, what was
    /// retracted.
    pub(crate) timeline: u32,
    pub(crate) told: Writes,
    pub(crate) shown: Writes,
    pub(crate) retracted: Writes,
}

/// One slot for each key and timeline, and an older copy of all.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Redis {
    pub(crate) slots: [[Option<(Stored, Writes)>; KEYS]; 2],
    pub(crate) copy: Option<[[Option<(Stored, Writes)>; KEYS]; 2]>,
}

pub(crate) fn bit(write: u8) -> Writes {
    1 << write
}

impl Server {
    fn new(primary: bool) -> Self {
        Self {
            up: true,
            primary,
            timeline: 1,
            switch: None,
            log: vec![None],
            flushed: 1,
            applied: 1,
            reported: 1,
            visible: 0,
        }
    }

    pub(crate) fn insert(&self) -> u64 {
        self.log.len() as u64 * RECORD
    }

    pub(crate) fn flush(&self) -> u64 {
        self.flushed as u64 * RECORD
    }

    pub(crate) fn commits(&self, records: usize) -> Writes {
        self.log.iter().take(records).flatten().fold(0, |all, write| all | bit(*write))
    }
}

impl State {
    pub(crate) fn new(instances: usize, sessions: usize, monotonic: bool) -> Self {
        let instance =
            Instance { knowledge: Knowledge::default(), local: [None; KEYS], flights: [None, None], retracted: 0 };
        let session = |monotonic| Session { client: Client::new(monotonic), busy: Busy::Idle, told: 0, shown: 0 };
        Self {
            servers: [Server::new(true), Server::new(false)],
            instances: vec![instance; instances],
            clients: (0..sessions).map(|at| session(monotonic && at > 0)).collect(),
            redis: Redis::default(),
            bus: Vec::new(),
            writes: Vec::new(),
            spent: Spent::default(),
            broken: None,
        }
    }

    /// The server that takes writes: the one on the highest timeline.
    pub(crate) fn primary(&self) -> Option<usize> {
        let primaries = (0..2).filter(|at| self.servers[*at].up && self.servers[*at].primary);
        primaries.max_by_key(|at| self.servers[*at].timeline)
    }

    /// The writes that the history of this timeline has lost.
    pub(crate) fn lost(&self, timeline: u32) -> Writes {
        let [old, new] = &self.servers;
        if timeline == 1 { 0 } else { old.commits(usize::MAX) & !new.commits(usize::MAX) }
    }

    /// The writes of a key.
    pub(crate) fn of_key(&self, key: usize) -> Writes {
        let of_key = self.writes.iter().enumerate().filter(|(_, of)| **of == key);
        of_key.fold(0, |all, (write, _)| all | bit(write as u8))
    }
}
