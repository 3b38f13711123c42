//! What can happen, and what must never.

use crate::state::{Busy, State};
use crate::variants::Broken;
use highwater::internals::rules::KEYS;
use stateright::{Model, Property};
use std::ops::Range;

/// How much of everything there is.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) instances: usize,
    pub(crate) sessions: usize,
    /// Which of them go from instance to instance; of the others each has its own.
    pub(crate) roaming: Range<usize>,
    pub(crate) writes: usize,
    /// How many of the sessions write: the others only read, and where time is short these only write.
    pub(crate) writers: usize,
    pub(crate) writers_read: bool,
    /// Whether the second session asks for monotonic reads.
    pub(crate) monotonic: bool,
    pub(crate) shared: bool,
    pub(crate) crashes: u8,
    pub(crate) promotions: u8,
    /// Whether the first primary is started again after a promotion, fenced by nobody.
    pub(crate) comes_back: bool,
    pub(crate) fallbacks: u8,
    pub(crate) fillers: u8,
    pub(crate) lost_answers: u8,
    pub(crate) handed_over: u8,
    pub(crate) keys: usize,
    /// Whether a standby shows a commit before it says so, and has received more than it shows.
    pub(crate) gaps: bool,
    pub(crate) broken: Option<Broken>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            instances: 1,
            sessions: 2,
            roaming: 0..1,
            writes: 2,
            writers: 2,
            writers_read: true,
            monotonic: false,
            shared: false,
            crashes: 0,
            promotions: 0,
            comes_back: true,
            fallbacks: 0,
            fillers: 0,
            lost_answers: 0,
            handed_over: 0,
            keys: 1,
            gaps: false,
            broken: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    // A session begins something.
    Read {
        session: usize,
        key: usize,
        instance: usize,
    },
    Write {
        session: usize,
        key: usize,
        instance: usize,
    },
    /// The second session is handed the token of the first.
    HandOver,
    // What was begun goes on.
    Acknowledge {
        session: usize,
    },
    LoseAnswer {
        session: usize,
    },
    Resolve {
        session: usize,
    },
    Fetch {
        instance: usize,
        key: usize,
    },
    Position {
        instance: usize,
        key: usize,
        server: usize,
        as_primary: bool,
    },
    Data {
        instance: usize,
        key: usize,
    },
    Land {
        instance: usize,
        key: usize,
    },
    // The servers.
    Fill,
    Flush,
    MakeVisible {
        write: u8,
    },
    Stream,
    Apply,
    Report,
    Crash,
    Promote,
    ComeBack,
    Look {
        instance: usize,
    },
    // The bus and Redis. What is never delivered is lost.
    Deliver {
        message: usize,
    },
    CopyRedis,
    FallBack,
}

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.instances, self.sessions, self.monotonic)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        for (session, client) in state.clients.iter().enumerate() {
            for instance in
                (0..self.instances).filter(|at| self.roaming.contains(&session) || *at == session % self.instances)
            {
                for key in (0..self.keys).filter(|_| client.busy == Busy::Idle) {
                    if session >= self.writers || self.writers_read {
                        actions.push(Action::Read { session, key, instance });
                    }
                    if session < self.writers {
                        actions.push(Action::Write { session, key, instance });
                    }
                }
            }
            match client.busy {
                Busy::Writing { .. } => {
                    actions.extend([Action::Acknowledge { session }, Action::LoseAnswer { session }]);
                }
                Busy::Unresolved { .. } => actions.push(Action::Resolve { session }),
                _ => {}
            }
        }
        actions.push(Action::HandOver);
        for instance in 0..self.instances {
            actions.push(Action::Look { instance });
            for key in (0..KEYS).filter(|key| state.instances[instance].flights[*key].is_some()) {
                actions.extend([
                    Action::Fetch { instance, key },
                    Action::Data { instance, key },
                    Action::Land { instance, key },
                ]);
                for (server, as_primary) in [(0, true), (0, false), (1, true), (1, false)] {
                    actions.push(Action::Position { instance, key, server, as_primary });
                }
            }
        }
        actions.extend((0..state.writes.len()).map(|write| Action::MakeVisible { write: write as u8 }));
        use Action::{Apply, ComeBack, CopyRedis, Crash, FallBack, Fill, Flush, Promote, Report, Stream};
        actions.extend([Fill, Flush, Stream, Apply, Report, Crash, Promote, ComeBack, CopyRedis, FallBack]);
        for message in 0..state.bus.len() {
            actions.push(Action::Deliver { message });
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Read { session, key, instance } => self.read(&mut state, session, key, instance)?,
            Action::Write { session, key, instance } => self.write(&mut state, session, key, instance)?,
            Action::HandOver => self.hand_over(&mut state)?,
            Action::Acknowledge { session } => self.acknowledge(&mut state, session)?,
            Action::LoseAnswer { session } => self.lose_answer(&mut state, session)?,
            Action::Resolve { session } => self.resolve(&mut state, session)?,
            Action::Fetch { instance, key } => self.fetch(&mut state, instance, key)?,
            Action::Position { instance, key, server, as_primary } => {
                self.position(&mut state, instance, key, server, as_primary)?;
            }
            Action::Data { instance, key } => self.data(&mut state, instance, key)?,
            Action::Land { instance, key } => self.land(&mut state, instance, key)?,
            Action::Look { instance } => self.look(&mut state, instance)?,
            Action::Deliver { message } => self.deliver(&mut state, message)?,
            Action::CopyRedis => self.copy_redis(&mut state)?,
            Action::FallBack => self.fall_back(&mut state)?,
            servers => self.servers(&mut state, servers)?,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("the promise", |_, state: &State| state.broken.is_none())]
    }
}
