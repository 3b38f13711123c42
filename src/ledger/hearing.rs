//! Whether this instance hears the bus, and whether it has heard everything: decided without I/O or a clock.
//!
//! A subscription can be confirmed and deaf, for ever and in silence (the server froze, the wrong server answered, the
//! client library gave up). So it counts for nothing until a heartbeat that was sent after it was opened has come back
//! through it, and for no longer than heartbeats keep coming back.
//!
//! Whoever drives this feeds in what happened, carries out the effects in order, and calls [`Hearing::tick`] at
//! [`Hearing::wake_at`].

use super::message::{Body, Message, Unreadable};
use super::order::{Found, Order};
use super::place::{Gap, Mark};
use super::{Beat, Notice};
use crate::Lsn;
use crate::lineage::Lineage;
use crate::rules::{Rule, holds};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How often heartbeats are sent, and after how long a subscription is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timing {
    /// Between two heartbeats.
    pub(crate) beat: Duration,
    /// Between two heartbeats when the last one could not be sent: the command connection comes back on its own time.
    pub(crate) beat_again: Duration,
    /// A subscription through which no heartbeat sent within this time has come back is deaf.
    pub(crate) deaf: Duration,
    /// Before the first attempt to open another subscription; doubled with every failure.
    pub(crate) reopen_min: Duration,
    /// The longest wait before another attempt.
    pub(crate) reopen_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(1),
            beat_again: Duration::from_millis(200),
            deaf: Duration::from_secs(3),
            reopen_min: Duration::from_millis(50),
            reopen_max: Duration::from_secs(1),
        }
    }
}

/// What the driver has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Drop the subscription if there is one, and open another; answer with [`Hearing::subscribed`] or
    /// [`Hearing::not_subscribed`].
    Reopen,
    /// Send a heartbeat with this nonce; answer with [`Hearing::beat_answered`].
    SendBeat(u64),
    /// Ask the log for the messages after this sequence number; answer with [`Hearing::repaired`].
    Repair {
        /// The log that they are of.
        lineage: Lineage,
        /// The last one that is known.
        after: u64,
    },
    /// Tell the owner.
    Tell(Heard),
}

/// What the owner of the epoch is told, in the order in which it is true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// Our heartbeats come back.
    Live,
    /// From here on everything that is published in this log is heard: a position of the primary read after this is a start
    /// for a new epoch. What was heard before counts no more.
    Begun(Lineage),
    /// Something was published and not heard, though hearing goes on.
    Gap(Gap),
    /// Everything since the last beginning has been heard, also what was missing or was published while deaf.
    Whole,
    /// Everything that the log knows to be retracted up to this position of a history has been told.
    Covered {
        /// The log.
        lineage: Lineage,
        /// The history that the position lies in.
        history: u64,
        /// The position.
        watermark: Lsn,
    },
    /// Nothing is known to be heard any longer.
    Deaf(Deaf),
    /// A retraction. May be told twice, and while deaf: floors only rise.
    Retracted(Notice),
    /// Somebody knows that history was replaced this often.
    Generation(u64),
    /// Bytes that are not a message of this release.
    Unreadable(Unreadable),
}

/// Why a subscription was given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Deaf {
    /// No heartbeat came back in time.
    Silent,
    /// The connection ended.
    Ended,
}

/// How far hearing has come.
///
/// "Proven" is not a state to be in: the heartbeat that proves a subscription carries the log's place, so the
/// subscription is live with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    /// No subscription is open.
    Connecting,
    /// The server confirmed a subscription, and nothing of ours has come back through it.
    Subscribed,
    /// Our heartbeats come back.
    Live,
}

/// The state of hearing. `random` gives nonces, which must not be guessable or repeat, and jitter.
pub(crate) struct Hearing<R> {
    random: R,
    timing: Timing,
    state: State,
    /// Attempts to open a subscription since one was live.
    attempts: u32,
    generation: u64,
    /// The place in the log, kept while nothing is heard: perhaps the log still has what is missed meanwhile.
    order: Option<Order>,
    effects: VecDeque<Effect>,
}

