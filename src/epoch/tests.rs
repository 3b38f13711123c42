//! What the sight of a primary means, and what is heard.

use super::*;
use crate::{Switch, Timeline};

fn epochs() -> Epochs {
    let slots = SlotMap::new(64, (1, 2));
    Epochs::new(History::new(7, Timeline(1), vec![]), slots, Some(Lsn::ZERO))
}

fn primary(timeline: u32, insert: u64, flush: u64, switch: Option<u64>) -> Role {
    let switches = switch.map(|at| Switch { from: Timeline(timeline - 1), at: Lsn::new(at) });
    Role::Primary {
        timeline: Timeline(timeline),
        insert: Lsn::new(insert),
        flush: Lsn::new(flush),
        switches: switches.into_iter().collect(),
        started_ms: 1,
    }
}

/// A primary of timeline 1 that started then.
fn started(started_ms: u64, end: u64) -> Role {
    let end = Lsn::new(end);
    Role::Primary { timeline: Timeline(1), insert: end, flush: end, switches: vec![], started_ms }
}

fn sight(epochs: &Epochs, role: &Role) -> Sighted {
    epochs.saw_primary(7, role, epochs.high_water())
}

fn floor_of(epochs: &Epochs, key: &Digest) -> Lsn {
    let slots = Slots::new(epochs.slots().key(key), []);
    epochs.current().floor(&slots, 0)
}

#[test]
fn a_crash_clamps_and_a_set_back_server_replaces() {
    let epochs = epochs();
    let key = Digest::of_key(b"k");
    assert!(epochs.retract(Position::new(1, Lsn::new(290)), &[key], &[]));
    assert_eq!(sight(&epochs, &primary(1, 300, 200, None)), Sighted::Same);
    let first = epochs.current().fingerprint;
    assert_eq!(sight(&epochs, &primary(1, 210, 210, None)), Sighted::Crashed(Lsn::new(210)));
    assert_eq!(floor_of(&epochs, &key), Lsn::new(210));
    assert_eq!(epochs.current().fingerprint, first, "entries survive a crash");
    assert_eq!(sight(&epochs, &primary(1, 150, 150, None)), Sighted::Replaced);
    assert_eq!(floor_of(&epochs, &key), Lsn::new(150), "what was retracted before is retracted in the copy");
    assert_ne!(epochs.current().fingerprint, first);
}

#[test]
fn a_retraction_made_while_the_answer_after_a_crash_travelled_stands() {
    let epochs = epochs();
    let key = Digest::of_key(b"k");
    sight(&epochs, &primary(1, 100, 80, None));
    let before = epochs.high_water();
    epochs.saw_token(Position::new(1, Lsn::new(95)));
    assert!(epochs.retract(Position::new(1, Lsn::new(95)), &[key], &[]));
    epochs.saw_primary(7, &primary(1, 90, 90, None), before);
    assert!(floor_of(&epochs, &key) >= Lsn::new(95));
}

/// A primary is asked twice at a time where two names lead to it.
#[test]
fn a_crash_that_is_told_late_clamps_nothing_that_came_after_it() {
    let epochs = epochs();
    let key = Digest::of_key(b"k");
    sight(&epochs, &primary(1, 125, 100, None));
    let before = epochs.high_water();
    // It crashes and answers 105, which travels. What is written then, and the other answer, overtake that.
    assert!(epochs.retract(Position::new(1, Lsn::new(128)), &[key], &[]));
    assert_eq!(sight(&epochs, &primary(1, 130, 130, None)), Sighted::Same);
    epochs.saw_primary(7, &primary(1, 105, 105, None), before);
    assert!(floor_of(&epochs, &key) >= Lsn::new(128));
}

