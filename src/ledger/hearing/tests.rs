use super::super::message::{self, Frame};
use super::*;
use crate::{Lsn, Position};
use proptest::prelude::*;

const LOG: u64 = 7;

/// Its watermark is its sequence number, as if each retraction were of a position like its own.
fn frame(log: u64, sequence: u64) -> Frame {
    Frame { lineage: lineage(log), sequence, generation: 0, watermark: Lsn::new(sequence) }
}

fn lineage(log: u64) -> Lineage {
    Lineage::from_number(log)
}

fn notice(lsn: u64) -> Notice {
    let key = crate::Digest::of_key(&lsn.to_be_bytes());
    Notice { history: 1, position: Position::new(1, Lsn::new(lsn)), keys: vec![key], groups: Vec::new() }
}

fn retraction(log: u64, sequence: u64, lsn: u64) -> Vec<u8> {
    [frame(log, sequence).encode(), message::retraction(&notice(lsn))].concat()
}

fn heartbeat(log: u64, sequence: u64, nonce: u64) -> Vec<u8> {
    [frame(log, sequence).encode(), message::heartbeat(nonce, 1)].concat()
}

/// A hearing and its time. Nonces count up from 1, since jitter draws none before something fails.
struct World {
    hearing: Hearing<Box<dyn FnMut() -> u64>>,
    now: Instant,
    /// What a question for what is missing is answered with: the messages of the log, numbered from 1.
    log: Option<Vec<Vec<u8>>>,
    covered: u64,
}

impl World {
    fn new() -> Self {
        let (now, mut last) = (Instant::now(), 0);
        let random: Box<dyn FnMut() -> u64> = Box::new(move || {
            last += 1;
            last
        });
        Self { hearing: Hearing::new(Timing::default(), random, now), now, log: None, covered: 0 }
    }

    /// One that is live at sequence number `sequence`.
    fn live(sequence: u64) -> Self {
        let mut world = Self::new();
        assert_eq!(world.after(0), [Effect::Reopen]);
        world.hearing.subscribed(world.now);
        assert_eq!(world.effects(), [Effect::SendBeat(1)]);
        assert_eq!(world.hear(&heartbeat(LOG, sequence, 1)), [Heard::Live, Heard::Begun(lineage(LOG))]);
        world
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.hearing.next_effect()).collect()
    }

    fn after(&mut self, ms: u64) -> Vec<Effect> {
        self.now += Duration::from_millis(ms);
        self.hearing.tick(self.now);
        self.effects()
    }

    fn hear(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.hearing.message(bytes, self.now);
        let mut told = Vec::new();
        while let Some(effect) = self.hearing.next_effect() {
            match effect {
                Effect::Tell(Heard::Covered { watermark, .. }) => self.covered = watermark.offset(),
                Effect::Tell(heard) => told.push(heard),
                Effect::Repair { after, .. } => {
                    let missed = self.log.as_ref().map(|log| log.get(after as usize..).unwrap_or_default().to_vec());
                    self.hearing.repaired(missed.as_deref());
                }
                other => panic!("{other:?}"),
            }
        }
        told
    }
}

#[test]
fn a_confirmed_subscription_is_not_live_until_its_own_heartbeat_returns() {
    let mut world = World::new();
    assert_eq!(world.after(0), [Effect::Reopen]);
    world.hearing.subscribed(world.now);
    assert_eq!(world.effects(), [Effect::SendBeat(1)]);
    assert_eq!(world.hear(&heartbeat(LOG, 4, 99)), [], "somebody else's heartbeat proves nothing");
    assert_eq!(world.hear(&retraction(LOG, 5, 50)), [Heard::Retracted(notice(50))], "told while deaf all the same");
    assert_eq!(world.hearing.phase(), Phase::Subscribed);
    assert_eq!(world.hear(&heartbeat(LOG, 5, 1)), [Heard::Live, Heard::Begun(lineage(LOG))]);
    assert_eq!(world.hearing.phase(), Phase::Live);
}

#[test]
fn heartbeats_go_out_every_second_and_silence_is_deafness_after_three() {
    let mut world = World::live(0);
    for nonce in 2..4 {
        assert_eq!(world.after(999), []);
        assert_eq!(world.after(1), [Effect::SendBeat(nonce)]);
    }
    assert_eq!(world.after(999), []);
    assert_eq!(world.after(1), [Effect::Tell(Heard::Deaf(Deaf::Silent))]);
    assert_eq!(world.hear(&heartbeat(LOG, 0, 3)), [], "what was proven was the old subscription");
    assert_eq!(world.after(50), [Effect::Reopen]);
}