enum State {
    /// An attempt is due then.
    Waiting(Instant),
    /// An attempt is under way since then.
    Opening(Instant),
    Open(Channel),
}

/// One open subscription.
struct Channel {
    /// Heartbeats sent since it was opened and not yet heard, oldest first.
    sent: VecDeque<(u64, Instant)>,
    beat_due: Instant,
    /// When the newest heartbeat that came back was sent, or when the subscription was opened. The moment of sending,
    /// since a channel that delivers late has not shown that it is heard now.
    proven: Instant,
    /// One of them has come back.
    live: bool,
}

impl<R: FnMut() -> u64> Hearing<R> {
    /// Nothing is open, and the first attempt is due at once.
    pub(crate) fn new(timing: Timing, random: R, now: Instant) -> Self {
        Self {
            random,
            timing,
            state: State::Waiting(now),
            attempts: 0,
            generation: 0,
            order: None,
            effects: VecDeque::new(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match &self.state {
            State::Waiting(_) | State::Opening(_) => Phase::Connecting,
            State::Open(Channel { live: false, .. }) => Phase::Subscribed,
            State::Open(Channel { live: true, .. }) => Phase::Live,
        }
    }

    /// The next thing to do. Take them all after every call: one call leaves a handful at most.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn wake_at(&self) -> Instant {
        match &self.state {
            State::Waiting(until) => *until,
            State::Opening(since) => *since + self.timing.deaf,
            State::Open(channel) => channel.beat_due.min(channel.proven + self.timing.deaf),
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        if now < self.wake_at() {
            return;
        }
        match &mut self.state {
            State::Waiting(_) => {
                self.state = State::Opening(now);
                self.effects.push_back(Effect::Reopen);
            }
            State::Opening(_) => self.give_up(Deaf::Silent, now),
            State::Open(channel) if now >= channel.proven + self.timing.deaf => self.give_up(Deaf::Silent, now),
            State::Open(channel) => {
                let nonce = (self.random)();
                channel.sent.push_back((nonce, now));
                while channel.sent.front().is_some_and(|(_, sent)| now >= *sent + self.timing.deaf) {
                    channel.sent.pop_front();
                }
                channel.beat_due = now + self.timing.beat;
                if !holds(Rule::SilenceIsDeaf) {
                    channel.proven = now;
                }
                self.effects.push_back(Effect::SendBeat(nonce));
            }
        }
    }

    /// The server confirmed the subscription that [`Effect::Reopen`] asked for.
    pub(crate) fn subscribed(&mut self, now: Instant) {
        let channel = Channel { sent: VecDeque::new(), beat_due: now, proven: now, live: false };
        self.state = State::Open(channel);
        self.tick(now);
    }

    /// It could not be opened.
    pub(crate) fn not_subscribed(&mut self, now: Instant) {
        if matches!(self.state, State::Opening(_)) {
            self.give_up(Deaf::Ended, now);
        }
    }

    /// The subscription ended.
    pub(crate) fn ended(&mut self, now: Instant) {
        if matches!(self.state, State::Open(_)) {
            self.give_up(Deaf::Ended, now);
        }
    }

    /// What became of the last heartbeat: `None` if it could not be sent, which says nothing of the subscription.
    pub(crate) fn beat_answered(&mut self, beat: Option<&Beat>, now: Instant) {
        match (beat, &mut self.state) {
            (Some(beat), _) => self.hear_generation(beat.generation),
            (None, State::Open(channel)) => {
                channel.beat_due = channel.beat_due.min(now + self.timing.beat_again);
            }
            (None, _) => {}
        }
    }

    /// Something came through the subscription.
    pub(crate) fn message(&mut self, bytes: &[u8], now: Instant) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(unreadable) => return self.effects.push_back(Effect::Tell(Heard::Unreadable(unreadable))),
        };
        self.hear_generation(message.frame.generation);
        let mark = Mark::of(&message, bytes);
        // At once, in whatever order they come: floors only rise. But before what vouches for them.
        let retracted = match &message.body {
            Body::Retraction(notice) => Some(Effect::Tell(Heard::Retracted(notice.clone()))),
            Body::Heartbeat { .. } => None,
        };
        let (first, last) = if holds(Rule::FloorsAreFirst) { (retracted, None) } else { (None, retracted) };
        self.effects.extend(first);
        if let (Phase::Live, Some(order)) = (self.phase(), &mut self.order) {
            let found = order.hear(mark);
            self.found(found);
        }
        self.effects.extend(last);
        if let Body::Heartbeat { nonce, .. } = message.body {
            self.hear_beat(nonce, mark, now);
        }
    }

