//! Clients: sessions that read and write, wait, give up, and hand each other their tokens.

mod reads;
mod stranger;

pub(crate) use self::stranger::stranger;
use crate::abandon;
use crate::instance::{Instance, Row, TABLE, group};
use crate::plan::Trouble;
use crate::world::{Left, World};
use highwater::memory::Source;
use highwater::source::{Outcome as Fate, Source as _};
use highwater::testkit::history::{Ask, KeyId, OpId, Outcome, Seen, SessionId};
use highwater::{
    Fallback, Freshness, Lsn, Position, Read, ReadError, ReadOptions, Retraction, Session, Token, WriteError,
};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Without the version that the write would have: if it did not happen, another made that version.
const UNKNOWN: Outcome = Outcome::Unknown { version: None };

/// Between the numbers of sessions that follow each other at one client.
const VISITOR: u64 = 1_000;

/// How long a client thinks when nothing goes wrong any more, or enough was done.
const REST_MS_MAX: u64 = 700;

/// How long a writer dawdles before its COMMIT.
const DAWDLE_MS_MAX: u64 = 2_000;

/// How many of its writes a client remembers.
const WROTE_MAX: usize = 4;

pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) world: Arc<World>,
    /// Where its instance stands, and the instance as of the operation under way.
    pub(crate) place: usize,
    pub(crate) on: Instance,
    pub(crate) session: Session,
    /// The token as it was with the last answer: what is left when the instance dies.
    pub(crate) token: Token,
    pub(crate) dice: StdRng,
    /// Where it goes is decided apart from what it does.
    pub(crate) road: StdRng,
    /// What it wrote lately, or took a token for.
    pub(crate) wrote: VecDeque<u64>,
    /// The last operation told of a loss.
    pub(crate) lost: bool,
    /// How many tokens it has left for others.
    pub(crate) left: u64,
    /// Its way to the servers that does not lead through the library.
    pub(crate) aside: Source,
}

impl Client {
    pub(crate) async fn run(mut self) {
        while !self.world.is_over() {
            let resting = self.world.is_calm() || self.world.is_enough();
            let think = if resting { REST_MS_MAX } else { self.world.plan.think_ms_max };
            let think = Duration::from_millis(self.dice.random_range(0..=think));
            tokio::select! {
                biased;
                () = sleep(think) => {}
                () = self.world.rush.notified() => {}
            }
            let burst = if resting { 1 } else { self.dice.random_range(1..=self.world.plan.burst) };
            for _ in 0..burst {
                self.step().await;
            }
        }
    }

    /// One operation, or as much of it as the instance lives for.
    async fn step(&mut self) {
        let now = self.world.instance(self.place);
        if now.number != self.on.number {
            self.on = now;
            self.go_on_elsewhere();
        }
        if self.chance(self.world.plan.roam_percent) {
            self.roam();
        }
        let write = self.dice.random_range(0..100) < self.world.plan.writes_percent;
        if self.dice.random_range(0..40) == 0 {
            self.leave();
        }
        match (write, self.dice.random_range(0..20)) {
            (_, 0) => self.meet(),
            (true, _) => self.write().await,
            (false, 1..3) => self.read_many().await,
            (false, 3) if self.world.plan.unfenced == 0 => self.read_at_least().await,
            (false, 4) if self.world.plan.roam_percent > 0 => self.read_twice().await,
            (false, 5) if self.world.plan.roam_percent > 0 && !self.world.is_calm() => self.read_for_another().await,
            (false, _) => self.read().await,
        }
        // Who is told of a loss accepts it, and asks again.
        if std::mem::take(&mut self.lost) {
            self.read().await;
        }
        self.token = self.session.token();
    }

    /// Goes away, and somebody else comes, who has seen nothing and written nothing.
    fn leave(&mut self) {
        let monotonic = self.session.is_monotonic();
        self.session = if monotonic { Session::monotonic() } else { Session::new() };
        self.id += VISITOR;
    }

    /// Goes to another instance: the session as an object, or as what is left of it in text.
    fn roam(&mut self) {
        let instances = self.world.plan.instances as usize;
        self.place = (self.place + self.road.random_range(1..instances.max(2))) % instances;
        let there = self.world.instance(self.place);
        if there.number != self.on.number && self.road.random_bool(0.3) {
            let text = serde_json::to_string(&self.session.token()).unwrap();
            self.token = serde_json::from_str(&text).unwrap();
            self.go_on_elsewhere();
        }
        self.on = there;
    }

    /// Its session died with the instance. What it saw there is forgotten, what it wrote is in its token.
    fn go_on_elsewhere(&mut self) {
        let (before, token) = (SessionId(self.id), std::mem::take(&mut self.token));
        self.leave();
        self.session.observe(&token);
        self.token = token;
        let at = self.world.at();
        self.world.recorder.record(|history| history.hand(at, before, SessionId(self.id)));
    }