#[test]
fn a_heartbeat_that_returns_late_proves_only_the_moment_it_was_sent() {
    let mut world = World::live(0);
    assert_eq!(world.after(1_000), [Effect::SendBeat(2)]);
    assert_eq!(world.after(1_000), [Effect::SendBeat(3)]);
    assert_eq!(world.after(900), []);
    assert_eq!(world.hear(&heartbeat(LOG, 0, 2)), []);
    assert_eq!(world.after(100), [Effect::SendBeat(4)]);
    assert_eq!(world.after(1_000), [Effect::Tell(Heard::Deaf(Deaf::Silent))], "three seconds after 2 was sent");
}

#[test]
fn attempts_never_end_and_are_never_more_than_a_second_apart() {
    let mut world = World::new();
    assert_eq!(world.after(0), [Effect::Reopen]);
    for attempt in 0..200 {
        world.hearing.not_subscribed(world.now);
        let wait = world.hearing.wake_at() - world.now;
        assert!(wait <= Duration::from_secs(1), "attempt {attempt} waits {wait:?}");
        assert!(attempt < 6 || wait >= Duration::from_millis(500), "attempt {attempt} waits {wait:?}");
        assert_eq!(world.after(1_000), [Effect::Reopen]);
    }
    assert_eq!(world.after(3_000), [], "an attempt that says nothing is given up too");
    assert_eq!(world.after(1_000), [Effect::Reopen]);
}

#[test]
fn a_heartbeat_that_could_not_be_sent_is_tried_again_soon() {
    let mut world = World::live(0);
    world.hearing.beat_answered(None, world.now);
    assert_eq!(world.after(199), []);
    assert_eq!(world.after(1), [Effect::SendBeat(2)]);
}

#[test]
fn a_subscription_that_ends_is_opened_again() {
    let mut world = World::live(3);
    world.hearing.ended(world.now);
    assert_eq!(world.effects(), [Effect::Tell(Heard::Deaf(Deaf::Ended))]);
    world.hearing.ended(world.now);
    assert_eq!(world.after(50), [Effect::Reopen], "told once");
}

#[test]
fn generations_rise_from_anywhere() {
    let mut world = World::live(0);
    world.hearing.beat_answered(Some(&Beat { generation: 2, ..Beat::default() }), world.now);
    assert_eq!(world.effects(), [Effect::Tell(Heard::Generation(2))]);
    let raised = Frame { generation: 3, ..frame(LOG, 0) };
    let bytes = [raised.encode(), message::heartbeat(99, 1)].concat();
    assert_eq!(world.hear(&bytes), [Heard::Generation(3)]);
    assert_eq!(world.hear(&bytes), []);
}

#[test]
fn the_sequence_tells_what_is_missing() {
    let told = |lsn| Heard::Retracted(notice(lsn));
    let gap = |gap, log| [Heard::Gap(gap), Heard::Begun(lineage(log))];
    let with = |gap: [Heard; 2]| [vec![told(1)], gap.to_vec()].concat();
    let cases: [(&str, Vec<u8>, Vec<Heard>); 9] = [
        ("the next", retraction(LOG, 11, 1), vec![told(1)]),
        ("a number passed over", retraction(LOG, 12, 1), with(gap(Gap::Missing, LOG))),
        ("its own number again, otherwise", retraction(LOG, 10, 1), with(gap(Gap::Fell, LOG))),
        ("a lower number", retraction(LOG, 4, 1), with(gap(Gap::Fell, LOG))),
        ("another log", retraction(8, 11, 1), with(gap(Gap::OtherLog, 8))),
        ("a heartbeat at our place", heartbeat(LOG, 10, 99), vec![]),
        ("a heartbeat ahead: the last message was lost", heartbeat(LOG, 11, 99), gap(Gap::Missing, LOG).to_vec()),
        ("a heartbeat behind", heartbeat(LOG, 9, 99), gap(Gap::Fell, LOG).to_vec()),
        ("noise", b"HWB\x02".to_vec(), vec![Heard::Unreadable(Unreadable::Malformed)]),
    ];
    for (name, bytes, expected) in cases {
        let mut world = World::live(9);
        assert_eq!(world.hear(&retraction(LOG, 10, 10)), [told(10)]);
        assert_eq!(world.hear(&bytes), expected, "{name}");
        assert_eq!(world.hearing.phase(), Phase::Live, "{name}");
    }
}

