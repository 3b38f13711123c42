//! Writes, from BEGIN to the settlement; the primary, and Redis.

use super::model::{Announcing, Bounds, spend};
use super::state::{Stage, State, Write, bit};
use super::variants::Broken;
use highwater::internals::log::{Retraction, vouches};

impl Bounds {
    /// Nothing is gained by what comes between the position and the announcement: a higher one holds less back.
    pub(super) fn announce(
        &self,
        state: &mut State,
        session: usize,
        key: usize,
        name: usize,
        how: Announcing,
    ) -> Option<()> {
        if how != Announcing::Heard && !self.is_broken(Broken::AnnouncedWithTheCommit) {
            spend(&mut state.spent.calls, self.calls)?;
        }
        let (write, above, late) = (state.writes.len(), state.primary.insert(), how == Announcing::Late);
        state.writes.push(Write { session, key, name, above, stage: Stage::Announced(None), late, untold: None });
        if !late {
            let acknowledged = self.arrive(state, write, false).filter(|_| how == Announcing::Heard);
            state.writes[write].stage = Stage::Announced(acknowledged);
        }
        Some(())
    }

    fn what(&self, state: &State, write: usize, at: u64) -> Retraction {
        let known = self.known_as(state.writes[write].name);
        Retraction { history: known.fingerprint(), key: state.writes[write].key, at: (known.timeline, at) }
    }

    fn arrive(&self, state: &mut State, write: usize, renews: bool) -> Option<u64> {
        let what = self.what(state, write, state.writes[write].above);
        state.redis.log.announce(state.redis.server, write as u8, what, renews)
    }

    /// What was sent while the write was announced arrives whenever it likes.
    pub(super) fn renew(&self, state: &mut State, write: usize) -> Option<()> {
        spend(&mut state.spent.renewals, self.renewals)?;
        self.arrive(state, write, true);
        Some(())
    }

    pub(super) fn announce_late(&self, state: &mut State, write: usize) -> Option<()> {
        std::mem::take(&mut state.writes[write].late).then_some(())?;
        let lineage = self.arrive(state, write, false);
        if self.is_broken(Broken::AnnouncedWithTheCommit) {
            match &mut state.writes[write].stage {
                Stage::Announced(acknowledged) | Stage::Committed(acknowledged) | Stage::Placed(acknowledged, _) => {
                    *acknowledged = lineage;
                }
                Stage::Over => {}
            }
        }
        Some(())
    }

    /// Without crashes all is flushed, and the token read, at once: a higher one only retracts and demands more.
    pub(super) fn commit(&self, state: &mut State, write: usize) -> Option<()> {
        let Stage::Announced(acknowledged) = state.writes[write].stage else { return None };
        state.primary.log.push(Some(write as u8));
        state.writes[write].stage = Stage::Committed(acknowledged);
        if self.crashes == 0 {
            state.primary.flushed = state.primary.log.len();
            self.place(state, write)?;
        }
        Some(())
    }

    /// The commit was flushed and is acknowledged, and the token is read.
    pub(super) fn place(&self, state: &mut State, write: usize) -> Option<()> {
        let Stage::Committed(acknowledged) = state.writes[write].stage else { return None };
        state.primary.is_flushed(write).then_some(())?;
        state.writes[write].stage = Stage::Placed(acknowledged, state.primary.insert());
        Some(())
    }

    pub(super) fn settle(&self, state: &mut State, write: usize, heard: bool) -> Option<()> {
        let Stage::Placed(acknowledged, token) = state.writes[write].stage else { return None };
        if !heard {
            spend(&mut state.spent.calls, self.calls)?;
        }
        let vouched = self.retract(state, write, token, true);
        let vouched = match heard {
            true => vouched.filter(|log| Some(*log) == acknowledged || self.is_broken(Broken::VouchedUnannounced)),
            false => acknowledged.filter(|_| self.is_broken(Broken::VouchedUnacknowledged)),
        };
        self.tell(state, write, token, vouched);
        Some(())
    }

