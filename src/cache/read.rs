//! The read path, top to bottom.

use super::load::Landing;
use super::{Cache, Demand, Miss, Name, Read, ReadError, Shelf, judge};
use crate::Error;
use crate::entry::{Entry, Floor};
use crate::epoch::Epoch;
use crate::fleet::Rung;
use crate::freshness::{Fallback, Freshness, ReadOptions};
use crate::named::Brief;
use crate::repository::Repository;
use crate::rules::{Rule, holds};
use crate::session::Session;
use crate::sights::Seen;
use crate::source::Source;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// How often one read begins anew because history moved or a load that it joined came too late for it.
pub(super) const ROUNDS_MAX: usize = 8;

/// The most keys that one [`get_many`](Cache::get_many) takes.
pub const KEYS_MAX: usize = 1024;

pub(super) type Answer<R, C> = Result<Read<<R as Repository<C>>::Value>, ReadError<<R as Repository<C>>::Error>>;

impl<R: Repository<S::Conn>, S: Source> Cache<R, S> {
    /// Reads the row of `key`, never below what `session` has written.
    ///
    /// # Errors
    ///
    /// [`ReadError::Load`] with the loader's error; [`ReadError::Cache`] where no server could answer in time, where a
    /// write of the session was lost in a failover, where the key cannot be serialized, or after
    /// [`close`](crate::Highwater::close).
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await: a load that it began goes on for the others who wait for it.
    pub async fn get(&self, session: &Session, key: &R::Key) -> Answer<R, S::Conn> {
        self.get_with(session, key, &ReadOptions::default()).await
    }