    /// The answer to [`Effect::Repair`]; `None` where the log has not got all of it, or did not answer.
    pub(crate) fn repaired(&mut self, messages: Option<&[Vec<u8>]>) {
        let Some(order) = self.order.as_mut().filter(|_| matches!(self.state, State::Open(Channel { live: true, .. })))
        else {
            return;
        };
        let decode = |bytes: &Vec<u8>| Message::decode(bytes).ok().map(|message| (Mark::of(&message, bytes), message));
        let answer: Option<Vec<(Mark, Message)>> = messages.and_then(|messages| messages.iter().map(decode).collect());
        let marks = answer.as_ref().map(|answer| answer.iter().map(|(mark, _)| *mark).collect());
        let found = order.answered(marks);
        for (_, message) in answer.into_iter().flatten() {
            if let Body::Retraction(notice) = message.body {
                self.effects.push_back(Effect::Tell(Heard::Retracted(notice)));
            }
        }
        self.found(found);
    }

    fn found(&mut self, found: Vec<Found>) {
        for found in found {
            self.effects.push_back(match found {
                Found::Ordered(Mark { frame, history, .. }) => {
                    let (lineage, watermark) = (frame.lineage, frame.watermark);
                    Effect::Tell(Heard::Covered { lineage, history, watermark })
                }
                Found::Gap(gap) => Effect::Tell(Heard::Gap(gap)),
                Found::Ask { lineage, after } => Effect::Repair { lineage, after },
                Found::Whole => Effect::Tell(Heard::Whole),
                Found::Begun(frame) => Effect::Tell(Heard::Begun(frame.lineage)),
            });
        }
    }

    fn hear_beat(&mut self, nonce: u64, mark: Mark, now: Instant) {
        let State::Open(channel) = &mut self.state else { return };
        let Some(at) = channel.sent.iter().position(|(sent, _)| *sent == nonce) else { return };
        let Some((_, sent)) = channel.sent.drain(..=at).next_back() else { return };
        if now >= sent + self.timing.deaf {
            return;
        }
        channel.proven = sent;
        if !channel.live {
            channel.live = true;
            self.attempts = 0;
            self.effects.push_back(Effect::Tell(Heard::Live));
            let found = match &mut self.order {
                Some(order) => order.resume(mark),
                None => {
                    self.order = Some(Order::at(mark.frame));
                    vec![Found::Begun(mark.frame), Found::Ordered(mark)]
                }
            };
            self.found(found);
        }
    }

    fn hear_generation(&mut self, generation: u64) {
        if generation > self.generation {
            self.generation = generation;
            self.effects.push_back(Effect::Tell(Heard::Generation(generation)));
        }
    }

    fn give_up(&mut self, why: Deaf, now: Instant) {
        if self.phase() == Phase::Live {
            self.effects.push_back(Effect::Tell(Heard::Deaf(why)));
        }
        if let Some(order) = &mut self.order {
            order.pause();
        }
        let doubled = self.timing.reopen_min.saturating_mul(1 << self.attempts.min(16));
        let longest = doubled.min(self.timing.reopen_max);
        // Between half of it and all of it: instances that were cut off together do not come back together.
        let jitter = (longest / 2).mul_f64(((self.random)() >> 11) as f64 / (1_u64 << 53) as f64);
        self.attempts = self.attempts.saturating_add(1);
        let never = if self.attempts > 1 && !holds(Rule::HearingIsRetried) {
            10_000 * self.timing.deaf
        } else {
            Duration::ZERO
        };
        self.state = State::Waiting(now + longest / 2 + jitter + never);
    }
}

impl<R> std::fmt::Debug for Hearing<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hearing").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