/// Here the reader's thread stands still, for as long as it takes to hear of a write.
#[test]
fn who_holds_the_floors_from_before_a_crash_is_told_no_later_watermark() {
    let epochs = epochs();
    let key = Digest::of_key(b"k");
    sight(&epochs, &primary(1, 120, 100, None));
    let (history, log) = (epochs.current().fingerprint, Lineage::from_number(5));
    epochs.hear(history, Arc::new(Span::new(log, Lsn::new(50), Lsn::new(100))));
    let held = Arc::clone(&epochs.current());
    assert_eq!(sight(&epochs, &primary(1, 105, 105, None)), Sighted::Crashed(Lsn::new(105)));
    assert!(epochs.retract(Position::new(1, Lsn::new(130)), &[key], &[]));
    if let Some(span) = &epochs.current().span {
        span.raise(Lsn::new(135));
    }
    let vouched = Vouched::below(Lsn::new(130), Some(log), Lsn::ZERO);
    let answers = |epoch: &Epoch| {
        let is_live = epoch.floor(&Slots::new(epochs.slots().key(&key), []), 0) <= Lsn::new(60);
        epoch.reach(Lsn::new(60), vouched) >= Lsn::new(130) && is_live
    };
    assert!(!answers(&epochs.current()), "retracted");
    assert!(!answers(&held), "the retraction is not in the table that it holds");
}

/// The log of a history that only others have seen begin may end far below what was flushed in the one before.
#[test]
fn nobody_tells_how_far_a_history_is_flushed_that_they_have_not_seen() {
    let epochs = epochs();
    sight(&epochs, &primary(1, 900, 900, None));
    let asked_before = epochs.high_water();
    assert!(epochs.adopt_generation(1 << 32 | 7));
    assert_eq!(epochs.pulse().flush, Lsn::ZERO);
    assert_eq!(epochs.saw_primary(7, &primary(1, 900, 900, None), asked_before), Sighted::Same);
    assert_eq!(epochs.pulse().flush, Lsn::ZERO, "that was the log before");
    assert_eq!(sight(&epochs, &primary(1, 950, 940, None)), Sighted::Same);
    assert_eq!(epochs.pulse().flush, Lsn::new(940));
    assert!(epochs.adopt_generation(2 << 32 | 7));
    assert_eq!(sight(&epochs, &primary(1, 100, 100, None)), Sighted::Replaced, "and now it sees it");
    assert_eq!(epochs.pulse().flush, Lsn::new(100));
}

/// Else the end of the old log, in the name of the new one, covers a write that was lost between them.
#[test]
fn the_end_of_a_log_is_not_that_of_a_history_which_was_only_told_of() {
    let epochs = epochs();
    let history = || Arc::clone(&epochs.current().history);
    let first = history();
    assert_eq!(epochs.known_end(&first), None, "not looked at yet");
    sight(&epochs, &primary(1, 900, 890, None));
    assert_eq!(epochs.known_end(&first), Some(Lsn::new(900)));
    assert!(epochs.adopt_generation(1 << 32 | 7));
    assert_eq!(epochs.known_end(&first), None, "not the present one");
    assert_eq!(epochs.known_end(&history()), None);
    assert_eq!(sight(&epochs, &primary(1, 100, 90, None)), Sighted::Replaced);
    assert_eq!(epochs.known_end(&history()), Some(Lsn::new(100)));
}

#[test]
fn a_slow_answer_is_not_a_history_that_went_back() {
    let epochs = epochs();
    let before = epochs.high_water();
    assert_eq!(sight(&epochs, &primary(1, 300, 300, None)), Sighted::Same);
    assert_eq!(epochs.saw_primary(7, &primary(1, 100, 100, None), before), Sighted::Same);
    assert_eq!(sight(&epochs, &primary(1, 300, 300, None)), Sighted::Same);
}

#[test]
fn a_promotion_replaces_and_the_old_primary_is_not_ours() {
    let epochs = epochs();
    assert_eq!(sight(&epochs, &primary(2, 300, 300, Some(280))), Sighted::Replaced);
    assert_eq!(sight(&epochs, &primary(1, 900, 900, None)), Sighted::NotOurs);
    assert_eq!(epochs.saw_primary(8, &primary(3, 900, 900, None), epochs.high_water()), Sighted::NotOurs);
    assert_eq!(sight(&epochs, &primary(2, 310, 310, None)), Sighted::Same, "a restart forgets the switch point");
    assert_eq!(sight(&epochs, &primary(2, 310, 310, Some(281))), Sighted::Replaced, "two promoted to one number");
    assert!(!epochs.retract(Position::new(3, Lsn::new(1)), &[], &[]), "a timeline that is not known yet");
}

