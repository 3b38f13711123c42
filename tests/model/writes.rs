//! Writes: commit, token, retraction; and how others are told.

use crate::model::Bounds;
use crate::state::{Busy, RECORD, Session, State, bit};
use crate::variants::Broken;
use highwater::internals::rules::{Stored, replaces};

impl Bounds {
    pub(crate) fn write(&self, state: &mut State, session: usize, key: usize, instance: usize) -> Option<()> {
        let server = state.primary()?;
        let write = state.writes.len();
        // A row is locked until the commit before it is visible.
        let locked = state.servers[server].commits(usize::MAX) & state.of_key(key) & !state.servers[server].visible;
        if write == self.writes || locked != 0 {
            return None;
        }
        // The instance writes where it believes the primary to be.
        let on = &mut state.servers[server];
        if on.timeline != state.instances[instance].knowledge.timeline {
            return None;
        }
        on.log.push(Some(write as u8));
        let timeline = on.timeline;
        state.writes.push(key);
        state.clients[session].busy = Busy::Writing { write: write as u8, server, timeline, instance };
        Some(())
    }

    /// The commit is visible, the token is read, the session raised, the keys retracted here, and the others told.
    pub(crate) fn acknowledge(&self, state: &mut State, session: usize) -> Option<()> {
        let Busy::Writing { write, server, timeline, instance } = state.clients[session].busy else { return None };
        (state.servers[server].visible & bit(write) != 0).then_some(())?;
        let on = &state.servers[server];
        let begin = on.log.iter().position(|record| *record == Some(write))?;
        let early = self.is_broken(Broken::TokenBeforeTheCommit);
        let token = (timeline, if early { begin as u64 * RECORD } else { on.insert() });
        state.clients[session].client.raise(&state.instances[instance].knowledge, token, None);
        state.clients[session].told |= bit(write);
        state.clients[session].busy = Busy::Idle;
        self.retract(state, instance, write, token);
        Some(())
    }

    fn retract(&self, state: &mut State, instance: usize, write: u8, token: (u32, u64)) {
        let key = state.writes[write as usize];
        let here = &mut state.instances[instance];
        if self.is_broken(Broken::NoFloors) || here.knowledge.retract(key, token) {
            here.retracted |= bit(write);
        }
        let others = (0..self.instances).filter(|other| *other != instance).map(Some);
        state.bus.extend(others.chain(self.shared.then_some(None)).map(|to| (to, key, token)));
        state.bus.sort_unstable();
    }

    /// The connection is lost behind the COMMIT, and the commit goes on.
    pub(crate) fn lose_answer(&self, state: &mut State, session: usize) -> Option<()> {
        let Busy::Writing { write, timeline, instance, .. } = state.clients[session].busy else { return None };
        (state.spent.lost_answers < self.lost_answers).then(|| state.spent.lost_answers += 1)?;
        self.begin_unresolved(&mut state.clients[session], write, timeline, instance);
        Some(())
    }

    pub(crate) fn begin_unresolved(&self, client: &mut Session, write: u8, timeline: u32, instance: usize) {
        client.client.begin_unresolved();
        client.busy = Busy::Unresolved { write, timeline, instance };
    }

    /// The primary says what became of it; only then is the session told, and it goes on above a position read after that.
    pub(crate) fn resolve(&self, state: &mut State, session: usize) -> Option<()> {
        let Busy::Unresolved { write, timeline, instance } = state.clients[session].busy else { return None };
        let server = &state.servers[state.primary()?];
        let known = &state.instances[instance].knowledge;
        (server.timeline == known.timeline).then_some(())?;
        let committed = server.commits(usize::MAX) & bit(write) != 0;
        let over = !committed || server.visible & bit(write) != 0;
        let asked_in_time = over || self.is_broken(Broken::ResolvedWhileInProgress);
        asked_in_time.then_some(())?;
        let at = (server.timeline, server.insert());
        let client = &mut state.clients[session];
        client.client.end_unresolved(known, at);
        client.busy = Busy::Idle;
        // On another timeline nobody says that it was committed.
        if committed && server.timeline == timeline {
            client.told |= bit(write);
            self.retract(state, instance, write, at);
        }
        Some(())
    }

    pub(crate) fn hand_over(&self, state: &mut State) -> Option<()> {
        (state.spent.handed_over < self.handed_over).then(|| state.spent.handed_over += 1)?;
        let first = state.clients[0].clone();
        let second = &mut state.clients[1];
        second.client.observe(&first.client);
        second.told |= first.told;
        Some(())
    }

    pub(crate) fn deliver(&self, state: &mut State, message: usize) -> Option<()> {
        let (to, key, at) = state.bus.remove(message);
        let Some(instance) = to else {
            let slot = &mut state.redis.slots[at.0 as usize - 1][key];
            let marker = Stored::Marker(at.1);
            if replaces(slot.map(|(stored, _)| stored), marker, at.0) {
                *slot = Some((marker, 0));
            }
            return Some(());
        };
        let write = state.servers.iter().find(|server| server.timeline == at.0).map_or(0, |server| {
            // For the properties: all of the key that the position covers.
            server.commits((at.1 / RECORD) as usize)
        }) & state.of_key(key);
        let lost = state.lost(state.instances[instance].knowledge.timeline);
        let here = &mut state.instances[instance];
        if here.knowledge.retract(key, at) {
            here.retracted |= write & !lost;
        }
        Some(())
    }

    pub(crate) fn copy_redis(&self, state: &mut State) -> Option<()> {
        let may_fall_back = state.spent.fallbacks < self.fallbacks && state.redis.copy.is_none();
        may_fall_back.then(|| state.redis.copy = Some(state.redis.slots))
    }

    pub(crate) fn fall_back(&self, state: &mut State) -> Option<()> {
        (state.spent.fallbacks < self.fallbacks).then(|| state.spent.fallbacks += 1)?;
        state.redis.slots = state.redis.copy.take()?;
        Some(())
    }
}
