//! Memory at the limits: the largest hostile inputs, which are too large for a corpus.

use super::*;
use crate::seeds::{BOMB, envelope};
use highwater::internals::hostile::{AnyKey, name_of};
use highwater::tier::{Bincode, Codec};
use std::collections::{HashMap, HashSet};

const CAP: u64 = 1 << 20;

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}

fn peak(name: &str, input: &[u8]) -> u64 {
    let read = (target(name).read)(input);
    measure(read).bytes_max
}

/// A sequence that claims `count` items, and one byte for each of them.
fn items(count: u32) -> Vec<u8> {
    [&[252][..], &count.to_le_bytes(), &vec![0; count as usize]].concat()
}

/// The highest peak over sequences of up to as many items as fit: the decoder counts some items against its limit twice,
/// so that the longest claim is not the costliest.
fn highest(kind: u8, before: &[u8]) -> u64 {
    let peaks = (1..=64).map(|share| {
        let count = (CAP * share / 64) as u32 - 64;
        peak("envelope", &envelope(kind, &[before, &items(count)].concat()))
    });
    peaks.max().unwrap_or_default()
}

#[test]
fn a_text_at_the_cap_takes_the_cap() {
    for (kind, what) in [(0, "a text"), (1, "bytes")] {
        let peak = highest(kind, &[]);
        println!("{what}: {peak} bytes");
        assert!(peak > CAP / 2 && peak <= CAP + 10_000, "{what}: {peak} bytes");
    }
}

/// A value takes what its type takes, whoever wrote the bytes: an empty text is one byte in bincode's form and 24 in
/// memory, and a vector grows by doubling. What hostile bytes can cost is that and no more.
#[test]
fn a_value_of_many_small_parts_takes_what_its_type_takes() {
    let texts = highest(2, &[7, 0, 0]);
    println!("empty texts: {texts} bytes");
    assert!(texts > 4 * CAP && texts <= 24 * 3 / 2 * CAP, "{texts} bytes");
}

/// A length that lies costs no more than the cap, in whatever type it stands.
#[test]
fn a_claimed_length_takes_no_memory() {
    for kind in 0..6 {
        for claim in claims() {
            for before in [&[][..], &[7, 0, 1], &[7, 0, 0]] {
                let peak = peak("envelope", &envelope(kind, &[before, &claim].concat()));
                assert!(peak <= 2 * CAP, "type {kind}, {claim:?}: {peak} bytes");
            }
        }
    }
}

/// But for a hash table, which is made at once for a megabyte of entries, with room to spare, in a power of two.
#[test]
fn a_claimed_length_of_a_hash_table_takes_four_times_the_cap() {
    let decode = |bytes: &[u8]| {
        let codec = Bincode::<{ 1 << 20 }>;
        let one = measure(|| drop(codec.decode::<HashMap<u32, Option<char>>>(bytes))).bytes_max;
        let other = measure(|| drop(codec.decode::<HashSet<u8>>(bytes))).bytes_max;
        one.max(other)
    };
    let highest = claims().iter().map(|claim| decode(claim)).max().unwrap_or_default();
    println!("a hash table: {highest} bytes");
    assert!(highest > 2 * CAP && highest <= 4 * CAP + 10_000, "{highest} bytes");
}

fn claims() -> [Vec<u8>; 3] {
    let largest = (CAP as u32 - 9).to_le_bytes();
    [BOMB.to_vec(), [&[252][..], &largest].concat(), [&[253][..], &[255; 8]].concat()]
}

#[test]
fn what_is_longer_than_an_envelope_is_not_looked_at() {
    let long = vec![b'H'; 2 << 20];
    assert_eq!((target("envelope").check)(&long), "too long");
    assert!(peak("envelope", &long) <= 1_000);
}

#[test]
fn a_key_of_a_megabyte_is_refused_without_being_written_out() {
    let key = AnyKey::Text("x".repeat(1 << 20));
    let peak = measure(|| assert!(!name_of("users", &key))).bytes_max;
    println!("a key of a megabyte: {peak} bytes");
    assert!(peak <= 2 * target("key").bytes_max as u64, "{peak} bytes");
}
