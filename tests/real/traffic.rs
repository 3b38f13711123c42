//! Sessions that write and read on several instances, and the history of what they were told.

use crate::support::{Instance, Result, WRITE};
use highwater::source::Outcome as Fate;
use highwater::testkit::history::{
    Ask, KeyId, Kind, Limits, OpId, Outcome, Recorder, Replacement, Seen, SessionId, Verdict, check,
};
use highwater::{Error, Freshness, Position, Read, ReadError, ReadOptions, Session, WriteError};
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How many sessions work at a time; every third one asks for monotonic reads.
const SESSIONS: u64 = 6;

/// How many rows they fight for.
const ROWS: i64 = 5;

/// The first row of the next traffic: a history begins with rows that nobody has written.
static NEXT_ROW: AtomicI64 = AtomicI64::new(1_000);

/// Running sessions.
pub(crate) struct Traffic {
    clients: JoinSet<()>,
    world: Arc<World>,
}

struct World {
    recorder: Recorder,
    begun: Instant,
    over: AtomicBool,
    first_row: i64,
}

struct Client {
    id: SessionId,
    session: Session,
    instances: Vec<Instance>,
    world: Arc<World>,
}

impl Traffic {
    /// Sets sessions going, each on all of the instances.
    pub(crate) fn over(instances: &[&Instance]) -> Self {
        let first_row = NEXT_ROW.fetch_add(ROWS, Ordering::SeqCst);
        let (recorder, over) = (Recorder::new(), AtomicBool::new(false));
        let world = Arc::new(World { recorder, begun: Instant::now(), over, first_row });
        let mut clients = JoinSet::new();
        for id in 0..SESSIONS {
            let client = Client {
                id: SessionId(id),
                session: if id % 3 == 0 { Session::monotonic() } else { Session::new() },
                instances: instances.iter().map(|instance| (*instance).clone()).collect(),
                world: Arc::clone(&world),
            };
            clients.spawn(client.work());
        }
        Self { clients, world }
    }

    /// The rows that are written and read.
    pub(crate) fn rows(&self) -> impl Iterator<Item = i64> {
        self.world.first_row..self.world.first_row + ROWS
    }

    /// Notes that history is about to be replaced.
    pub(crate) fn replaced(&self) -> Replacement {
        let at = self.world.at();
        self.world.recorder.record(|history| history.replaced(at))
    }

    /// Notes what the replacement lost of a row of which `version` survived.
    pub(crate) fn lost(&self, replacement: Replacement, id: i64, version: u64) -> usize {
        self.world.recorder.record(|history| {
            let lost = history.above(key(id), version);
            lost.iter().for_each(|&(write, version)| history.lose(replacement, write, version));
            lost.len()
        })
    }

    /// Ends the sessions, and holds what they were told against the promise.
    pub(crate) async fn end(mut self) -> Result<Verdict> {
        self.world.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        let verdict = check(&self.world.recorder.history(), &Limits::default());
        let tally = verdict.tally();
        println!("{} reads of {}, {} writes", tally.reads_answered(), tally.reads, tally.committed);
        println!("answered by {:?}, {} behind the newest write", tally.answered, tally.behind);
        assert_eq!(verdict.count(Kind::Malformed), 0, "{verdict}");
        assert!(verdict.is_ok(), "{verdict}");
        assert!(tally.reads_answered() > 50 && tally.committed > 20, "too little was done to show anything: {verdict}");
        Ok(verdict)
    }
}

impl World {
    fn at(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }
}

impl Client {
    async fn work(self) {
        while !self.world.over.load(Ordering::SeqCst) {
            let (think, draw) = (rand::rng().random_range(0..8), rand::rng().random_range(0..100));
            sleep(Duration::from_millis(think)).await;
            let on = &self.instances[rand::rng().random_range(0..self.instances.len())];
            let id = self.world.first_row + rand::rng().random_range(0..ROWS);
            if draw < 30 { self.write(on, id).await } else { self.read(on, id, draw).await }
        }
    }

    async fn read(&self, on: &Instance, id: i64, draw: i32) {
        let (freshness, ask) = match draw {
            95.. => (Freshness::Latest, Ask::latest().own_writes()),
            90.. => (Freshness::Within(Duration::from_millis(500)), Ask::within(500_000).own_writes()),
            _ => (Freshness::Session, Ask::session()),
        };
        let ask = if self.session.is_monotonic() { ask.monotonic() } else { ask };
        let at = self.world.at();
        let op = self.world.recorder.record(|history| history.read(at, self.id, key(id), ask));
        let read = on.rows.get_with(&self.session, &id, &ReadOptions::fresh(freshness)).await;
        let outcome = match &read {
            Ok(read) => Outcome::Saw(seen(read)),
            Err(_) => Outcome::Failed,
        };
        self.finish(op, outcome);
        let lost = read.as_ref().err().and_then(ReadError::as_cache).is_some_and(Error::is_write_lost);
        if lost {
            let at = self.world.at();
            self.world.recorder.record(|history| history.report_loss(at, self.id));
            on.store.accept_loss(&self.session);
        }
    }

    async fn write(&self, on: &Instance, id: i64) {
        let at = self.world.at();
        let op = self.world.recorder.record(|history| history.write(at, self.id, key(id)));
        let outcome = self.try_write(on, id, op).await.unwrap_or(Outcome::RolledBack);
        self.finish(op, outcome);
    }

    async fn try_write(&self, on: &Instance, id: i64, op: OpId) -> Result<Outcome> {
        let mut tx = on.store.begin(&self.session).await?;
        let name = if id % 2 == 0 { "even/row" } else { "row" };
        let version: i64 = tx.query_one(WRITE, &[&id, &op.0.cast_signed(), &name]).await?.get(0);
        let version = version.cast_unsigned();
        tx.retract(&on.rows, &id);
        match tx.commit().await {
            Ok(receipt) => Ok(Outcome::Committed { version, position: Some(place(receipt.position)) }),
            Err(WriteError::Unknown(unknown)) => match unknown.resolve().await {
                Fate::Committed => Ok(Outcome::Committed { version, position: None }),
                Fate::Aborted => Ok(Outcome::RolledBack),
                _ => Ok(Outcome::Unknown { version: Some(version) }),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn finish(&self, op: OpId, outcome: Outcome) {
        let at = self.world.at();
        self.world.recorder.record(|history| history.finish(at, op, outcome));
    }
}

fn key(id: i64) -> KeyId {
    KeyId(id.cast_unsigned())
}

fn seen(read: &Read<crate::support::Row>) -> Seen {
    Seen::of(read, |row| (row.version, OpId(row.op))).at(place(read.position))
}

/// A position as the checker compares it; timelines follow each other.
fn place(position: Position) -> u64 {
    u64::from(position.timeline.0) << 48 | position.lsn.offset()
}
