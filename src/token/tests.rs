//! What a token demands, keeps and drops.

use super::*;
use crate::Switch;
use crate::history::SetBack;
use proptest::prelude::*;

const CLUSTER: u64 = 7;

fn position(timeline: u32, lsn: u64) -> Position {
    Position::new(timeline, Lsn::new(lsn))
}

/// Raises a token in a log whose beginning is not known.
fn raise(token: &mut Token, cluster: u64, position: Position) {
    token.raise(&History::new(cluster, position.timeline, vec![]), position, None);
}

fn promoted() -> History {
    History::new(CLUSTER, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(100) }])
}

#[test]
fn a_lost_part_is_told_however_high_the_others_are() {
    let mut token = Token::at(&first(), position(1, 120));
    raise(&mut token, CLUSTER, position(2, 5_000));
    assert_eq!(token.demand(&promoted(), None).standing, Standing::Lost);
    token.keep_surviving(&promoted());
    assert_eq!(token.demand(&promoted(), None), demanding(5_000));
}

/// As a monotonic session does whose sight was lost and who had written nothing.
#[test]
fn who_accepts_a_loss_without_a_write_holds_no_token_yet() {
    let mut token = Token::default();
    token.keep_surviving(&promoted());
    assert!(token.is_empty());
    raise(&mut token, CLUSTER + 1, position(1, 120));
    token.keep_surviving(&promoted());
    assert!(!token.names(CLUSTER));
}

#[test]
fn more_promotions_than_it_can_hold_are_not_papered_over() {
    let mut token = Token::default();
    for timeline in 1..=5 {
        raise(&mut token, CLUSTER, position(timeline, 10));
    }
    let switches = (1..5).map(|t| Switch { from: Timeline(t), at: Lsn::new(99) }).collect();
    let history = History::new(CLUSTER, Timeline(5), switches);
    assert_eq!(token.demand(&history, None).standing, Standing::Unproven);
}

#[test]
fn clusters_do_not_meet() {
    let mut token = Token::at(&first(), position(2, 50));
    raise(&mut token, 8, position(2, 9_000));
    assert_eq!(token.demand(&promoted(), None).floor, Lsn::new(50));
    token.clamp(8, position(2, 10));
    assert_eq!(token.demand(&promoted(), None).floor, Lsn::new(50));
    for other in 100..120 {
        raise(&mut token, other, position(1, 1));
    }
    assert_eq!(token.demand(&promoted(), None).standing, Standing::Floor(Lsn::ZERO), "it was there first");
    let unknown = History::new(119, Timeline(1), vec![]);
    assert_eq!(token.demand(&unknown, None).standing, Standing::Unproven, "there was no room for it");
}

#[test]
fn a_crash_clamps_only_its_own_timeline() {
    let mut token = Token::at(&first(), position(1, 90));
    raise(&mut token, CLUSTER, position(2, 500));
    token.clamp(CLUSTER, position(2, 300));
    assert_eq!(token.demand(&promoted(), None).floor, Lsn::new(300));
    assert_eq!(token.positions(CLUSTER).next(), Some(position(1, 90)));
}

#[test]
fn what_a_set_back_primary_lost_is_told_however_far_its_log_has_grown_since() {
    let mut token = Token::at(&first(), position(1, 500));
    let set_back = first().set_back(SetBack { at: Lsn::new(300), ..SetBack::default() });
    assert_eq!(token.demand(&set_back, None).standing, Standing::Lost);
    token.raise(&set_back, position(1, 900), None);
    assert_eq!(token.demand(&set_back, None).standing, Standing::Lost, "a newer write does not cover it");
    token.keep_surviving(&set_back);
    assert_eq!(token.demand(&set_back, None), demanding(900));
    assert_eq!(Token::at(&first(), position(1, 300)).demand(&set_back, None).floor, Lsn::new(300));
}

