//! Two keys of two caches, and what they are called: names that meet would let one answer for the other.
//!
//! The input is two halves, as long as its first byte says of 256; each is the length of a cache's name, the name, and a
//! key in bincode's form.

use super::{Outcome, Target};
use crate::bytes::Reader;
use crate::cache::Name;
use crate::digest::{Digest, KEY_BYTES_MAX};
use crate::tier::redis::entry_name;
use crate::tier::{Address, Bincode, Codec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) const TARGET: Target = Target {
    name: "key",
    read: |input| {
        let pair = pair(input);
        Box::new(move || {
            for (cache, key) in pair.iter().flatten() {
                let _ = Name::of(cache, key);
            }
        })
    },
    check,
    bytes_max: 2 * KEY_BYTES_MAX + 2,
    outcomes: &["no keys", "the same", "different", "too long"],
};

/// Keys of every shape that serde has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "shapes, not meanings")]
#[non_exhaustive]
pub enum AnyKey {
    Unit,
    Id(u64),
    Signed(i64),
    Wide(u128, i128),
    Small(u8, i16, bool, char),
    Text(String),
    Texts(String, String),
    Bytes(Vec<u8>),
    Many(Vec<String>),
    Maybe(Option<Option<String>>),
    Composite { tenant: u32, id: Option<i32>, path: Vec<u16> },
    Nested(Box<Self>, Box<Self>),
    Map(BTreeMap<String, u8>),
    Array([u16; 3]),
}

/// Whether a key of a cache has a name.
#[must_use]
pub fn name_of(cache: &str, key: &AnyKey) -> bool {
    Name::of(cache, key).is_ok()
}

type Named = (String, AnyKey);

fn pair(input: &[u8]) -> Option<[Named; 2]> {
    let (share, rest) = input.split_first()?;
    let (one, other) = rest.split_at_checked(rest.len() * usize::from(*share) / 256)?;
    Some([named(one)?, named(other)?])
}

fn named(bytes: &[u8]) -> Option<Named> {
    let mut reader = Reader::new(bytes);
    let length = usize::from(reader.u8()?);
    let cache = std::str::from_utf8(reader.take(length)?).ok()?;
    let key = reader.rest();
    // `AnyKey` contains itself, and no byte limit bounds the depth of that.
    let key = (key.len() <= 4_096).then(|| Bincode::<{ 1 << 16 }>.decode::<AnyKey>(key).ok()).flatten()?;
    Some((cache.to_owned(), key))
}

fn check(input: &[u8]) -> Outcome {
    let Some([one, other]) = pair(input) else { return "no keys" };
    let (Ok(a), Ok(b)) = (Name::of(&one.0, &one.1), Name::of(&other.0, &other.1)) else { return "too long" };
    let same = one == other;
    assert_eq!(a.canonical == b.canonical, same, "the canonical bytes are injective");
    assert_eq!(a.digest == b.digest, same);
    for ((cache, key), name) in [(&one, &a), (&other, &b)] {
        assert!(name.canonical.len() <= 2 + cache.len() + KEY_BYTES_MAX);
        let bytes = name.canonical.get(2 + cache.len()..).unwrap_or_default();
        assert_eq!(Bincode::<{ 1 << 16 }>.decode::<AnyKey>(bytes).ok().as_ref(), Some(key));
        let domains = [name.digest, Digest::of_group(cache), Digest::of_cache(cache)];
        assert!(domains.iter().all(|domain| domains.iter().filter(|other| *other == domain).count() == 1));
    }
    let addresses = [(7, a.digest), (7, b.digest), (8, a.digest)].map(|(history, key)| Address { history, key });
    let [at, beside, later] = addresses.map(|address| entry_name("shop", &address));
    assert_eq!(at == beside, same);
    assert_ne!(at, later);
    assert_ne!(at, entry_name("shop.2", &Address { history: 7, key: a.digest }));
    if same { "the same" } else { "different" }
}