/// In the order in which they have to be carried out: a reader may come between.
#[test]
fn a_message_raises_the_floors_before_the_watermark() {
    let kinds = |world: &mut World| -> Vec<&str> {
        let kind = |effect: &Effect| match effect {
            Effect::Tell(Heard::Retracted(_)) => "floors",
            Effect::Tell(Heard::Covered { .. }) => "watermark",
            _ => "",
        };
        world.effects().iter().map(kind).filter(|kind| !kind.is_empty()).collect()
    };
    let mut world = World::live(0);
    world.effects();
    world.hearing.message(&retraction(LOG, 1, 10), world.now);
    assert_eq!(kinds(&mut world), ["floors", "watermark"]);
    world.hearing.message(&retraction(LOG, 3, 30), world.now);
    assert_eq!(kinds(&mut world), ["floors"], "one is missing");
    world.hearing.repaired(Some(&[2, 3].map(|number| retraction(LOG, number, 10 * number))));
    assert_eq!(kinds(&mut world), ["floors", "floors", "watermark", "watermark"]);
}

#[test]
fn a_repetition_is_told_again_and_is_no_gap() {
    let mut world = World::live(0);
    for _ in 0..2 {
        assert_eq!(world.hear(&retraction(LOG, 1, 10)), [Heard::Retracted(notice(10))]);
    }
    assert_eq!(world.hear(&retraction(LOG, 2, 20)), [Heard::Retracted(notice(20))]);
    assert_eq!(world.hear(&retraction(LOG, 1, 10)), [Heard::Retracted(notice(10))]);
    assert_eq!(world.hear(&retraction(LOG, 3, 30)), [Heard::Retracted(notice(30))]);
}

#[test]
fn what_was_missed_is_found_in_the_log_and_told_in_order() {
    let mut world = World::live(0);
    world.log = Some((1..=4).map(|number| retraction(LOG, number, 10 * number)).collect());
    assert_eq!(world.hear(&retraction(LOG, 1, 10)), [Heard::Retracted(notice(10))]);
    assert_eq!(world.covered, 1);
    let told: Vec<_> = world.hear(&retraction(LOG, 4, 40));
    let expected = [40, 20, 30, 40].map(|lsn| Heard::Retracted(notice(lsn)));
    assert_eq!(told, [&expected[..1], &[Heard::Gap(Gap::Missing)], &expected[1..], &[Heard::Whole]].concat());
    assert_eq!(world.covered, 4);
    assert_eq!(world.hear(&retraction(LOG, 3, 30)), [Heard::Retracted(notice(30))], "late, and no gap");
    assert_eq!(world.hear(&retraction(LOG, 5, 50)), [Heard::Retracted(notice(50))]);
    assert_eq!(world.covered, 5);
}

#[test]
fn what_was_published_while_deaf_is_found_in_the_log() {
    let mut world = World::live(0);
    world.hearing.ended(world.now);
    assert_eq!(world.effects(), [Effect::Tell(Heard::Deaf(Deaf::Ended))]);
    world.log = Some((1..=2).map(|number| retraction(LOG, number, 10 * number)).collect());
    assert_eq!(world.after(50), [Effect::Reopen]);
    world.hearing.subscribed(world.now);
    let [Effect::SendBeat(nonce)] = world.effects()[..] else { panic!("no heartbeat") };
    let told = world.hear(&heartbeat(LOG, 2, nonce));
    let retracted = [10, 20].map(|lsn| Heard::Retracted(notice(lsn)));
    assert_eq!(told, [&[Heard::Live, Heard::Gap(Gap::Missing)], &retracted[..], &[Heard::Whole]].concat());
    assert_eq!(world.covered, 2);
}

#[test]
fn the_watermark_stands_still_while_something_is_missing() {
    let mut world = World::live(3);
    world.hearing.message(&retraction(LOG, 5, 50), world.now);
    world.hearing.message(&retraction(LOG, 6, 60), world.now);
    let effects = world.effects();
    assert!(effects.contains(&Effect::Repair { lineage: lineage(LOG), after: 3 }), "{effects:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Tell(Heard::Covered { .. }))), "{effects:?}");
    world.hearing.repaired(None);
    let begun = Effect::Tell(Heard::Begun(lineage(LOG)));
    assert_eq!(world.effects().first(), Some(&begun), "what is lost stays lost, and everything begins anew");
}

/// What happens on the way from the log to the subscriber.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Heard,
    Lost,
    Twice,
    /// Overtaken by so many later ones.
    Late(usize),
}