    /// Reads the row of `key` as fresh as `options` ask for.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_with(&self, session: &Session, key: &R::Key, options: &ReadOptions) -> Answer<R, S::Conn> {
        if let Some(older) = &self.0.older {
            return Box::pin(self.0.answer_as(older, session, key, options)).await;
        }
        // A hit ends here: it awaits nothing, allocates nothing and takes no lock of ours.
        if let Some(read) = self.0.answer_locally(session, key, options) {
            return Ok(read);
        }
        Box::pin(self.answer_from_below(session, key, options)).await
    }

    /// Reads many rows at once, in the order of `keys`: from the in-process tier, then in one round trip from the shared
    /// one, then in one load from one server. Loads of other readers are not joined.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and where `keys` are more than [`KEYS_MAX`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await; the connection that it may have held is discarded.
    pub async fn get_many(
        &self,
        session: &Session,
        keys: &[R::Key],
        options: &ReadOptions,
    ) -> Result<Vec<Read<R::Value>>, ReadError<R::Error>> {
        if keys.len() > KEYS_MAX {
            let text = format!("get_many was asked for {} keys; the limit is {KEYS_MAX}", keys.len());
            return Err(Error::configuration(text).into());
        }
        let deadline = self.0.deadline(options);
        if let Some(gathered) = gathering(session, options) {
            let late = |_| Error::timed_out(GATHERING);
            timeout_at(deadline, gathered).await.map_err(late)?;
        }
        if self.0.older.is_some() {
            let mut answers = Vec::with_capacity(keys.len());
            for key in keys {
                answers.push(self.get_with(session, key, options).await?);
            }
            return Ok(answers);
        }
        let mut answers: Vec<_> = keys.iter().map(|key| self.0.answer_locally(session, key, options)).collect();
        let open = keys.iter().zip(&answers).filter(|(_, answer)| answer.is_none()).map(|(key, _)| key);
        if self.0.watermark_comes(session, open, options, deadline).await {
            for (key, answer) in keys.iter().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
                *answer = self.0.answer_locally(session, key, options);
                if answer.is_some() {
                    self.0.counters.hits_awaited.add_one();
                }
            }
        }
        if answers.iter().any(Option::is_none) {
            let answering = Box::pin(self.answer_many_from_below(session, keys, options, deadline, &mut answers));
            let answered = timeout_at(deadline, answering).await;
            let late = || Err(Error::timed_out("loading many rows").into());
            match answered.unwrap_or_else(|_| late()) {
                Ok(()) => {}
                Err(ReadError::Load(error)) => return Err(ReadError::Load(error)),
                Err(ReadError::Cache(error)) => {
                    for (key, answer) in keys.iter().zip(&mut answers) {
                        if answer.is_none() {
                            *answer = Some(self.0.give_up(session, key, options, error.clone())?);
                        }
                    }
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Under [`Strategy::WriteThrough`](crate::Strategy::WriteThrough), puts what a write has just committed into this instance's
    /// tier and into the shared one; `None` is a row that was deleted. Under every other strategy it does nothing, so that a
    /// service may call it whichever it has.
    ///
    /// # Errors
    ///
    /// A key that cannot be serialized.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await; then only the shared tier may not have it.
    pub async fn write_through(
        &self,
        key: &R::Key,
        value: Option<R::Value>,
        receipt: &crate::Receipt,
    ) -> Result<(), Error> {
        self.0.write_through(key, value, receipt).await
    }

    /// Joins a load of the key, or begins one, until an answer is the reader's own.
    async fn answer_from_below(&self, session: &Session, key: &R::Key, options: &ReadOptions) -> Answer<R, S::Conn> {
        let shelf = &self.0;
        let deadline = shelf.deadline(options);
        if let Some(gathered) = gathering(session, options) {
            if timeout_at(deadline, gathered).await.is_err() {
                return shelf.give_up(session, key, options, Error::timed_out(GATHERING));
            }
            if let Some(read) = shelf.answer_locally(session, key, options) {
                return Ok(read);
            }
        }
        if shelf.watermark_comes(session, std::iter::once(key), options, deadline).await
            && let Some(read) = shelf.answer_locally(session, key, options)
        {
            shelf.counters.hits_awaited.add_one();
            return Ok(read);
        }
        let (mut spent, mut failed_for_more) = (None, false);
        for _ in 0..ROUNDS_MAX {
            let (name, lane) = (Name::of(&shelf.name, key)?, (key.clone(), options.fallback));
            let demand = shelf.demand(session, options, &[Brief::of(&name.digest)], deadline).await?;
            let joined = shelf
                .flights
                .join(&lane, demand.floor, deadline, spent.as_ref(), || shelf.store.take_load_permit())
                .ok_or_else(overloaded)?;
            let hand_over = |load| shelf.store.spawn(load);
            let landing = if joined.leads {
                let load = Arc::clone(shelf).fly(lane, name, Arc::clone(&joined.flight));
                timeout_at(deadline, joined.flight.drive(Box::pin(load), hand_over)).await
            } else {
                shelf.counters.joined.add_one();
                joined.relieved.into_iter().for_each(hand_over);
                timeout_at(deadline, joined.flight.landed()).await
            };
            let Ok(landing) = landing else {
                return shelf.give_up(session, key, options, Error::timed_out("waiting for a load"));
            };
            match landing {
                Landing::Answer { entry, rung, stale } => {
                    let epoch = shelf.store.epochs.current();
                    let own = joined.entitled || stale || shelf.answers(&entry, &demand, &epoch).is_ok();
                    // The flight may have left in a newer history than the one that this read's floor was counted in, or
                    // history was replaced since.
                    let same = entry.history == demand.history && demand.history == epoch.fingerprint;
                    if own && (same || !holds(Rule::FlightOfHistory)) {
                        return Ok(shelf.answered(session, options, &demand, entry, rung, stale));
                    }
                }
                Landing::HistoryMoved => {}
                Landing::Loader(error) => return Err(ReadError::Load(error)),
                // Once: with its own floor alone it may be answered by a server that the others could not use.
                Landing::Failed(_) if !failed_for_more && joined.flight.wanted_more_than(demand.floor) => {
                    failed_for_more = true;
                }
                Landing::Failed(error) => return shelf.give_up(session, key, options, error),
            }
            spent = Some(joined.flight);
        }
        let error = Error::not_fresh("the key or the history changed faster than it could be read");
        shelf.give_up(session, key, options, error)
    }

    /// Fills the gaps in `answers`, which stand in the order of `keys`.
    async fn answer_many_from_below(
        &self,
        session: &Session,
        keys: &[R::Key],
        options: &ReadOptions,
        deadline: Instant,
        answers: &mut [Option<Read<R::Value>>],
    ) -> Result<(), ReadError<R::Error>> {
        let shelf = &self.0;
        let _permit = shelf.store.load_permit().ok_or_else(overloaded)?;
        for _ in 0..ROUNDS_MAX {
            let mut open = Vec::new();
            for (at, key) in keys.iter().enumerate() {
                if answers.get(at).is_some_and(Option::is_none) {
                    open.push((at, key.clone(), Name::of(&shelf.name, key)?));
                }
            }
            let names: Vec<Name> = open.iter().map(|(_, _, name)| name.clone()).collect();
            let briefs: Vec<Brief> = names.iter().map(|name| Brief::of(&name.digest)).collect();
            let demand = shelf.demand(session, options, &briefs, deadline).await?;
            let found = shelf.fetch(&names).await;
            let epoch = shelf.store.epochs.current().clone();
            for ((at, key, _), entry) in open.iter().zip(found) {
                let entry = entry.filter(|entry| shelf.answers(entry, &demand, &epoch).is_ok());
                if let (Some(answer), Some(entry)) = (answers.get_mut(*at), entry) {
                    let lives = |present: &Entry<R::Value>| epoch.is_live(present, shelf.group);
                    shelf.local.admit(key.clone(), &entry, shelf.clock().now_ms(), lives);
                    *answer = Some(shelf.answered(session, options, &demand, entry, Rung::Shared, false));
                }
            }
            open.retain(|(at, ..)| answers.get(*at).is_some_and(Option::is_none));
            if open.is_empty() {
                return Ok(());
            }
            let (slots, rest) =
                open.into_iter().map(|(at, key, name)| (at, (key, name))).unzip::<_, _, Vec<_>, Vec<_>>();
            let Some(loaded) = shelf.load_many(rest, &demand, options.fallback, deadline).await? else {
                continue;
            };
            for (at, (entry, rung, stale)) in slots.into_iter().zip(loaded) {
                if let Some(answer) = answers.get_mut(at) {
                    *answer = Some(shelf.answered(session, options, &demand, entry, rung, stale));
                }
            }
            return Ok(());
        }
        Err(Error::not_fresh("the history changed faster than it could be read").into())
    }
}

/// The wait for what may raise the session, if the read asks for the session and there is something.
pub(super) fn gathering<'a>(session: &'a Session, options: &ReadOptions) -> Option<impl Future<Output = ()> + use<'a>> {
    (session.is_gathering() && options.freshness != Freshness::Any).then(|| session.gathered())
}

