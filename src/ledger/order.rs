//! Messages in their order: what is missing is asked for again, and what comes meanwhile waits for it.

use super::message::Frame;
use super::place::{Gap, Mark, Place, Step};
use crate::lineage::Lineage;
use crate::rules::{Rule, holds};
use std::collections::VecDeque;

/// The place in the log, and what waits behind a gap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Order {
    place: Place,
    /// What was heard since something went missing, while that is being asked for.
    waiting: Option<VecDeque<Mark>>,
    /// How often in a row something went missing while it was asked for.
    rounds: u32,
}

/// What a message, or the answer to a question, meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// It was next in order, and vouches for what its frame says.
    Ordered(Mark),
    /// Something is missing.
    Gap(Gap),
    /// Ask the log for what follows this place.
    Ask { lineage: Lineage, after: u64 },
    /// Nothing is missing any more.
    Whole,
    /// What is missing stays missing: everything is complete again from this place.
    Begun(Frame),
}

/// As many messages wait as are likely to come while a question travels; behind more of them the place is given up.
const WAITING_MAX: usize = 4_096;

/// After so many questions in a row the place is given up: more is lost than comes.
const ROUNDS_MAX: u32 = 4;

impl Order {
    pub(crate) fn at(frame: Frame) -> Self {
        Self { place: Place::at(frame), waiting: None, rounds: 0 }
    }

    /// How many messages wait for what is missing.
    #[cfg(feature = "internals")]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.as_ref().map_or(0, VecDeque::len)
    }

    /// Nobody answers any more, and nothing more is heard for now.
    pub(crate) fn pause(&mut self) {
        (self.waiting, self.rounds) = (None, 0);
    }

    /// Hearing has begun anew, with this message.
    pub(crate) fn resume(&mut self, mark: Mark) -> Vec<Found> {
        let mut found = self.hear(mark);
        if matches!(found.as_slice(), [Found::Ordered(_)] | []) {
            found.push(Found::Whole);
        }
        found
    }

    /// Something was heard.
    pub(crate) fn hear(&mut self, mark: Mark) -> Vec<Found> {
        if let Some(waiting) = &mut self.waiting {
            if waiting.len() >= WAITING_MAX {
                return self.give_up(mark);
            }
            waiting.push_back(mark);
            return if holds(Rule::GapStopsWatermark) { Vec::new() } else { vec![Found::Ordered(mark)] };
        }
        match self.place.step(&mark) {
            Step::Again => Vec::new(),
            Step::Gap(gap) if holds(Rule::GapsAreNoticed) => {
                let mut found = vec![Found::Gap(gap)];
                found.append(&mut match gap {
                    Gap::Missing => self.ask(VecDeque::from([mark])),
                    Gap::Fell | Gap::OtherLog => self.give_up(mark),
                });
                found
            }
            Step::Next | Step::Gap(_) => {
                self.place.take(&mark);
                self.rounds = 0;
                vec![Found::Ordered(mark)]
            }
        }
    }

    /// What the log has after the place that was asked about; `None` where it does not have all of it, or did not answer.
    pub(crate) fn answered(&mut self, answer: Option<Vec<Mark>>) -> Vec<Found> {
        let Some(mut waiting) = self.waiting.take() else { return Vec::new() };
        let (mut found, newest) = (Vec::new(), waiting.back().copied());
        let Some(answer) = answer.filter(|answer| !answer.is_empty()) else {
            return newest.map(|mark| self.give_up(mark)).unwrap_or_default();
        };
        let asked = answer.len();
        let mut marks: VecDeque<Mark> = answer.into();
        marks.append(&mut waiting);
        for at in 0..marks.len() {
            let Some(&mark) = marks.get(at) else { break };
            match self.place.step(&mark) {
                Step::Again => {}
                Step::Next => {
                    self.place.take(&mark);
                    found.push(Found::Ordered(mark));
                }
                // A heartbeat that was heard before what the log then told of.
                Step::Gap(Gap::Fell) if at >= asked && mark.is_heartbeat() => {}
                Step::Gap(Gap::Missing) if at >= asked && self.rounds < ROUNDS_MAX => {
                    found.append(&mut self.ask(marks.split_off(at)));
                    return found;
                }
                Step::Gap(_) => {
                    found.append(&mut self.give_up(newest.unwrap_or(mark)));
                    return found;
                }
            }
        }
        self.rounds = 0;
        found.push(Found::Whole);
        found
    }

    fn ask(&mut self, waiting: VecDeque<Mark>) -> Vec<Found> {
        self.waiting = Some(waiting);
        self.rounds += 1;
        vec![Found::Ask { lineage: self.place.lineage, after: self.place.sequence }]
    }

    fn give_up(&mut self, mark: Mark) -> Vec<Found> {
        *self = Self::at(mark.frame);
        // So that it is known when it comes again.
        self.place.take(&mark);
        vec![Found::Begun(mark.frame), Found::Ordered(mark)]
    }
}