    /// Leaves the token for others, or takes one that was left.
    fn meet(&mut self) {
        let world = Arc::clone(&self.world);
        let mut tokens = world.tokens.lock().unwrap();
        let me = SessionId(self.id);
        if self.dice.random_bool(0.5) {
            self.left += 1;
            let left = SessionId(1 << 40 | self.id << 20 | self.left);
            let (token, wrote) = (self.session.token(), self.wrote.clone());
            tokens.insert(self.id, Left { by: left, token, wrote });
            // What is handed over is what the giver was told by now: taken later it would be more.
            world.recorder.record(|history| history.hand(world.at(), me, left));
        } else if !tokens.is_empty() {
            let at = self.dice.random_range(0..tokens.len());
            if let Some(left) = tokens.values().nth(at) {
                self.session.observe(&left.token);
                world.recorder.record(|history| history.hand(world.at(), left.by, me));
                self.wrote.extend(&left.wrote);
                self.forget();
            }
        }
    }

    async fn write(&mut self) {
        let key = self.key();
        self.world.count();
        let at = self.world.at();
        let op = self.world.recorder.record(|history| history.write(at, SessionId(self.id), KeyId(key)));
        // After a failover nobody could say whether what was written aside is still there.
        let replaced = [Trouble::Promote, Trouble::Fork, Trouble::Restore];
        let safe = replaced.iter().all(|trouble| !self.world.plan.troubles.contains(trouble));
        let aside = self.dice.random_range(0..10) == 0 && safe;
        let (polls, by_group) = (self.polls(), self.dice.random_bool(0.3));
        let asynchronous = self.dice.random_range(0..100) < self.world.plan.asynchronous_percent;
        let first = self.chance(self.world.plan.named_first_percent);
        let slow = self.road_permille(self.world.plan.slow_writers_permille);
        let dawdle = Duration::from_millis(if slow { self.road.random_range(0..=DAWDLE_MS_MAX) } else { 0 });
        self.wrote.push_back(key);
        self.forget();
        let outcome = if aside {
            abandon::after(None, &self.on.death, self.write_aside(key, op)).await
        } else {
            let how = How { by_group, asynchronous, first, dawdle };
            let write = write(&self.on, &self.session, key, op, how);
            abandon::after(polls, &self.on.death, write).await
        };
        let (outcome, told) = outcome.unwrap_or((UNKNOWN, false));
        if let Outcome::Committed { position, .. } = outcome {
            let at = position.map(|place| Lsn::new(place & ((1 << 48) - 1)));
            self.world.note(format_args!("{op} committed at {at:?} through instance {}", self.on.number));
        }
        self.finish(op, outcome);
        if matches!(outcome, Outcome::Committed { .. }) {
            self.retracted(op, told);
            if self.chance(self.world.plan.follow_percent) {
                self.roam();
                self.read_one(key).await;
            }
        }
    }

    /// What was committed is retracted at its own instance, and in time at those that were told.
    fn retracted(&self, op: OpId, told: bool) {
        let world = Arc::clone(&self.world);
        for own in [self.on.id(), self.on.id_of_hearing()] {
            world.recorder.record(|history| history.retracted(world.at(), own, op));
        }
        let Some(time) = world.plan.told_within().filter(|_| told) else { return };
        tokio::spawn(async move {
            let others: Vec<_> = world.instances.lock().unwrap().iter().map(Instance::id_of_hearing).collect();
            sleep(time).await;
            for other in others {
                world.recorder.record(|history| history.retracted(world.at(), other, op));
            }
        });
    }

