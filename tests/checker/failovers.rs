//! Random failovers, against a model that keeps all that led to each value and decides the promise by the letter.

use std::collections::{BTreeMap, BTreeSet};

use highwater::Rung;
use highwater::testkit::history::{Ask, History, KeyId, Kind, Limits, OpId, Outcome, Seen, SessionId, check};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A write that is told, or whose outcome stays unknown though it happened. Its version is learned either way: what
    /// a value was built on is hidden from the checker where it is not.
    Write {
        session: u64,
        key: u64,
        told: bool,
    },
    /// A read that is given some value that the key ever had, lost or not, or none.
    Read {
        session: u64,
        key: u64,
        pick: usize,
    },
    Hand {
        from: u64,
        to: u64,
    },
    Report {
        session: u64,
    },
    /// Each key loses some of its newest versions.
    Failover {
        lost: [usize; 2],
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (session, key) = (0_u64..3, 0_u64..2);
    let step = prop_oneof![
        6 => (session.clone(), key.clone(), prop::bool::weighted(0.8))
            .prop_map(|(session, key, told)| Step::Write { session, key, told }),
        8 => (session.clone(), key, 0_usize..100).prop_map(|(session, key, pick)| Step::Read { session, key, pick }),
        1 => (session.clone(), session.clone()).prop_map(|(from, to)| Step::Hand { from, to }),
        2 => session.prop_map(|session| Step::Report { session }),
        2 => [0_usize..4, 0_usize..4].prop_map(|lost| Step::Failover { lost }),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Clone, Copy)]
struct Known {
    write: OpId,
    key: u64,
    since: usize,
}

/// The whole truth.
#[derive(Default)]
struct Model {
    history: History,
    chains: BTreeMap<u64, Vec<OpId>>,
    /// Every value that a key ever had, with all that led to it.
    values: BTreeMap<u64, Vec<Vec<OpId>>>,
    lost: BTreeMap<OpId, usize>,
    told: Vec<Known>,
    own: BTreeMap<u64, Vec<Known>>,
    seen: BTreeMap<u64, Vec<Known>>,
    reported: BTreeMap<u64, usize>,
    expected: BTreeMap<Kind, u64>,
}

impl Model {
    fn step(&mut self, now: usize, step: Step) {
        let at = now as u64;
        match step {
            Step::Write { session, key, told } => {
                let write = self.history.write(at, SessionId(session), KeyId(key));
                let chain = self.chains.entry(key).or_default();
                chain.push(write);
                self.values.entry(key).or_default().push(chain.clone());
                let version = chain.len() as u64;
                if told {
                    self.history.finish(at, write, Outcome::committed(version));
                    let known = Known { write, key, since: now };
                    self.told.push(known);
                    self.own.entry(session).or_default().push(known);
                } else {
                    self.history.finish(at, write, Outcome::Unknown { version: Some(version) });
                }
            }
            Step::Read { session, key, pick } => self.read(now, session, key, pick),
            Step::Hand { from, to } => {
                self.history.hand(at, SessionId(from), SessionId(to));
                let unexcused = |known: &&Known| !self.excused(from, known);
                let handed = self.own.get(&from).into_iter().flatten().filter(unexcused);
                let handed: Vec<Known> = handed.map(|known| Known { since: now, ..*known }).collect();
                self.own.entry(to).or_default().extend(handed);
            }
            Step::Report { session } => {
                self.history.report_loss(at, SessionId(session));
                self.reported.insert(session, now);
            }
            Step::Failover { lost } => {
                let replacement = self.history.replaced(at);
                for (key, lost) in (0..).zip(lost) {
                    let chain = self.chains.entry(key).or_default();
                    let stays = chain.len().saturating_sub(lost);
                    for (version, write) in (stays as u64 + 1..).zip(chain.split_off(stays)) {
                        self.history.lose(replacement, write, version);
                        self.lost.insert(write, now);
                    }
                }
            }
        }
    }

    fn read(&mut self, now: usize, session: u64, key: u64, pick: usize) {
        let at = now as u64;
        let ask = Ask { latest: true, ..Ask::session().monotonic() };
        let read = self.history.read(at, SessionId(session), KeyId(key), ask);
        let values = self.values.entry(key).or_default();
        // The absent row is one more value.
        let led_to = values.get(pick % (values.len() + 1)).cloned().unwrap_or_default();
        let seen = match led_to.last() {
            Some(&write) => Seen::row(led_to.len() as u64, write, Rung::Local),
            None => Seen::absent(Rung::Local),
        };
        self.history.finish(at, read, Outcome::Saw(seen));
        for kind in self.broken(session, key, &led_to) {
            *self.expected.entry(kind).or_default() += 1;
        }
        let saw = led_to.into_iter().map(|write| Known { write, key, since: now });
        self.seen.entry(session).or_default().extend(saw);
    }

    fn broken(&self, session: u64, key: u64, led_to: &[OpId]) -> BTreeSet<Kind> {
        let missed = |known: &&Known| known.key == key && !led_to.contains(&known.write);
        let judge = |known: &Known, kind: Kind| match self.lost.contains_key(&known.write) {
            false => Some(kind),
            true => (!self.excused(session, known)).then_some(Kind::LossPaperedOver),
        };
        let of = |known: &BTreeMap<u64, Vec<Known>>| known.get(&session).cloned().unwrap_or_default();
        let mut broken = BTreeSet::new();
        broken.extend(of(&self.own).iter().filter(missed).filter_map(|known| judge(known, Kind::ReadYourWrites)));
        broken.extend(of(&self.seen).iter().filter(missed).filter_map(|known| judge(known, Kind::MonotonicReads)));
        let stands = |known: &&Known| !self.lost.contains_key(&known.write);
        broken.extend(self.told.iter().filter(missed).filter(stands).map(|_| Kind::Latest));
        broken
    }

    fn excused(&self, session: u64, known: &Known) -> bool {
        let reported = self.reported.get(&session);
        self.lost.get(&known.write).is_some_and(|lost| reported > Some(lost)) && reported > Some(&known.since)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn failovers_are_judged_by_the_letter(steps in steps()) {
        let mut model = Model::default();
        for (now, &step) in steps.iter().enumerate() {
            model.step(now, step);
        }
        let verdict = check(&model.history, &Limits::default());
        prop_assert_eq!(verdict.counts(), &model.expected, "{}\n{}", verdict, model.history.to_edn());
        prop_assert_eq!(verdict.tally().lost, model.lost.len() as u64);
    }
}