#[test]
fn what_may_have_survived_is_still_demanded_once_the_loss_was_accepted() {
    // Where timeline 1 ended, nobody knows: its writes up to there are in the present history.
    let unproven = History::new(CLUSTER, Timeline(2), vec![]);
    let mut token = Token::at(&first(), position(1, 120));
    assert_eq!(token.demand(&unproven, None).standing, Standing::Unproven);
    token.keep_surviving(&unproven);
    assert_eq!(token.demand(&unproven, None), demanding(120));
    assert_eq!(token.positions(CLUSTER).collect::<Vec<_>>(), [position(2, 120)], "one part a timeline");
    // The same where the history was set back besides, which it must not be told a second time.
    let mut token = Token::at(&first(), position(1, 500));
    raise(&mut token, CLUSTER, position(2, 100));
    let set_back = unproven.set_back(SetBack { at: Lsn::new(300), ..SetBack::default() });
    token.keep_surviving(&set_back);
    assert!(matches!(token.demand(&set_back, None).standing, Standing::Floor(_)));
    assert!(token.demand(&set_back, None).floor >= Lsn::new(300));
}

/// An instance that has not noticed the set-back writes in the new log under the name of the old one.
#[test]
fn what_may_lie_in_the_log_that_was_set_back_is_still_demanded() {
    let set_back = first().set_back(SetBack { at: Lsn::new(300), ..SetBack::default() });
    let mut token = Token::at(&first(), position(1, 320));
    assert_eq!(token.demand(&set_back, None).standing, Standing::Lost);
    token.keep_surviving(&set_back);
    assert_eq!(token.demand(&set_back, None), demanding(320));
}

#[test]
fn what_was_forgotten_is_covered_by_what_is_left() {
    let mut token = Token::default();
    for timeline in 1..=5 {
        raise(&mut token, CLUSTER, position(timeline, 10 * u64::from(timeline)));
    }
    let switches = (1..5).map(|t| Switch { from: Timeline(t), at: Lsn::new(99) }).collect();
    let history = History::new(CLUSTER, Timeline(5), switches);
    token.keep_surviving(&history);
    // A position of a later timeline lies above where it left the earlier ones, and so above their writes.
    assert_eq!(token.demand(&history, None), demanding(50));
}

#[test]
fn what_survived_is_folded_into_the_present_timeline_and_what_was_lost_is_not() {
    let mut token = Token::at(&first(), position(1, 100));
    token.fold(&promoted());
    assert_eq!(token.positions(CLUSTER).count(), 1, "nothing covers it yet");
    token.raise(&promoted(), position(2, 90), None);
    token.fold(&promoted());
    assert_eq!(token.positions(CLUSTER).count(), 2, "what is lower covers nothing");
    token.raise(&promoted(), position(2, 5_000), None);
    let before = token.demand(&promoted(), None);
    token.fold(&promoted());
    assert_eq!(token.positions(CLUSTER).collect::<Vec<_>>(), [position(2, 5_000)]);
    assert_eq!(token.demand(&promoted(), None), before);

    raise(&mut token, CLUSTER, position(1, 101));
    token.fold(&promoted());
    assert_eq!(token.demand(&promoted(), None).standing, Standing::Lost);
}

#[test]
fn what_a_set_back_primary_lost_is_told_after_the_next_failover_too() {
    let (token, kept) = (Token::at(&first(), position(1, 500)), Token::at(&first(), position(1, 300)));
    let set_back = first().set_back(SetBack { at: Lsn::new(300), ..SetBack::default() });
    let switch = Switch { from: Timeline(1), at: Lsn::new(900) };
    let promoted = History::new(CLUSTER, Timeline(2), vec![switch]).after(&set_back);
    assert_eq!(token.demand(&promoted, None).standing, Standing::Lost);
    assert_eq!(kept.demand(&promoted, None).standing, Standing::Floor(Lsn::ZERO));
}

