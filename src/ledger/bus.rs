//! What is made of what is heard: floors are raised, and the epoch knows from where on it hears everything.

use super::Ledger;
use super::hearing::{Heard, Hearing, Timing};
use super::listener::{Hear, listen};
use crate::BusState;
use crate::fleet::Fleet;
use crate::rules::{Rule, holds};
use crate::source::Source;
use crate::stats::Counter;
use crate::trace;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// The state of the bus as the store sees it.
pub(crate) struct Bus<S> {
    fleet: Arc<Fleet<S>>,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    live: bool,
    /// It was live once, so that the log's generation is known.
    was_live: bool,
    /// Raised whenever hearing begins anew: a position read for an earlier round is no start of this one.
    round: u64,
    deaf_since: Instant,
    deaf_before: Duration,
}

/// How often a start is looked for while there is none: the primary was away, or history was replaced.
const START_RETRY: Duration = Duration::from_millis(100);

impl<S: Source> Bus<S> {
    pub(crate) fn new(fleet: Arc<Fleet<S>>) -> Self {
        let state =
            State { live: false, was_live: false, round: 0, deaf_since: Instant::now(), deaf_before: Duration::ZERO };
        Self { fleet, state: Mutex::new(state), news: Notify::new() }
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
                let lacking = state.live && self.fleet.epochs.current().heard_from.is_none();
                lacking.then_some(state.round)
            };
            let Some(round) = round else {
                tokio::select! {
                    biased;
                    () = self.news.notified() => {}
                    () = sleep(START_RETRY) => {}
                }
                continue;
            };
            let deadline = Instant::now() + self.fleet.settings.load_time_max;
            match self.fleet.primary_position(deadline).await {
                Ok(start) => self.begin(round, start),
                Err(_) => sleep(START_RETRY).await,
            }
        }
    }

    fn begin(&self, round: u64, start: crate::Position) {
        let state = self.lock();
        let ours = self.fleet.epochs.current().history.timeline() == start.timeline;
        if state.live && state.round == round && ours {
            let start = if holds(Rule::HeardFromProof) { start.lsn } else { crate::Lsn::ZERO };
            self.fleet.epochs.hear_from(Some(start));
        }
    }

    fn change(&self, live: bool, counter: Option<&Counter>) {
        let mut state = self.lock();
        if state.live && !live {
            state.deaf_since = Instant::now();
        } else if !state.live && live {
            let deaf = state.deaf_since.elapsed();
            state.deaf_before += deaf;
        }
        state.live = live;
        state.was_live |= live;
        state.round += 1;
        self.fleet.epochs.hear_from(None);
        drop(state);
        if let Some(counter) = counter {
            counter.add_one();
        }
        self.news.notify_one();
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
    fn generation(&mut self) -> u64 {
        self.0.fleet.epochs.current().history.marked_generation()
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
            Heard::Live(_) => {
                trace::bus_live();
                bus.change(true, None);
            }
            Heard::Gap(gap, _) => {
                trace::bus_gap(&gap);
                bus.change(true, Some(&fleet.counters.gaps));
            }
            Heard::Deaf(why) => {
                trace::bus_deaf(&why);
                bus.change(false, Some(&fleet.counters.deaf));
            }
            Heard::Generation(generation) => {
                if fleet.epochs.adopt_generation(generation) {
                    fleet.counters.replaced.add_one();
                    fleet.forget_samples();
                    trace::history_replaced_elsewhere(fleet.epochs.current().history.generation());
                }
            }
            Heard::Unreadable(problem) => {
                trace::bus_unreadable(&problem);
            }
        }
    }
}
