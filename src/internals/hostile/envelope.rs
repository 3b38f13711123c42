//! What lies at an address of the shared tier: a byte that chooses the type of the value, then the envelope.

use super::{Outcome, Target};
use crate::entry::{Entry, Slots};
use crate::named::Brief;
use crate::tier::Bincode;
use crate::tier::envelope::{Contents, Expected, Limits, Unusable, open, replaces, seal, seal_of};
use crate::tier::pack::{Packer, Packing, Unpacked};
use crate::{Digest, Lsn, Origin, Stamp, Timeline};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

pub(super) const TARGET: Target = Target {
    name: "envelope",
    read,
    check,
    bytes_max: 1 << 20,
    outcomes: &[
        "row",
        "absent",
        "too long",
        "malformed",
        "damaged",
        "other version",
        "other type",
        "other key",
        "marker",
    ],
};

const HISTORY: u64 = 9;
/// The key that the target asks for.
pub const KEY: &[u8] = b"\0\x05users\x07";
/// The type that the target asks for.
pub const TYPE: u64 = 77;
/// Where the fingerprint of the value's type lies, and how long the seal is.
const FINGERPRINT: std::ops::Range<usize> = 44..52;
const SEAL_BYTES: usize = 16;

fn read(input: &[u8]) -> Box<dyn Fn() + '_> {
    let (kind, bytes) = input.split_first().unwrap_or((&0, &[]));
    // A hash table is made for the size that it claims, in powers of two, and so is measured apart.
    let forged = with_type(if kind % 6 == 4 { 3 } else { *kind }, bytes);
    Box::new(move || {
        let _ = open(bytes, &lies(), &Limits::default());
        forged.read();
    })
}

fn check(input: &[u8]) -> Outcome {
    let (kind, bytes) = input.split_first().unwrap_or((&0, &[]));
    let half = bytes.len() / 2;
    for (one, other) in [(bytes, input), bytes.split_at(half), (bytes, &sealed(KEY, TYPE, None))] {
        compare(one, other);
        compare(other, one);
    }
    with_type(*kind, bytes).check();
    match open(bytes, &lies(), &Limits::default()) {
        Ok(contents) => {
            let again = seal(&contents, &lies(), &Limits::default());
            assert_eq!(again.as_deref(), Ok(bytes), "an envelope has one form");
            if contents.payload.is_some() { "row" } else { "absent" }
        }
        Err(Unusable::TooLong) => "too long",
        Err(Unusable::Malformed) => "malformed",
        Err(Unusable::Damaged) => "damaged",
        Err(Unusable::OtherVersion) => "other version",
        Err(Unusable::OtherType) => "other type",
        Err(Unusable::OtherKey) => "other key",
        Err(Unusable::Marker(_)) => "marker",
    }
}

fn lies() -> Expected<'static> {
    Expected { history: HISTORY, key: KEY, type_fingerprint: TYPE }
}

/// Bytes that get as far as the codec, of whatever type.
trait Forged {
    fn read(&self);
    fn check(&self);
}

struct Forgery<V> {
    bytes: Vec<u8>,
    packing: Packing<V, Bincode>,
}

fn with_type(kind: u8, bytes: &[u8]) -> Box<dyn Forged> {
    match kind % 6 {
        0 => forge::<String>(bytes),
        1 => forge::<Vec<u8>>(bytes),
        2 => forge::<(u64, String, Option<Vec<i32>>, Vec<String>)>(bytes),
        3 => forge::<BTreeMap<String, u64>>(bytes),
        4 => forge::<HashMap<u32, Option<char>>>(bytes),
        _ => forge::<Result<(bool, i128), [u16; 4]>>(bytes),
    }
}

/// The same bytes as somebody makes them who knows the key of the seal, which is public.
fn forge<V: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(bytes: &[u8]) -> Box<dyn Forged> {
    let packing = Packing::<V, Bincode>::new(Bincode, 0, Limits::default());
    let mut bytes = bytes.to_vec();
    if let Some(fingerprint) = bytes.get_mut(FINGERPRINT) {
        fingerprint.copy_from_slice(&packing.fingerprint().to_be_bytes());
    }
    if let Some((sealed, seal)) = bytes.split_last_chunk_mut::<SEAL_BYTES>() {
        *seal = seal_of(HISTORY, sealed);
    }
    Box::new(Forgery { bytes, packing })
}

impl<V: Serialize + DeserializeOwned + PartialEq + Debug> Forged for Forgery<V> {
    fn read(&self) {
        let _ = self.packing.open(&self.bytes, KEY, HISTORY);
    }

    fn check(&self) {
        if let Ok(Some(found)) = self.packing.open(&self.bytes, KEY, HISTORY) {
            seal_again(&self.packing, found);
        }
    }
}

/// What was found is sealed anew, and another instance finds the same.
fn seal_again<V: Serialize + DeserializeOwned + PartialEq + Debug>(packing: &Packing<V, Bincode>, found: Unpacked<V>) {
    let Unpacked { value, stamp, life, groups } = found;
    let slots = Slots::new(0, []);
    let entry = Entry { value, stamp, history: HISTORY, slots, brief: Brief(0), life, fill: 1, filled_here: false };
    // A number may have been written at more length than it needs, never at less.
    let Ok(again) = packing.seal(KEY, &entry, &groups) else { panic!("what was opened cannot be sealed") };
    let Ok(Some(second)) = packing.open(&again, KEY, HISTORY) else { panic!("what was sealed cannot be opened") };
    assert_eq!(second.value, entry.value);
    assert_eq!((second.stamp, second.life, second.groups), (entry.stamp, entry.life, groups));
}

/// The Admit rule on any two byte strings: what is readable never replaces itself, no slot moves backwards, and of two on
/// one timeline at most one replaces the other.
fn compare(present: &[u8], incoming: &[u8]) {
    assert!(!replaces(present, present));
    let readable = |bytes: &[u8]| replaces(b"", bytes);
    if !readable(present) || !readable(incoming) || present.get(8..12) != incoming.get(8..12) {
        return;
    }
    if replaces(present, incoming) {
        assert!(incoming.get(12..20) >= present.get(12..20), "a slot moved backwards");
        assert!(!replaces(incoming, present), "each replaces the other");
    }
}

/// An envelope whose seal fits; where key and type are [`KEY`] and [`TYPE`], it opens.
#[must_use]
pub fn sealed(key: &[u8], type_fingerprint: u64, payload: Option<&[u8]>) -> Vec<u8> {
    let (tag, upper) = (Lsn::new(1 << 40), Some(Lsn::new((1 << 40) + 5)));
    let stamp = Stamp { timeline: Timeline(3), tag, origin: Origin::Standby, upper };
    let groups = vec![Digest::of_group("team:7")];
    let contents = Contents { stamp, filled_unix_ms: 1_000, expires_unix_ms: 61_000, groups, payload };
    seal(&contents, &Expected { history: HISTORY, key, type_fingerprint }, &Limits::default()).unwrap_or_default()
}
