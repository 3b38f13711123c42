//! What is made of what is heard: floors are raised, and the epoch knows from where on it hears everything.

use super::announcer::LEASE;
use super::hearing::{Heard, Hearing, Timing};
use super::listener::{Hear, listen};
use super::place::Gap;
use super::{Beat, Ledger, Lineage, Pulse};
use crate::epoch::Span;
use crate::fleet::Fleet;
use crate::rules::{Rule, holds};
use crate::source::Source;
use crate::stats::{Counter, WatermarkStats};
use crate::trace;
use crate::{BusState, Lsn, Position};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// The state of the bus as the store sees it.
pub(crate) struct Bus<S> {
    fleet: Arc<Fleet<S>>,
    state: Mutex<State>,
    news: Notify,
    /// The newest token that this instance settled, and the history that it is of.
    settled: Mutex<(u64, Lsn)>,
    uncovered: Notify,
    abandoned: mpsc::Sender<Vec<u8>>,
}

#[derive(Debug)]
struct State {
    live: bool,
    /// Nothing is missing since hearing began.
    whole: bool,
    /// It was live once, so that the log's generation is known.
    was_live: bool,
    /// Raised whenever hearing begins anew: a position read for an earlier round is no start of this one.
    round: u64,
    /// The log that is heard.
    lineage: Option<Lineage>,
    /// The history that the log spoke of last, and its watermark.
    covered: (u64, Lsn),
    /// How many commits were announced and may still come, and for how long the oldest has stood.
    announced: (u64, Duration),
    /// Why the next epoch will begin.
    why: Why,
    /// It was said that a message cannot be read: an instance of another release may send many.
    told_unreadable: bool,
    deaf_since: Instant,
    deaf_before: Duration,
}

/// Why an epoch begins: from here on entries are extended again, and none that is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The log is heard for the first time.
    Start,
    /// Messages were missed, and the log has not kept them.
    Missed,
    /// It is another log, or an older copy of it.
    OtherLog,
    /// History was replaced.
    History,
}

/// How often a start is looked for while there is none: the primary was away, or history was replaced.
const START_RETRY: Duration = Duration::from_millis(100);

/// How long the watermark may stay below what was settled before it is pushed, and how often in a row; for the last time when
/// the first of the announcements that may hold it back is given up.
const PUSH_PAUSE: Duration = Duration::from_millis(20);
const PUSHES_MAX: usize = 8;

impl<S: Source> Bus<S> {
    pub(crate) fn new(fleet: Arc<Fleet<S>>, abandoned: mpsc::Sender<Vec<u8>>) -> Self {
        let state = State {
            live: false,
            whole: false,
            was_live: false,
            round: 0,
            lineage: None,
            covered: (0, Lsn::ZERO),
            announced: (0, Duration::ZERO),
            why: Why::Start,
            told_unreadable: false,
            deaf_since: Instant::now(),
            deaf_before: Duration::ZERO,
        };
        let (settled, uncovered) = (Mutex::default(), Notify::new());
        Self { fleet, state: Mutex::new(state), news: Notify::new(), settled, uncovered, abandoned }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens, for ever. `random` gives nonces and jitter.
    pub(crate) async fn listen<L: Ledger>(self: Arc<Self>, ledger: Arc<L>, random: impl FnMut() -> u64 + Send) {
        let mut hearing = Hearing::new(Timing::default(), random, Instant::now());
        let mut owner = Owner(self);
        match listen(&*ledger, &mut hearing, &mut owner).await {}
    }

    /// Finds the start of each round of hearing, for ever: a position of the primary read after the subscription was
    /// proven. What is tagged at or above it has missed nothing.
    pub(crate) async fn find_starts(self: Arc<Self>) {
        loop {
            let round = {
                let state = self.lock();
                let lacking = state.live && state.whole && self.fleet.epochs.current().span.is_none();
                lacking.then_some((state.round, self.fleet.epochs.current().fingerprint))
            };
            let Some((round, history)) = round else {
                tokio::select! {
                    biased;
                    () = self.news.notified() => {}
                    () = sleep(START_RETRY) => {}
                }
                continue;
            };
            let deadline = Instant::now() + self.fleet.settings.load_time_max;
            let known = self.fleet.epochs.high_water().insert();
            match self.fleet.primary_position(deadline).await {
                Ok(read) if holds(Rule::StartIsRead) => self.begin(round, history, read),
                Ok(read) => self.begin(round, history, Position { lsn: known, ..read }),
                Err(_) => sleep(START_RETRY).await,
            }
        }
    }

    fn begin(&self, round: u64, history: u64, start: Position) {
        let mut state = self.lock();
        let present = state.round == round || !holds(Rule::StartIsOfRound);
        let ours = present && self.fleet.epochs.current().history.timeline() == start.timeline;
        if let Some(lineage) = state.lineage.filter(|_| state.live && state.whole && ours) {
            let start = if holds(Rule::HeardFromProof) { start.lsn } else { Lsn::ZERO };
            let watermark = if state.covered.0 == history { state.covered.1 } else { Lsn::ZERO };
            if self.fleet.epochs.hear(history, Arc::new(Span::new(lineage.in_history(history), start, watermark))) {
                self.fleet.counters.epochs.add_one();
                trace::epoch_begun(&lineage, start, &std::mem::replace(&mut state.why, Why::History));
            }
        }
    }

    /// A write of this instance was settled in this history: the watermark is to cover it soon.
    pub(crate) fn settled(&self, history: u64, token: Lsn) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if settled.0 == history { settled.1 } else { Lsn::ZERO };
        *settled = (history, before.max(token));
        drop(settled);
        self.uncovered.notify_one();
    }