#[test]
fn what_was_lost_with_a_twin_of_the_timeline_is_told() {
    let forked = |at| History::new(CLUSTER, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(at) }]);
    let (one, other) = (forked(100), forked(80));
    let mut token = Token::at(&one, position(2, 150));
    assert_eq!(token.demand(&one, None).standing, Standing::Floor(Lsn::ZERO));
    assert_eq!(token.demand(&other, None).standing, Standing::Lost);
    token.raise(&other, position(2, 400), None);
    token.fold(&other);
    assert_eq!(token.demand(&other, None).standing, Standing::Lost, "a newer write does not cover it");
    let switch = Switch { from: Timeline(2), at: Lsn::new(500) };
    let later = History::new(CLUSTER, Timeline(3), [other.switches(), &[switch]].concat());
    assert_eq!(token.demand(&later, None).standing, Standing::Lost, "nor does another failover");
    token.keep_surviving(&other);
    assert_eq!(token.demand(&other, None), demanding(400));
    assert_eq!(Token::at(&one, position(1, 70)).demand(&other, None).floor, Lsn::new(70), "what both logs have");
}

/// Its number lies below where the present twin began, so that nothing of the position changes but the log that it is of.
#[test]
fn what_was_lost_with_a_twin_of_the_timeline_that_began_earlier_is_told_once() {
    let forked = |at| History::new(CLUSTER, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(at) }]);
    let (one, other) = (forked(80), forked(100));
    let mut token = Token::at(&one, position(2, 90));
    assert_eq!(token.demand(&other, None).standing, Standing::Lost);
    token.keep_surviving(&other);
    assert_eq!(token.demand(&other, None), demanding(90));
}

/// Nothing is lost, and an answer must reach this far by its tag.
fn demanding(lsn: u64) -> Demand {
    Demand { floor: Lsn::new(lsn), vouched: None, standing: Standing::Floor(Lsn::ZERO) }
}

fn first() -> History {
    History::new(CLUSTER, Timeline(1), vec![])
}

fn tokens() -> impl Strategy<Value = Token> {
    prop::collection::vec((0u64..3, 1u32..4, 0u64..100), 0..6).prop_map(|parts| {
        let mut token = Token::default();
        parts.into_iter().for_each(|(cluster, timeline, lsn)| raise(&mut token, cluster, position(timeline, lsn)));
        token
    })
}

/// Tokens of such clusters with such parts, each in its place, as they are read from somewhere.
pub(crate) fn drawn(
    clusters: impl Strategy<Value = u64>,
    parts: impl Strategy<Value = Part>,
    clusters_max: usize,
) -> impl Strategy<Value = Token> {
    let shard = (clusters, prop::collection::vec(parts, 0..=PARTS_MAX), any::<bool>());
    let shards = prop::collection::vec(shard, 0..=clusters_max);
    (shards, any::<bool>(), any::<bool>()).prop_map(|(shards, overflown, collapsed)| {
        let sound = |(system_identifier, mut parts, forgotten): (u64, Vec<Part>, bool)| {
            parts.sort_by_key(Part::order);
            parts.dedup_by_key(|part| part.order());
            let forgotten = forgotten || parts.is_empty();
            Shard { system_identifier, parts: parts.into(), forgotten }
        };
        let mut shards: Vec<Shard> = shards.into_iter().map(sound).collect();
        shards.sort_by_key(|shard| shard.system_identifier);
        shards.dedup_by_key(|shard| shard.system_identifier);
        Token::from_shards(shards, overflown, collapsed)
    })
}

/// A part that the log of `lineage` vouches for above `pin`.
pub(crate) fn part(timeline: u32, branch: u64, lsn: u64, (lineage, pin): (Option<u64>, u64)) -> Part {
    let (position, lineage) = (Position::new(timeline, Lsn::new(lsn)), lineage.map(Lineage::from_number));
    let vouched = Vouched::below(position.lsn, lineage, Lsn::new(pin));
    Part { position, branch: Branch::from_number(branch), vouched, named: None }
}

/// The same, of which these keys are known to be all that was written above `rest`.
pub(crate) fn named(part: Part, rest: u64, keys: &[(u32, u64)]) -> Part {
    let within = |lsn: u64| Lsn::new(lsn).min(part.position.lsn);
    let write = |&(key, lsn): &(u32, u64)| (Named::of_write(within(lsn), &[Brief(key)]), within(lsn));
    let all = keys.iter().map(write).fold((None, within(rest)), |(named, top), (other, lsn)| {
        (Named::merge((named, top), (other, lsn)), top.max(lsn))
    });
    Part { named: all.0, ..part }
}

