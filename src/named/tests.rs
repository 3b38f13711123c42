//! What is demanded of each key, whatever was merged with what.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn lsn(lsn: u64) -> Lsn {
    Lsn::new(lsn)
}

fn floor(of: &(Option<Named>, Lsn), key: u32) -> u64 {
    Named::floor(of.0.as_ref(), of.1, &[Brief(key)]).offset()
}

/// A write: its position, and the keys that it names, or none.
type Write = (u64, Vec<u32>);

fn writes() -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec((1..100_u64, prop::collection::vec(0..20_u32, 0..4)), 0..30)
}

fn merged(one: (Option<Named>, Lsn), other: (Option<Named>, Lsn)) -> (Option<Named>, Lsn) {
    let top = one.1.max(other.1);
    (Named::merge(one, other), top)
}

fn after(writes: &[Write]) -> (Option<Named>, Lsn) {
    let one = |(at, keys): &Write| {
        let keys: Vec<Brief> = keys.iter().copied().map(Brief).collect();
        (Named::of_write(lsn(*at), &keys), lsn(*at))
    };
    writes.iter().map(one).reduce(merged).unwrap_or((None, Lsn::ZERO))
}

/// What must be demanded of each key at least.
fn least(writes: &[Write], key: u32) -> u64 {
    let concerns = |write: &&Write| write.1.is_empty() || write.1.contains(&key);
    writes.iter().filter(concerns).map(|write| write.0).max().unwrap_or(0)
}

#[test]
fn a_write_is_demanded_of_its_keys_and_of_no_others() {
    let all = after(&[(10, vec![]), (20, vec![1, 2]), (30, vec![2])]);
    assert_eq!([0, 1, 2].map(|key| floor(&all, key)), [10, 20, 30]);
    assert_eq!(Named::floor(all.0.as_ref(), all.1, &[Brief(1), Brief(0)]), lsn(20));
    let later = merged(all.clone(), after(&[(25, vec![])]));
    assert_eq!([0, 1, 2].map(|key| floor(&later, key)), [25, 25, 30], "it may have changed anything");
    assert_eq!([0, 2].map(|key| floor(&merged(later.clone(), (None, lsn(30))), key)), [30, 30]);
    let above = (all.0.and_then(|named| named.above(lsn(20))), lsn(30));
    assert_eq!([0, 1, 2].map(|key| floor(&above, key)), [20, 20, 30]);
    let shorter = (above.0.and_then(Named::shorter), lsn(30));
    assert_eq!(shorter.0, None, "there was one key left");
}

#[test]
fn the_oldest_key_makes_room_and_is_demanded_of_all() {
    let one_each: Vec<Write> = (0..=PAIRS_MAX as u32).map(|key| (10 + u64::from(key), vec![key])).collect();
    let all = after(&one_each);
    assert_eq!([0, 1, 2, 99].map(|key| floor(&all, key)), [10, 11, 12, 10]);
    assert_eq!(all.0.as_ref().map(|named| named.pairs.len()), Some(PAIRS_MAX));
    let too_many: Vec<u32> = (0..=PAIRS_MAX as u32).collect();
    assert_eq!(after(&[(10, too_many)]).0, None);
}

proptest! {
    #[test]
    fn no_order_of_merging_demands_less_than_was_written(
        writes in writes(),
        order in any::<prop::sample::Index>(),
        split in any::<prop::sample::Index>(),
    ) {
        let mut turned = writes.clone();
        turned.rotate_left(order.index(writes.len() + 1).min(writes.len()));
        let (one, other) = turned.split_at(split.index(turned.len() + 1));
        let all = [after(&writes), after(&turned), merged(after(one), after(other)), merged(after(other), after(one))];
        prop_assert_eq!(&all[2], &all[3], "whoever merges");
        prop_assert_eq!(&merged(all[2].clone(), after(one)), &all[2], "and however often");
        let top = writes.iter().map(|write| write.0).max().unwrap_or(0);
        for of in &all {
            prop_assert_eq!(of.1, lsn(top));
            for key in 0..21 {
                prop_assert!(floor(of, key) >= least(&writes, key), "key {}: {:?}", key, of);
                prop_assert!(floor(of, key) <= top);
            }
            let pairs = of.0.iter().flat_map(|named| &named.pairs);
            prop_assert!(pairs.clone().count() <= PAIRS_MAX);
            prop_assert!(pairs.clone().is_sorted_by(|a, b| a.key < b.key));
            prop_assert!(of.0.iter().all(|named| named.pairs.iter().all(|pair| pair.lsn > named.rest && pair.lsn <= of.1)));
        }
    }

    /// Where nothing had to make room, it is demanded what was written and no more.
    #[test]
    fn what_has_room_is_exact(writes in prop::collection::vec((1..100_u64, prop::collection::vec(0..8_u32, 0..4)), 0..30)) {
        let all = after(&writes);
        let exact: BTreeMap<u32, u64> = (0..9).map(|key| (key, least(&writes, key))).collect();
        for (key, least) in exact {
            prop_assert_eq!(floor(&all, key), least);
        }
    }
}