    /// What a crash took, or was settled in a history that was replaced, is not waited for.
    fn is_covered(&self) -> bool {
        let (history, settled) = *self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let (epoch, end) = (self.fleet.epochs.current(), self.fleet.epochs.high_water().insert());
        let covers = |span: &Arc<Span>| span.watermark() >= settled.min(end);
        epoch.fingerprint != history || epoch.span.as_ref().is_none_or(covers)
    }

    /// Pushes the watermark over what this instance settled, for ever: where nobody writes any more, nothing else would
    /// but the next heartbeat, with what the primary had flushed when it was asked last.
    pub(crate) async fn push<L: Ledger>(self: Arc<Self>, ledger: Arc<L>, mut random: impl FnMut() -> u64 + Send) {
        loop {
            self.uncovered.notified().await;
            let mut held_for = PUSH_PAUSE;
            for push in 0..PUSHES_MAX {
                if push + 1 < PUSHES_MAX {
                    sleep(PUSH_PAUSE).await;
                } else if timeout(held_for, self.uncovered.notified()).await.is_ok() {
                    // There is news before what holds it back is given up.
                    self.uncovered.notify_one();
                    break;
                }
                if self.is_covered() {
                    break;
                }
                if push == 1 {
                    // On an idle primary the end of its log may stay unflushed for seconds.
                    self.fleet.nudge().await;
                }
                let deadline = Instant::now() + self.fleet.settings.load_time_max;
                if self.fleet.primary_position(deadline).await.is_ok()
                    && let Ok(beat) = ledger.beat(random(), self.fleet.epochs.pulse()).await
                {
                    held_for = PUSH_PAUSE.max(beat.first_ends);
                    self.answered(beat);
                }
            }
        }
    }

    fn answered(&self, beat: Beat) {
        let oldest = if beat.open > 0 { LEASE.saturating_sub(beat.first_ends) } else { Duration::ZERO };
        self.lock().announced = (beat.open, oldest);
        self.fleet.counters.abandoned.add(beat.given_up);
        // Where the queue is full they end with the lives of what they would retract.
        beat.abandoned.into_iter().for_each(|announced| drop(self.abandoned.try_send(announced)));
    }

    fn set_live(&self, live: bool) {
        let mut state = self.lock();
        if state.live && !live {
            state.deaf_since = Instant::now();
        } else if !state.live && live {
            let deaf = state.deaf_since.elapsed();
            state.deaf_before += deaf;
        }
        state.live = live;
        state.was_live |= live;
        state.told_unreadable &= live;
    }

    /// Something is missing, or nothing is heard.
    fn suspend(&self, counter: &Counter) {
        self.lock().whole = false;
        self.fleet.epochs.suspend();
        counter.add_one();
    }