proptest! {
    #[test]
    fn merging_never_lowers_and_has_no_order(a in tokens(), b in tokens()) {
        let mut ab = a.clone();
        ab.merge(&b);
        let mut ba = b.clone();
        ba.merge(&a);
        prop_assert_eq!(&ab, &ba);
        let mut again = ab.clone();
        again.merge(&a);
        prop_assert_eq!(&again, &ab);
        for cluster in 0..3 {
            for part in a.positions(cluster).chain(b.positions(cluster)) {
                let covers = |p: Position| p.timeline == part.timeline && p.lsn >= part.lsn;
                prop_assert!(ab.positions(cluster).any(covers));
            }
        }
    }
}

fn vouched(lsn: u64, lineage: u64, pinned: u64) -> Token {
    let mut token = Token::default();
    token.raise(&first(), position(1, pinned), None);
    token.raise(&first(), position(1, lsn), Some(Lineage::from_number(lineage)));
    token
}

fn pinned_in(token: &Token, lineage: u64) -> (u64, u64) {
    let demand = token.demand(&first(), Some(Lineage::from_number(lineage)));
    (demand.floor.offset(), Vouched::pin(demand.vouched, demand.floor).offset())
}

#[test]
fn only_the_log_that_vouches_for_a_position_may_cover_it() {
    let token = vouched(20, 1, 5);
    assert_eq!((pinned_in(&token, 1), pinned_in(&token, 2)), ((20, 5), (20, 20)));
    assert_eq!(token.demand(&first(), None).vouched, None);
    assert_eq!(token.demand(&promoted(), Some(Lineage::from_number(1))).vouched, None, "of another timeline");
}

#[test]
fn of_two_logs_one_is_kept_and_what_the_other_vouched_for_is_pinned() {
    let mut token = vouched(20, 1, 5);
    token.merge(&vouched(15, 2, 3));
    assert_eq!((pinned_in(&token, 1), pinned_in(&token, 2)), ((20, 15), (20, 20)));
    token.merge(&vouched(30, 1, 0));
    assert_eq!(pinned_in(&token, 1), (30, 15));
    token.raise(&first(), position(1, 25), None);
    assert_eq!(pinned_in(&token, 1), (30, 25), "what nobody announced is pinned");
}

proptest! {
    /// Writes that several logs vouch for, merged in any order: whatever a log may cover, it vouches for.
    #[test]
    fn merging_never_forgets_what_another_log_vouches_for(
        writes in proptest::collection::vec((1..60_u64, 0..4_u64), 1..12),
        split in any::<prop::sample::Index>(),
    ) {
        let raise = |writes: &[(u64, u64)]| {
            let mut token = Token::default();
            for &(lsn, lineage) in writes {
                let lineage = Some(lineage).filter(|lineage| *lineage > 0).map(Lineage::from_number);
                token.raise(&first(), position(1, lsn), lineage);
            }
            token
        };
        let (one, other) = writes.split_at(split.index(writes.len()));
        let mut token = raise(one);
        token.merge(&raise(other));
        for lineage in 1..4 {
            let (floor, pin) = pinned_in(&token, lineage);
            prop_assert_eq!(floor, writes.iter().map(|(lsn, _)| *lsn).max().unwrap_or(0));
            let must = writes.iter().filter(|(_, of)| *of != lineage).map(|(lsn, _)| *lsn).max().unwrap_or(0);
            prop_assert!(pin >= must.min(floor), "lineage {} may cover from {}, and {} is not in it", lineage, pin, must);
        }
    }
}

/// What the token demands of these keys: how far, and of that what is pinned.
fn scoped(token: &Token, lineage: u64, keys: &[u32]) -> (u64, u64) {
    let keys: Vec<Brief> = keys.iter().copied().map(Brief).collect();
    let demand = token.demand_of(&first(), Some(Lineage::from_number(lineage)), Some(&keys));
    (demand.floor.offset(), Vouched::pin(demand.vouched, demand.floor).offset())
}

