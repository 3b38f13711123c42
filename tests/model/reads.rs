//! Reads: the in-process tier, a load that several join, the shared tier, a server, and the answer.

use crate::model::Bounds;
use crate::state::{Busy, Entry, Flight, RECORD, Reading, Stage, State, Writes};
use crate::variants::Broken;
use highwater::internals::rules::{Demand, Fill, Stored, Trouble, replaces};

impl Flight {
    pub(crate) fn is_on(&self, server: usize) -> bool {
        matches!(&self.stage, Stage::Positioned { server: on, .. } if *on == server)
    }
}

impl Bounds {
    pub(crate) fn read(&self, state: &mut State, session: usize, key: usize, instance: usize) -> Option<()> {
        let (here, client) = (&state.instances[instance], &state.clients[session]);
        let demand = match client.client.demand(&here.knowledge) {
            Ok(demand) => demand,
            Err(Trouble::Ahead) => return None,
            Err(Trouble::Lost) => {
                self.accept_loss(state, session, instance);
                return Some(());
            }
        };
        let of_key = state.of_key(key);
        let reading = Reading {
            key,
            instance,
            demand,
            entitled: true,
            timeline: here.knowledge.timeline,
            told: client.told & of_key,
            shown: if client.client.is_monotonic() { client.shown & of_key } else { 0 },
            retracted: here.retracted & of_key,
        };
        if let Some(entry) = here.local[key].filter(|entry| self.answers(state, instance, entry, &demand, false)) {
            self.answer(state, session, &reading, &entry);
            return Some(());
        }
        let entitled = match &mut state.instances[instance].flights[key] {
            None => {
                let closed_in = state.instances[instance].knowledge.clone();
                let flight = Flight { wanted: demand, closed_in, stage: Stage::Boarding };
                state.instances[instance].flights[key] = Some(flight);
                true
            }
            Some(flight) => {
                let (closed, departed) = match flight.stage {
                    Stage::Boarding => (false, false),
                    Stage::Positioned { .. } => (true, false),
                    Stage::Read { .. } => (true, true),
                };
                let departed = departed && !self.is_broken(Broken::JoinsAfterDeparture);
                let entitled = demand.boards(&flight.wanted, closed, departed)?;
                if !closed {
                    flight.wanted = flight.wanted.join(demand);
                }
                entitled
            }
        };
        state.clients[session].busy = Busy::Reading(Reading { entitled, ..reading });
        Some(())
    }

    /// The session is told of the loss, and goes on with what survived.
    fn accept_loss(&self, state: &mut State, session: usize, instance: usize) {
        let client = &mut state.clients[session];
        client.client.accept_loss(&state.instances[instance].knowledge);
        let survived = state.servers[1].commits(usize::MAX);
        client.told &= survived;
        client.shown &= survived;
    }

    /// The Answer rule, in the one place where something could extend an entry's tag.
    fn answers(&self, state: &State, instance: usize, entry: &Entry, demand: &Demand, from_shared: bool) -> bool {
        let known = &state.instances[instance].knowledge;
        let mut fill = entry.fill;
        if from_shared && self.is_broken(Broken::TrustsTheSharedTier) {
            return known.is_live(&fill);
        }
        if self.is_broken(Broken::AdvancesTagsFromTheBus) {
            fill.tag = fill.tag.max(known.floors[1 - fill.key]);
        }
        if self.is_broken(Broken::KeepsEntriesOverAPromotion) {
            fill.history = known.fingerprint();
        }
        known.answers(&fill, demand)
    }

    /// What must hold of every answer.
    fn answer(&self, state: &mut State, session: usize, reading: &Reading, entry: &Entry) {
        let missing = |wanted: Writes| wanted & !entry.reflects != 0;
        if missing(reading.told) {
            state.broken = Some("a read does not reflect a write that its session was told of");
        } else if missing(reading.shown) {
            state.broken = Some("a monotonic session was shown less than before");
        } else if missing(reading.retracted) {
            state.broken = Some("a read does not reflect what was retracted here before it began");
        }
        if entry.reflects & state.lost(reading.timeline) != 0 {
            state.broken = Some("a read reflects a write that its history has lost");
        }
        let known = &state.instances[reading.instance].knowledge;
        let client = &mut state.clients[session];
        client.client.saw(known, &entry.fill, &reading.demand);
        client.shown |= entry.reflects;
        client.busy = Busy::Idle;
    }

    /// What the shared tier holds ends the load if it answers everybody on board.
    pub(crate) fn fetch(&self, state: &mut State, instance: usize, key: usize) -> Option<()> {
        let flight = state.instances[instance].flights[key].clone()?;
        let timeline = state.instances[instance].knowledge.timeline;
        let at = (self.shared && flight.stage == Stage::Boarding).then_some(timeline as usize - 1)?;
        let (Stored::Entry(stored), reflects) = state.redis.slots[at][key]? else { return None };
        let entry = Entry { fill: stored, reflects };
        self.answers(state, instance, &entry, &flight.wanted, true).then_some(())?;
        self.admit(state, instance, entry);
        for session in self.on_board(state, instance, key) {
            let Busy::Reading(reading) = state.clients[session].busy.clone() else { continue };
            self.answer(state, session, &reading, &entry);
        }
        state.instances[instance].flights[key] = None;
        Some(())
    }