    /// Where an epoch is ended by this, it is why the next one begins.
    fn interrupted(&self, why: Why) {
        if self.fleet.epochs.current().span.is_some() {
            self.lock().why = why;
        }
    }

    fn begun(&self, lineage: Lineage) {
        let mut state = self.lock();
        (state.whole, state.lineage, state.covered) = (true, Some(lineage), (0, Lsn::ZERO));
        state.round += 1;
        self.fleet.epochs.forget();
        drop(state);
        self.news.notify_one();
    }

    fn resume(&self) {
        let mut state = self.lock();
        self.fleet.counters.repairs.add(u64::from(!state.whole));
        state.whole = true;
        self.fleet.epochs.resume();
        if self.fleet.epochs.current().span.is_some() {
            state.why = Why::History;
        }
        drop(state);
        self.news.notify_one();
    }

    fn covered(&self, lineage: Lineage, history: u64, watermark: Lsn) {
        let mut state = self.lock();
        if state.lineage == Some(lineage) {
            state.covered = (history, watermark);
            let epoch = self.fleet.epochs.current();
            let ours = |span: &&Arc<Span>| span.lineage == lineage.in_history(history) && epoch.fingerprint == history;
            if let Some(span) = epoch.span.as_ref().filter(ours) {
                span.raise(watermark);
            }
        }
    }

    pub(crate) fn watermark(&self) -> WatermarkStats {
        let (announced, announced_for) = self.lock().announced;
        let epoch = self.fleet.epochs.current();
        let position = epoch.span.as_ref().map(|span| span.watermark());
        let lag_bytes = position.map(|own| self.fleet.epochs.high_water().flush().bytes_ahead_of(own));
        let lag = position.map(|own| self.fleet.behind_for(own));
        WatermarkStats { position, lag_bytes, lag, announced, announced_for }
    }

    pub(crate) fn was_heard(&self) -> bool {
        self.lock().was_live
    }

    pub(crate) fn state(&self) -> (BusState, Duration) {
        let state = self.lock();
        let now = if state.live { Duration::ZERO } else { state.deaf_since.elapsed() };
        let bus = if state.live { BusState::Live } else { BusState::Deaf };
        (bus, state.deaf_before + now)
    }
}

/// The listener's view of the bus.
struct Owner<S>(Arc<Bus<S>>);

impl<S: Source> Hear for Owner<S> {
    fn pulse(&mut self) -> Pulse {
        self.0.fleet.epochs.pulse()
    }

    fn answered(&mut self, beat: Beat) {
        self.0.answered(beat);
    }

    fn hear(&mut self, heard: Heard) {
        let (bus, fleet) = (&self.0, &self.0.fleet);
        match heard {
            Heard::Retracted(_) if !holds(Rule::RetractionsAreHeard) => {}
            Heard::Retracted(notice) => {
                if fleet.epochs.retract(notice.position, &notice.keys, &notice.groups) {
                    fleet.counters.retractions_heard.add_one();
                } else {
                    trace::retraction_elsewhere(notice.position);
                }
            }
            Heard::Live => {
                trace::bus_live();
                bus.set_live(true);
            }
            Heard::Begun(lineage) => bus.begun(lineage),
            Heard::Whole => bus.resume(),
            Heard::Covered { lineage, history, watermark } => bus.covered(lineage, history, watermark),
            Heard::Gap(gap) => {
                trace::bus_gap(&gap);
                bus.interrupted(if gap == Gap::Missing { Why::Missed } else { Why::OtherLog });
                bus.suspend(&fleet.counters.gaps);
            }
            Heard::Deaf(why) => {
                trace::bus_deaf(&why);
                bus.set_live(false);
                bus.suspend(&fleet.counters.deaf);
            }
            Heard::Generation(generation) => {
                if fleet.epochs.adopt_generation(generation) {
                    fleet.counters.replaced.add_one();
                    fleet.forget_samples();
                    trace::history_replaced_elsewhere(fleet.epochs.current().history.generation());
                }
            }
            Heard::Unreadable(problem) => {
                fleet.counters.messages_unreadable.add_one();
                if !std::mem::replace(&mut bus.lock().told_unreadable, true) {
                    trace::bus_unreadable(&problem);
                }
            }
        }
    }
}