#[test]
fn a_key_is_asked_for_what_was_written_to_it_and_all_for_everything() {
    let lineage = Some(Lineage::from_number(1));
    let mut token = Token::at(&first(), position(1, 10));
    token.raise_for(&first(), position(1, 20), lineage, &[Brief(5)]);
    token.raise_for(&first(), position(1, 30), None, &[Brief(6)]);
    token.raise_for(&first(), position(1, 40), lineage, &[Brief(7)]);
    assert_eq!(pinned_in(&token, 1), (40, 30), "as ever");
    assert_eq!(scoped(&token, 1, &[5]), (20, 20), "what is pinned above it may be an older write of the key");
    assert_eq!(scoped(&token, 1, &[7]), (40, 30));
    assert_eq!(
        (scoped(&token, 1, &[6, 5]), scoped(&token, 1, &[9]), scoped(&token, 1, &[])),
        ((30, 30), (10, 10), (10, 10))
    );
    token.raise(&first(), position(1, 25), None);
    assert_eq!((scoped(&token, 1, &[5]), scoped(&token, 1, &[9])), ((25, 25), (25, 25)), "that may be any key");
    token.clamp(CLUSTER, position(1, 35));
    assert_eq!(scoped(&token, 1, &[9]), (35, 35));
}

#[test]
fn over_a_failover_what_was_written_is_demanded_of_every_key() {
    let mut token = Token::at(&first(), position(1, 10));
    token.raise_for(&first(), position(1, 90), None, &[Brief(5)]);
    let of = |token: &Token, key: u32| token.demand_of(&promoted(), None, Some(&[Brief(key)])).floor.offset();
    assert_eq!((of(&token, 5), of(&token, 9)), (90, 10), "it survived, key by key");
    token.raise_for(&promoted(), position(2, 200), None, &[Brief(6)]);
    token.fold(&promoted());
    assert_eq!((of(&token, 5), of(&token, 6), of(&token, 9)), (90, 200, 90));
    let mut lost = Token::default();
    lost.raise_for(&first(), position(1, 120), None, &[Brief(5)]);
    assert_eq!(lost.demand_of(&promoted(), None, Some(&[Brief(9)])).standing, Standing::Lost, "whatever is read");
    lost.keep_surviving(&promoted());
    assert_eq!((of(&lost, 5), of(&lost, 9)), (100, 100));
}

proptest! {
    /// Strict demands are what they were, and no key is ever asked for more.
    #[test]
    fn keys_change_nothing_for_who_asks_for_everything(
        writes in prop::collection::vec((1..60_u64, 0..4_u64, prop::collection::vec(0..12_u32, 0..4)), 1..16),
        split in any::<prop::sample::Index>(),
    ) {
        let raise = |writes: &[(u64, u64, Vec<u32>)], by_key: bool| {
            let mut token = Token::default();
            for (lsn, lineage, keys) in writes {
                let lineage = Some(*lineage).filter(|lineage| *lineage > 0).map(Lineage::from_number);
                let keys: Vec<Brief> = keys.iter().copied().filter(|_| by_key).map(Brief).collect();
                token.raise_for(&first(), position(1, *lsn), lineage, &keys);
            }
            token
        };
        let (one, other) = writes.split_at(split.index(writes.len()));
        let mut token = raise(one, true);
        token.merge(&raise(other, true));
        let mut plain = raise(one, false);
        plain.merge(&raise(other, false));
        for lineage in 1..4 {
            prop_assert_eq!(pinned_in(&token, lineage), pinned_in(&plain, lineage));
            prop_assert_eq!(scoped(&plain, lineage, &[3]), pinned_in(&plain, lineage));
            for key in 0..13 {
                let (floor, pin) = scoped(&token, lineage, &[key]);
                let concern = |write: &&(u64, u64, Vec<u32>)| write.2.is_empty() || write.2.contains(&key);
                let must = writes.iter().filter(concern).map(|write| write.0).max().unwrap_or(0);
                let pinned = writes.iter().filter(concern).filter(|write| write.1 != lineage).map(|write| write.0).max().unwrap_or(0);
                prop_assert!(floor >= must && pin >= pinned && pin <= floor && floor <= pinned_in(&token, lineage).0);
            }
        }
    }
}