    /// A write through another client, captured by hand.
    async fn write_aside(&self, key: u64, op: OpId) -> (Outcome, bool) {
        let node = self.world.primary().await;
        let Ok(tx) = self.aside.begin(node, Instant::now() + Duration::from_secs(2)).await else {
            return (Outcome::RolledBack, false);
        };
        let outcome = stranger::write_raw(tx, key, op).await;
        if !matches!(outcome, Outcome::Committed { .. }) {
            return (outcome, false);
        }
        loop {
            let mut retraction = Retraction::new();
            retraction.key(&self.on.cache, &key);
            match self.on.store.capture(&self.session, retraction).await {
                Ok(receipt) => return (outcome, receipt.told),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Notices whether the instance has noticed that history was replaced.
    fn look(&self) {
        if self.on.is_renewed() {
            for own in [self.on.id(), self.on.id_of_hearing()] {
                self.world.recorder.record(|history| history.renewed(self.world.at(), own));
            }
        }
    }

    fn begin_read(&self, key: u64, ask: Ask) -> OpId {
        self.look();
        self.world.count();
        let at = self.world.at();
        self.world.recorder.record(|history| history.read(at, SessionId(self.id), KeyId(key), ask))
    }

    fn saw(&self, op: OpId, read: &Read<Row>) {
        let seen = Seen::of(read, |row| (row.version, OpId(row.write)));
        // Two logs of one number give out positions that mean nothing to each other.
        let seen = if self.world.plan.forks() { seen } else { seen.at(place(read.position)) };
        self.finish(op, Outcome::Saw(seen));
    }

    fn failed(&mut self, ops: &[OpId], error: &ReadError<highwater::source::Fault>) {
        ops.iter().for_each(|&op| self.finish(op, Outcome::Failed));
        if error.as_cache().is_some_and(highwater::Error::is_write_lost) {
            let at = self.world.at();
            self.world.recorder.record(|history| history.report_loss(at, SessionId(self.id)));
            self.on.store.accept_loss(&self.session);
            self.lost = true;
        }
    }

    fn finish(&self, op: OpId, outcome: Outcome) {
        self.look();
        let at = self.world.at();
        self.world.recorder.record(|history| history.finish(at, op, outcome));
    }

    /// A key that it wrote lately, or any.
    fn key_to_read(&mut self) -> u64 {
        let any = self.key();
        if self.wrote.is_empty() || !self.chance(self.world.plan.again_percent) {
            return any;
        }
        // Mostly the last one.
        let back = self.road.random_range(0..2 * self.wrote.len()).saturating_sub(self.wrote.len());
        self.wrote.iter().rev().nth(back).copied().unwrap_or(any)
    }

    fn forget(&mut self) {
        while self.wrote.len() > WROTE_MAX {
            self.wrote.pop_front();
        }
    }

    /// What the later options decide; without them nothing is drawn.
    fn chance(&mut self, percent: u64) -> bool {
        self.road_permille(10 * percent)
    }

    fn road_permille(&mut self, permille: u64) -> bool {
        permille > 0 && !self.world.is_calm() && self.road.random_range(0..1_000) < permille
    }

    fn key(&mut self) -> u64 {
        let draws = (0..self.world.plan.skew).map(|_| self.dice.random_range(0..self.world.plan.keys));
        draws.min().unwrap_or(0)
    }

    fn polls(&mut self) -> Option<u32> {
        let gone = self.dice.random_range(0..1_000) < self.world.plan.abandon_permille && !self.world.is_calm();
        gone.then(|| self.dice.random_range(0..40))
    }

    fn options(&mut self) -> (ReadOptions, Ask) {
        let bounds = self.world.plan.unfenced == 0;
        let within = Duration::from_millis([0, 40, 500, 3_000][self.dice.random_range(0..4)]);
        let any = self.dice.random_range(0..100) < self.world.plan.any_percent;
        let (freshness, ask) = match self.dice.random_range(0..12) {
            _ if any => (Freshness::Any, Ask::none()),
            0 if bounds => (Freshness::Latest, Ask::latest().own_writes()),
            1 | 2 if bounds => (Freshness::Within(within), Ask::within(within.as_micros() as u64).own_writes()),
            _ => (Freshness::Session, Ask::session()),
        };
        let promised = self.session.is_monotonic() && freshness != Freshness::Any;
        // What was missed is only kept from those who ask for nothing: all others are judged by what they ask for.
        let asks_nothing = freshness == Freshness::Any;
        let ask = ask.at(if asks_nothing { self.on.id_of_hearing() } else { self.on.id() });
        let ask = if promised { ask.monotonic() } else { ask };
        let fallback = match self.dice.random_range(0..6) {
            // When all is well again, everybody must be answered.
            _ if self.world.is_calm() => Fallback::Primary,
            0 => Fallback::Error,
            1 => Fallback::Stale,
            _ => Fallback::Primary,
        };
        let short = self.dice.random_range(0..8) == 0 && !self.world.is_calm();
        let deadline = short.then(|| Instant::now() + Duration::from_millis(self.dice.random_range(1..300)));
        (ReadOptions { freshness, fallback, deadline }, ask)
    }
}

/// A position as the checker compares it; timelines follow each other.
fn place(position: Position) -> u64 {
    u64::from(position.timeline.0) << 48 | position.lsn.offset()
}

/// How a write is made.
struct How {
    by_group: bool,
    asynchronous: bool,
    /// What changes is named before it is.
    first: bool,
    dawdle: Duration,
}

/// One write, and what its client is told of it: also whether the other instances were told.
async fn write(on: &Instance, session: &Session, key: u64, op: OpId, how: How) -> (Outcome, bool) {
    let rolled_back = (Outcome::RolledBack, false);
    let Ok(mut tx) = on.store.begin(session).await else { return rolled_back };
    if how.first {
        tx.retract(&on.cache, &key);
    }
    let Ok(present) = tx.lock::<Row>(TABLE, key).await else { return rolled_back };
    let version = present.map_or(0, |row| row.version) + 1;
    if how.asynchronous {
        tx.commit_asynchronously();
    }
    if tx.put(TABLE, key, Row { version, write: op.0 }).await.is_err() {
        return rolled_back;
    }
    if how.by_group {
        tx.retract_group(&group(key));
    } else if !how.first {
        tx.retract(&on.cache, &key);
    }
    if !how.dawdle.is_zero() {
        sleep(how.dawdle).await;
    }
    match tx.commit().await {
        Ok(receipt) => (Outcome::Committed { version, position: Some(place(receipt.position)) }, receipt.told),
        Err(WriteError::Unknown(unknown)) => match unknown.resolve().await {
            Fate::Committed => (Outcome::Committed { version, position: None }, false),
            Fate::Aborted => rolled_back,
            _ => (UNKNOWN, false),
        },
        Err(_) => rolled_back,
    }
}