/// A standby of the new timeline may be far behind where that began, and readers without a token are not held to it.
#[test]
fn what_was_retracted_and_survived_a_promotion_stays_retracted() {
    let epochs = epochs();
    let (before, late, lost) = (Digest::of_key(b"before"), Digest::of_key(b"late"), Digest::of_key(b"lost"));
    assert!(epochs.retract(Position::new(1, Lsn::new(200)), &[before], &[]));
    assert!(epochs.retract(Position::new(1, Lsn::new(290)), &[lost], &[]));
    assert_eq!(sight(&epochs, &primary(2, 300, 300, Some(280))), Sighted::Replaced);
    assert_eq!(floor_of(&epochs, &before), Lsn::new(200));
    assert_eq!(floor_of(&epochs, &lost), Lsn::new(280), "no further than the log went");
    // Its commit was acknowledged before the promotion, and the answer is heard only now.
    assert!(epochs.retract(Position::new(1, Lsn::new(250)), &[late], &[]));
    assert_eq!(floor_of(&epochs, &late), Lsn::new(250));
    // The token lies beyond the end, and the commit that it covers perhaps does not.
    assert!(epochs.retract(Position::new(1, Lsn::new(290)), &[late], &[]));
    assert_eq!(floor_of(&epochs, &late), Lsn::new(280));
}

fn instance(seed: u64) -> Epochs {
    let slots = SlotMap::new(64, (seed, 2));
    let epochs = Epochs::new(History::new(7, Timeline(1), vec![]), slots, Some(Lsn::ZERO));
    sight(&epochs, &started(1_000, 900));
    epochs
}

fn generation(epochs: &Epochs) -> u64 {
    epochs.current().history.generation()
}

fn tell(from: &Epochs, to: &Epochs) -> bool {
    to.adopt_generation(from.current().history.marked_generation())
}

#[test]
fn whoever_finds_the_primary_set_back_gives_the_same_number_to_what_began() {
    let (one, other, told) = (instance(1), instance(9), instance(5));
    assert_eq!(sight(&one, &started(2_000, 600)), Sighted::Replaced);
    assert_eq!(sight(&other, &started(2_000, 610)), Sighted::Replaced, "both found it themselves");
    assert!(tell(&other, &told));
    assert_eq!(sight(&told, &started(2_000, 620)), Sighted::Replaced, "told of it, and found it then");
    assert_eq!([&one, &other, &told].map(generation), [2_000; 3]);
    assert_ne!(tell(&told, &one), tell(&one, &told), "the caches agree as well, in the end");
    // Set back once more, before the third has told anybody.
    assert_eq!(sight(&one, &started(3_000, 300)), Sighted::Replaced);
    assert_eq!(generation(&one), 3_000);
    let ours = Position::new(1, Lsn::new(615));
    let branch = other.current().history.branch(Timeline(1));
    assert_eq!(one.current().history.standing_in(ours, branch), crate::history::Standing::Lost);
}

/// The number is the next one then, and the second time of one instance may have the number of the first one of another.
#[test]
fn two_instances_at_one_number_do_not_share_what_was_filled_in_two_logs() {
    let (one, other) = (instance(1), instance(9));
    assert_eq!(sight(&other, &started(2_000, 600)), Sighted::Replaced);
    assert_eq!(sight(&other, &started(900, 300)), Sighted::Replaced, "its clock went back");
    assert_eq!(sight(&one, &started(2_001, 600)), Sighted::Replaced);
    assert_eq!([&one, &other].map(generation), [2_001; 2]);
    assert_ne!(other.current().fingerprint, one.current().fingerprint);
}

#[test]
fn a_generation_only_rises() {
    let epochs = epochs();
    assert!(epochs.adopt_generation(2 << 22 | 7));
    assert!(!epochs.adopt_generation(2 << 22 | 7) && !epochs.adopt_generation(1 << 22 | 9));
    assert_eq!(generation(&epochs), 2);
    assert!(epochs.adopt_generation(u64::MAX), "a lie");
    sight(&epochs, &started(1_000, 900));
    assert_eq!(sight(&epochs, &started(1_000, 300)), Sighted::Replaced);
    assert_eq!(generation(&epochs), u64::MAX >> 22, "the end of all numbers");
}