    /// The settlement did not arrive, or not in time; it will be told again.
    pub(super) fn settle_lost(&self, state: &mut State, write: usize) -> Option<()> {
        let Stage::Placed(acknowledged, token) = state.writes[write].stage else { return None };
        spend(&mut state.spent.calls, self.calls)?;
        state.writes[write].untold = Some(token);
        self.tell(state, write, token, acknowledged.filter(|_| self.is_broken(Broken::VouchedUnacknowledged)));
        Some(())
    }

    /// The session is told that the write was committed.
    fn tell(&self, state: &mut State, write: usize, token: u64, log: Option<u64>) {
        let known = self.known_as(state.writes[write].name);
        let session = &mut state.clients[state.writes[write].session];
        session.client.raise(&known, (known.timeline, token), log.map(|log| vouches(log, known.fingerprint())));
        session.told |= bit(write);
        state.writes[write].stage = Stage::Over;
    }

    pub(super) fn tell_again(&self, state: &mut State, write: usize, settles: bool) -> Option<()> {
        let token = state.writes[write].untold.take()?;
        self.retract(state, write, token, settles);
        Some(())
    }

    fn retract(&self, state: &mut State, write: usize, token: u64, settles: bool) -> Option<u64> {
        let what = self.what(state, write, token);
        let settles = settles.then(|| (write as u8, self.flush(state)));
        let (vouched, message) = state.redis.log.retract(state.redis.server, what, settles);
        self.publish(state, message);
        vouched
    }

    fn flush(&self, state: &State) -> u64 {
        if self.is_broken(Broken::WatermarkAtTheInsertPosition) {
            state.primary.insert()
        } else {
            state.primary.flush()
        }
    }

    fn publish(&self, state: &mut State, message: Vec<u8>) {
        if state.reader.live {
            state.reader.queue.push(message);
        }
    }

    /// Whoever makes the write is gone. What was sent of it stays.
    pub(super) fn die(&self, state: &mut State, write: usize) -> Option<()> {
        spend(&mut state.spent.deaths, self.deaths)?;
        state.writes[write].stage = Stage::Over;
        Some(())
    }

    pub(super) fn hand_over(&self, state: &mut State) -> Option<()> {
        spend(&mut state.spent.handed_over, self.handed_over)?;
        let [first, second] = &mut state.clients;
        second.client.observe(&first.client);
        second.told |= first.told;
        Some(())
    }

    /// What was not flushed is gone, and every connection with it.
    pub(super) fn crash(&self, state: &mut State) -> Option<()> {
        spend(&mut state.spent.crashes, self.crashes)?;
        let flushed = state.primary.flushed;
        state.primary.log.truncate(flushed);
        for write in &mut state.writes {
            if !matches!(write.stage, Stage::Placed(..)) {
                write.stage = Stage::Over;
            }
        }
        Some(())
    }

    /// Somebody's heartbeat; a later one comes after every lease that was given until now.
    pub(super) fn beat(&self, state: &mut State, name: usize, later: bool) -> Option<()> {
        (state.reader.queue.len() + state.reader.ear.waiting() < self.queue).then_some(())?;
        if later {
            spend(&mut state.spent.leases, self.leases)?;
        }
        let (history, flush) = (self.known_as(name).fingerprint(), self.flush(state));
        let message = state.redis.log.beat(state.redis.server, history, flush, later);
        self.publish(state, message);
        Some(())
    }

    pub(super) fn copy_redis(&self, state: &mut State) -> Option<()> {
        (state.spent.failovers < self.failovers && state.redis.copy.is_none()).then_some(())?;
        state.redis.copy = Some(state.redis.log.clone());
        Some(())
    }

    /// A replica that was behind takes over. The server that is left goes on by itself.
    pub(super) fn fall_back(&self, state: &mut State) -> Option<()> {
        let copy = state.redis.copy.take()?;
        spend(&mut state.spent.failovers, self.failovers)?;
        let log = std::mem::replace(&mut state.redis.log, copy);
        state.redis.left = Some((state.redis.server, log));
        (state.redis.server, state.redis.servers) = (state.redis.servers, state.redis.servers + 1);
        Some(())
    }

    /// Everybody is led to the server that was left.
    pub(super) fn come_back(&self, state: &mut State) -> Option<()> {
        (state.redis.server, state.redis.log) = state.redis.left.take()?;
        Some(())
    }
}
