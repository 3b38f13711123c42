//! What can happen, and what must never.

use super::state::{RECORD, Stage, State};
use super::variants::Broken;
use highwater::internals::rules::{Fill, Knowledge};
use highwater::rules::without;
use stateright::{Model, Property};

/// How much of everything there is.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) writes: usize,
    /// Whether the reader hears of everything from the beginning, or has to begin somewhere.
    pub(super) hears: bool,
    /// How many names the instances have for one history.
    pub(super) names: usize,
    pub(super) crashes: u8,
    pub(super) failovers: u8,
    /// Messages that are lost, and answers to what was missed.
    pub(super) losses: u8,
    /// Calls of writers that do not arrive, or not in time, or whose answer is lost.
    pub(super) calls: u8,
    pub(super) deafs: u8,
    pub(super) deaths: u8,
    /// How often every announcement that stands runs out.
    pub(super) leases: u8,
    pub(super) fillers: u8,
    pub(super) handed_over: u8,
    /// How often more is told of what was announced, at whatever time.
    pub(super) renewals: u8,
    /// How many messages may be under way, or wait for others, for more heartbeats to be sent.
    pub(super) queue: usize,
    pub(super) broken: Option<Broken>,
}

/// How a write is announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Announcing {
    Heard,
    /// The answer is lost.
    Unheard,
    /// It arrives when nobody waits for it any more, or never.
    Late,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    // A position is read, a write announced, and committed.
    Announce { session: usize, key: usize, name: usize, how: Announcing },
    AnnounceLate { write: usize },
    Renew { write: usize },
    Commit { write: usize },
    Place { write: usize },
    Settle { write: usize, heard: bool },
    SettleLost { write: usize },
    TellAgain { write: usize, settles: bool },
    Die { write: usize },
    HandOver,
    // The primary.
    Fill,
    Flush,
    Crash,
    // Redis.
    Beat { name: usize, later: bool },
    CopyRedis,
    FallBack,
    Return,
    // The instance that holds entries.
    Look,
    Listen,
    Deafen,
    Deliver,
    Lose,
    Finish,
    Answer { heard: bool },
    ReadStart,
    Start,
}

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::new(self.known_as(0));
        if self.hears {
            let steps = [Action::Listen, Action::ReadStart, Action::Start];
            without(self.rule(), || steps.map(|action| self.step(&mut state, action)));
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        use Announcing::{Heard, Late, Unheard};
        if state.writes.len() < self.writes {
            // The first write is of the first session and the first key: names mean nothing.
            let some = usize::from(!state.writes.is_empty());
            let names = |(session, key)| (0..self.names).map(move |name| (session, key, name));
            for (session, key, name) in
                (0..=some).flat_map(|session| (0..=some).map(move |key| (session, key))).flat_map(names)
            {
                actions.extend([Heard, Unheard, Late].map(|how| Announce { session, key, name, how }));
            }
        }
        for (write, it) in state.writes.iter().enumerate() {
            match it.stage {
                Stage::Announced(_) => actions.extend([Commit { write }, Die { write }]),
                Stage::Committed(_) => actions.extend([Place { write }, Die { write }]),
                Stage::Placed(..) => actions.extend([
                    Settle { write, heard: true },
                    Settle { write, heard: false },
                    SettleLost { write },
                    Die { write },
                ]),
                Stage::Over => {}
            }
            actions.extend([
                AnnounceLate { write },
                Renew { write },
                TellAgain { write, settles: true },
                TellAgain { write, settles: false },
            ]);
        }
        for name in 0..self.names {
            actions.extend([Beat { name, later: false }, Beat { name, later: true }]);
        }
        actions
            .extend([HandOver, Fill, Flush, Crash, CopyRedis, FallBack, Return, Look, Listen, Deafen, Deliver, Lose]);
        actions.extend([Finish, Answer { heard: true }, Answer { heard: false }, ReadStart, Start]);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        without(self.rule(), || self.step(&mut state, action))?;
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the promise", |model: &Self, state: &State| {
                without(model.rule(), || model.keeps_the_promise(state))
            }),
            // Else nothing would be shown of the watermark.
            Property::sometimes("the watermark extends", |_, state: &State| extends(state)),
        ]
    }
}

impl Bounds {
    /// What an instance knows that has this name for the history.
    pub(super) fn known_as(&self, name: usize) -> Knowledge {
        // One does not know where the timeline began.
        match self.names {
            1 => Knowledge::default(),
            _ => Knowledge { timeline: 2, switch: (name == 1).then_some(0), ..Knowledge::default() },
        }
    }

    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        use Action::*;
        match action {
            Announce { session, key, name, how } => self.announce(state, session, key, name, how),
            AnnounceLate { write } => self.announce_late(state, write),
            Renew { write } => self.renew(state, write),
            Commit { write } => self.commit(state, write),
            Place { write } => self.place(state, write),
            Settle { write, heard } => self.settle(state, write, heard),
            SettleLost { write } => self.settle_lost(state, write),
            TellAgain { write, settles } => self.tell_again(state, write, settles),
            Die { write } => self.die(state, write),
            HandOver => self.hand_over(state),
            Fill => {
                spend(&mut state.spent.fillers, self.fillers)?;
                state.primary.log.push(None);
                Some(())
            }
            Flush => {
                state.primary.flushed = state.primary.log.len();
                Some(())
            }
            Crash => self.crash(state),
            Beat { name, later } => self.beat(state, name, later),
            CopyRedis => self.copy_redis(state),
            FallBack => self.fall_back(state),
            Return => self.come_back(state),
            Look => self.look(state),
            Listen => self.listen(state),
            Deafen => self.deafen(state),
            Deliver => self.deliver(state),
            Lose => self.lose(state),
            Finish => self.finish(state),
            Answer { heard } => self.answer(state, heard),
            ReadStart => self.read_start(state),
            Start => self.start(state),
        }
    }

    /// Whatever was filled, on whichever server and whenever, lies in the reader's tiers, and everybody reads it.
    fn keeps_the_promise(&self, state: &State) -> bool {
        State::keys().all(|key| {
            state.clients.iter().all(|session| {
                let told = session.told & state.of_key(key);
                let demand = session.client.demand(&state.reader.knowledge);
                let Some(demand) = demand.ok().filter(|_| told != 0) else { return true };
                // The higher the tag the more it answers, so one is enough: the newest that misses something.
                let misses = |records: &usize| told & !state.primary.commits(*records) != 0;
                let newest = (0..=state.primary.flushed).rev().find(misses);
                newest.is_none_or(|records| !state.reader.knowledge.answers(&fill(state, key, records), &demand))
            })
        })
    }
}

/// What a server held that had replayed so many records: no fill with this tag reflects less.
fn fill(state: &State, key: usize, records: usize) -> Fill {
    let (timeline, history) = (state.reader.knowledge.timeline, state.reader.knowledge.fingerprint());
    Fill { key, timeline, tag: records as u64 * RECORD, on_primary: false, upper: None, fill: 0, history }
}

/// Whether a session is answered with what is tagged below its token.
fn extends(state: &State) -> bool {
    let known = &state.reader.knowledge;
    let answered = |session: &super::state::Session| {
        let Ok(demand) = session.client.demand(known) else { return false };
        let is_above = |records: &usize| demand.least_tag() > *records as u64 * RECORD;
        (0..=state.primary.flushed).filter(is_above).any(|records| known.answers(&fill(state, 1, records), &demand))
    };
    state.clients.iter().any(answered)
}

pub(super) fn spend(spent: &mut u8, bound: u8) -> Option<()> {
    (*spent < bound).then(|| *spent += 1)
}