    /// The load is closed, and the position and the timeline are read on a server.
    pub(crate) fn position(
        &self,
        state: &mut State,
        instance: usize,
        key: usize,
        server: usize,
        as_primary: bool,
    ) -> Option<()> {
        let on = state.servers[server].clone();
        let known = state.instances[instance].knowledge.clone();
        let flight = state.instances[instance].flights[key].as_mut()?;
        let allowed = flight.stage == Stage::Boarding && on.up && on.primary == as_primary;
        let wants_primary = flight.wanted.latest() && !as_primary;
        (allowed && !wants_primary).then_some(())?;
        flight.closed_in = known;
        if self.is_broken(Broken::LoadsBelowTheFloor) {
            flight.closed_in.floors[key] = 0;
        }
        let position = if !on.primary {
            on.reported as u64 * RECORD
        } else if self.is_broken(Broken::TagFromTheInsertPosition) {
            on.insert() - 1
        } else if self.is_broken(Broken::TagAtTheFlushPosition) {
            on.flush()
        } else {
            on.flush() - 1
        };
        let quiesces =
            as_primary && flight.wanted.quiesces() && !self.is_broken(Broken::DoesNotWaitForWhatAStandbyShowed);
        let awaited = if quiesces { on.commits(usize::MAX) } else { 0 };
        flight.stage = Stage::Positioned { server, as_primary, timeline: on.timeline, position, awaited };
        Some(())
    }

    /// The statement is sent, and its snapshot taken.
    pub(crate) fn data(&self, state: &mut State, instance: usize, key: usize) -> Option<()> {
        let of_key = state.of_key(key);
        let flight = state.instances[instance].flights[key].as_mut()?;
        let Stage::Positioned { server, as_primary, timeline, position, awaited } = flight.stage else { return None };
        let on = &state.servers[server];
        (awaited & !on.visible == 0).then_some(())?;
        if on.primary != as_primary && on.timeline != timeline && flight.wanted.monotonic() {
            // A standby that was promoted meanwhile tells no upper bound of what it shows.
            self.end_flight(state, instance, key);
            return Some(());
        }
        let unconfirmed = self.is_broken(Broken::DoesNotConfirmTheTimeline);
        let timeline = if unconfirmed { flight.closed_in.timeline } else { timeline };
        let upper = flight.wanted.monotonic().then(|| on.insert());
        let history = flight.closed_in.fingerprint();
        let reflects = on.visible & of_key;
        // Fills that are alike are one to the session that was shown them.
        let fill = upper.unwrap_or(0) << 32
            | position << 20
            | u64::from(reflects) << 4
            | u64::from(on.primary) << 2
            | u64::from(timeline);
        let fill = Fill { key, timeline, tag: position, on_primary: on.primary, upper, fill, history };
        let entry = Entry { fill, reflects };
        flight.stage = Stage::Read { entry, as_primary };
        Some(())
    }

    /// The answer is judged, offered to the tiers, and given to those on board.
    pub(crate) fn land(&self, state: &mut State, instance: usize, key: usize) -> Option<()> {
        let flight = state.instances[instance].flights[key].clone()?;
        let Stage::Read { mut entry, as_primary } = flight.stage else { return None };
        if !entry.fill.on_primary && self.is_broken(Broken::TagAfterTheData) {
            entry.fill.tag = state.servers[1].reported as u64 * RECORD;
        }
        let (here, known) = (&state.instances[instance], &flight.closed_in);
        let reaches = entry.fill.reaches(&flight.wanted, known.floors[key], known.timeline, as_primary);
        // A replica's answer is held against the floors once more: somebody may have come on board after a retraction.
        let passed_by = !entry.fill.on_primary && entry.fill.tag < here.knowledge.floors[key];
        let looks_again = !self.is_broken(Broken::LoadsBelowTheFloor) && !self.is_broken(Broken::LooksAtTheFloorsOnce);
        if !reaches || (passed_by && looks_again) {
            self.end_flight(state, instance, key);
            return Some(());
        }
        let same_history = entry.fill.history == here.knowledge.fingerprint();
        if same_history && (here.knowledge.is_live(&entry.fill) || self.is_broken(Broken::NoFloors)) {
            self.admit(state, instance, entry);
            if self.shared {
                self.offer(state, entry);
            }
        }
        for session in self.on_board(state, instance, key) {
            let Busy::Reading(reading) = state.clients[session].busy.clone() else { continue };
            let by_rule = self.answers(state, instance, &entry, &reading.demand, false);
            // A flight may have left in a newer history than the one that the read's floor was counted in, or history was
            // replaced since.
            let own = same_history && entry.fill.history == reading.demand.history() && (reading.entitled || by_rule);
            if own {
                self.answer(state, session, &reading, &entry);
            } else {
                state.clients[session].busy = Busy::Idle;
            }
        }
        state.instances[instance].flights[key] = None;
        Some(())
    }

    fn admit(&self, state: &mut State, instance: usize, entry: Entry) {
        let here = &mut state.instances[instance];
        let slot = &mut here.local[entry.fill.key];
        if here.knowledge.admits(slot.as_ref().map(|present| &present.fill), &entry.fill) {
            *slot = Some(entry);
        }
    }

    fn offer(&self, state: &mut State, entry: Entry) {
        let timeline = entry.fill.timeline;
        let slot = &mut state.redis.slots[timeline as usize - 1][entry.fill.key];
        let stored = Stored::Entry(entry.fill);
        if replaces(slot.map(|(stored, _)| stored), stored, timeline) {
            *slot = Some((stored, entry.reflects));
        }
    }

    fn on_board(&self, state: &State, instance: usize, key: usize) -> Vec<usize> {
        let is_on_board =
            |busy: &Busy| matches!(busy, Busy::Reading(read) if read.key == key && read.instance == instance);
        (0..state.clients.len()).filter(|session| is_on_board(&state.clients[*session].busy)).collect()
    }

    /// The load failed: its readers have an error, or try again, which is a new read.
    pub(crate) fn end_flight(&self, state: &mut State, instance: usize, key: usize) {
        for session in self.on_board(state, instance, key) {
            state.clients[session].busy = Busy::Idle;
        }
        state.instances[instance].flights[key] = None;
    }
}