/// What the log does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Retract,
    Beat,
    Wiped,
    SetBack(u64),
}

/// The published messages, each with its number in the order of publishing.
fn published(steps: &[Step]) -> Vec<(usize, bool, Vec<u8>)> {
    let (mut log, mut sequence) = (LOG, 0);
    let mut messages = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Retract => {
                sequence += 1;
                messages.push((at, true, retraction(log, sequence, at as u64)));
            }
            Step::Beat => messages.push((at, false, heartbeat(log, sequence, 99))),
            Step::Wiped => (log, sequence) = (log + 1, 0),
            Step::SetBack(by) => sequence = sequence.saturating_sub(*by),
        }
    }
    messages
}

fn delivered<T: Clone>(messages: &[T], fates: &[Fate]) -> Vec<T> {
    let mut arrivals = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        match fates[at % fates.len()] {
            Fate::Heard => arrivals.push((at, message)),
            Fate::Lost => {}
            Fate::Twice => arrivals.extend([(at, message), (at + 2, message)]),
            Fate::Late(by) => arrivals.push((at + by, message)),
        }
    }
    arrivals.sort_by_key(|(at, _)| *at);
    arrivals.into_iter().map(|(_, message)| message.clone()).collect()
}

/// Whenever a message is heard and no gap is told, every retraction published between the start of the gapless stretch
/// and that message has been told, in order.
fn check_complete(steps: &[Step], fates: &[Fate]) -> Result<(), TestCaseError> {
    let messages = published(steps);
    let mut world = World::live(0);
    let (mut since, mut told) = (None, Vec::new());
    for (at, _, bytes) in delivered(&messages, fates) {
        for heard in world.hear(&bytes) {
            match heard {
                Heard::Begun(_) => (since, told) = (Some(at), Vec::new()),
                Heard::Gap(_) => {}
                Heard::Retracted(notice) => told.push(notice.position.lsn.offset() as usize),
                other => prop_assert!(false, "{other:?}"),
            }
        }
        let owed = |number: &usize| since.is_none_or(|since| *number > since) && *number <= at;
        let must = messages.iter().filter(|(_, retracts, _)| *retracts).map(|(number, ..)| *number).filter(owed);
        let mut firsts = told.clone();
        let mut seen = std::collections::BTreeSet::new();
        firsts.retain(|number| seen.insert(*number));
        let had: Vec<_> = firsts.iter().copied().filter(owed).collect();
        prop_assert_eq!(must.collect::<Vec<_>>(), had, "after hearing {}", at);
    }
    Ok(())
}

fn steps(allowed: impl Strategy<Value = Step> + 'static) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(allowed, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_lost_in_silence(
        steps in steps(prop_oneof![6 => Just(Step::Retract), 3 => Just(Step::Beat), 1 => Just(Step::Wiped)]),
        fates in proptest::collection::vec(
            prop_oneof![
                5 => Just(Fate::Heard), 2 => Just(Fate::Lost), 1 => Just(Fate::Twice),
                2 => (1..6usize).prop_map(Fate::Late)
            ],
            1..40,
        ),
    ) {
        check_complete(&steps, &fates)?;
    }

    // With losses on top, a log that was set back and has grown again to the same number cannot be told by sequence
    // and id: that is for the part of the lineage that the server knows.
    #[test]
    fn a_log_that_was_set_back_is_noticed_with_its_next_message(
        steps in steps(prop_oneof![
            6 => Just(Step::Retract), 3 => Just(Step::Beat), 1 => Just(Step::Wiped), 2 => (1..4_u64).prop_map(Step::SetBack)
        ]),
    ) {
        check_complete(&steps, &[Fate::Heard])?;
        let mut world = World::live(0);
        let mut last = 0;
        for (_, retracts, bytes) in published(&steps) {
            let frame = Message::decode(&bytes).unwrap().frame;
            let heard = world.hear(&bytes);
            if frame.lineage != lineage(LOG) {
                break;
            }
            let fell = frame.sequence < last + u64::from(retracts);
            prop_assert_eq!(heard.contains(&Heard::Gap(Gap::Fell)), fell);
            last = frame.sequence;
        }
    }
}
