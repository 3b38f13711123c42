//! The instance that holds entries: what it hears, and what it makes of it.

use super::model::{Bounds, spend};
use super::state::{Reader, State};
use super::variants::Broken;
use highwater::internals::log::{Told, vouches};

impl Bounds {
    /// A subscription is opened, and the first heartbeat comes back through it.
    pub(super) fn listen(&self, state: &mut State) -> Option<()> {
        (!state.reader.live).then_some(())?;
        let (history, flush) = (state.reader.knowledge.fingerprint(), state.primary.flush());
        let message = state.redis.log.beat(state.redis.server, history, flush, false);
        state.reader.live = true;
        let told = state.reader.ear.resume(&message);
        self.take(&mut state.reader, told);
        Some(())
    }

    pub(super) fn deafen(&self, state: &mut State) -> Option<()> {
        state.reader.live.then_some(())?;
        spend(&mut state.spent.deafs, self.deafs)?;
        let reader = &mut state.reader;
        (reader.live, reader.whole, reader.question) = (false, false, None);
        reader.queue.clear();
        reader.ear.pause();
        Some(())
    }

    pub(super) fn deliver(&self, state: &mut State) -> Option<()> {
        let reader = &mut state.reader;
        (!reader.queue.is_empty() && reader.half.is_none()).then_some(())?;
        let message = reader.queue.remove(0);
        let told = reader.ear.hear(&message);
        self.take(reader, told);
        Some(())
    }

    pub(super) fn lose(&self, state: &mut State) -> Option<()> {
        (!state.reader.queue.is_empty()).then_some(())?;
        spend(&mut state.spent.losses, self.losses)?;
        state.reader.queue.remove(0);
        Some(())
    }

    /// What the log answers to the question for what is missing.
    pub(super) fn answer(&self, state: &mut State, heard: bool) -> Option<()> {
        let (lineage, after) = state.reader.question.take()?;
        if !heard {
            spend(&mut state.spent.losses, self.losses)?;
        }
        let found = state.redis.log.repair(state.redis.server, lineage, after).filter(|_| heard);
        let told = state.reader.ear.answered(found.as_deref());
        self.take(&mut state.reader, told);
        Some(())
    }

    /// A position of the primary is read, to begin at.
    pub(super) fn read_start(&self, state: &mut State) -> Option<()> {
        let reader = &mut state.reader;
        let ready = reader.live && reader.whole || self.is_broken(Broken::StartsBeforeItHears);
        (ready && reader.knowledge.span.is_none() && reader.start.is_none()).then_some(())?;
        reader.start = Some(state.primary.insert());
        Some(())
    }

    pub(super) fn start(&self, state: &mut State) -> Option<()> {
        let reader = &mut state.reader;
        let start = reader.start.take()?;
        let lineage = reader.lineage.filter(|_| reader.live && reader.whole)?;
        let history = reader.knowledge.fingerprint();
        let watermark = if reader.covered.0 == history { reader.covered.1 } else { 0 };
        reader.knowledge.span = Some((vouches(lineage, history), start, watermark));
        Some(())
    }

    pub(super) fn finish(&self, state: &mut State) -> Option<()> {
        let retraction = state.reader.half.take()?;
        state.reader.knowledge.retract(retraction.key, retraction.at);
        Some(())
    }

    /// The primary is looked at. Where it does not crash there is nothing to be learned.
    pub(super) fn look(&self, state: &mut State) -> Option<()> {
        (self.crashes > 0).then_some(())?;
        let known = &mut state.reader.knowledge;
        known.saw_primary(known.timeline, (state.primary.insert(), state.primary.flush()), known.switch);
        Some(())
    }

    /// As the bus does with what it is told (`ledger/bus.rs`).
    fn take(&self, reader: &mut Reader, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Retracted(retraction) if self.is_broken(Broken::WatermarkBeforeFloors) => {
                    reader.half = Some(retraction);
                }
                Told::Retracted(retraction) => {
                    reader.knowledge.retract(retraction.key, retraction.at);
                }
                Told::Begun { lineage } => {
                    (reader.whole, reader.lineage, reader.covered) = (true, Some(lineage), (0, 0));
                    reader.knowledge.span = None;
                    if !self.is_broken(Broken::StartsBeforeItHears) {
                        reader.start = None;
                    }
                }
                Told::Whole => reader.whole = true,
                Told::Gap => reader.whole = false,
                Told::Ask { lineage, after } => reader.question = Some((lineage, after)),
                Told::Covered { lineage, history, watermark } if reader.lineage == Some(lineage) => {
                    reader.covered = (history, watermark);
                    let ours = history == reader.knowledge.fingerprint();
                    if let Some(span) = reader.knowledge.span.as_mut().filter(|_| ours) {
                        span.2 = span.2.max(watermark);
                    }
                }
                Told::Covered { .. } => {}
            }
        }
    }
}