pub(super) const GATHERING: &str = "waiting for what the user's other devices hold";

pub(super) fn overloaded() -> Error {
    Error::overloaded("too many keys are loading (settings.loads_max)")
}

impl<R: Repository<S::Conn>, S: Source> Shelf<R, S> {
    /// The hit, or nothing.
    fn answer_locally(&self, session: &Session, key: &R::Key, options: &ReadOptions) -> Option<Read<R::Value>> {
        if gathering(session, options).is_some() {
            return None;
        }
        let epoch = self.store.epochs.current();
        let Some(entry) = self.local.get(key) else {
            self.count(Miss::Absent);
            return None;
        };
        let demand = self.floor(session, options, &epoch, &[entry.brief]).ok()?;
        let now_ms = self.clock().coarse_ms();
        match judge(&entry, &demand, &epoch, self.group, now_ms, self.store.fleet.settings.deaf_age_max) {
            Ok(()) => Some(self.answered(session, options, &demand, entry, Rung::Local, false)),
            Err(miss) => {
                self.count(miss);
                None
            }
        }
    }

    pub(super) fn answers(&self, entry: &Entry<R::Value>, demand: &Demand, epoch: &Epoch) -> Result<(), Miss> {
        let deaf_age_max = self.store.fleet.settings.deaf_age_max;
        judge(entry, demand, epoch, self.group, self.clock().now_ms(), deaf_age_max)
    }

    /// The last resort of a read whose policy takes what is stale: whatever lies in the in-process tier, labelled.
    fn give_up(&self, session: &Session, key: &R::Key, options: &ReadOptions, error: Error) -> Answer<R, S::Conn> {
        let fingerprint = self.store.epochs.current().fingerprint;
        let at_hand = self.local.get(key).filter(|entry| entry.history == fingerprint);
        match at_hand {
            Some(entry) if options.fallback == Fallback::Stale && !error.is_write_lost() => {
                let nothing = Demand { history: fingerprint, floor: Floor::default(), seen: Seen::default() };
                Ok(self.answered(session, options, &nothing, entry, Rung::Local, true))
            }
            _ => Err(error.into()),
        }
    }

    /// Counts the answer, and lets a monotonic session remember what it is shown.
    pub(super) fn answered(
        &self,
        session: &Session,
        options: &ReadOptions,
        demand: &Demand,
        entry: Entry<R::Value>,
        rung: Rung,
        stale: bool,
    ) -> Read<R::Value> {
        let counter = match rung {
            _ if stale => &self.counters.stale_labelled,
            Rung::Local => &self.counters.hits_local,
            Rung::Shared => &self.counters.hits_shared,
            Rung::Replica => &self.counters.loads_replica,
            Rung::Primary => &self.counters.loads_primary,
        };
        counter.add_one();
        if matches!(rung, Rung::Local | Rung::Shared) && !stale && entry.stamp.tag < demand.floor.tag {
            self.counters.hits_extended.add_one();
        }
        if session.is_monotonic() && !stale && options.freshness != Freshness::Any {
            let epoch = self.store.epochs.current();
            // What was answered in a history that was replaced meanwhile is told as lost by the next read.
            let history = &epoch.history;
            session.saw(history, &entry.stamp, entry.fill, &demand.seen);
        }
        entry.answer(rung, stale, self.clock().coarse_ms())
    }

    pub(super) fn deadline(&self, options: &ReadOptions) -> Instant {
        options.deadline.unwrap_or_else(|| Instant::now() + self.store.fleet.settings.load_time_max)
    }
}
