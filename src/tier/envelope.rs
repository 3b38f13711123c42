//! The stored form of an entry or of a retraction marker in the shared tier.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `HWE` and the format version |
//! | 4 | 1 | kind: 1 a row, 2 a row known to be absent, 3 a marker |
//! | 5 | 1 | flags: 1 an upper bound is known, 2 filled on the primary |
//! | 6 | 2 | zero |
//! | 8 | 4 | timeline |
//! | 12 | 8 | tag; of a marker, the position of the retraction |
//! | 20 | 8 | upper bound |
//! | 28 | 8 | filled at, in ms of the Unix epoch |
//! | 36 | 8 | expires at, in ms of the Unix epoch |
//! | 44 | 8 | fingerprint of the value's type |
//! | 52 | 2 | length of the key |
//! | 54 | 2 | number of groups |
//! | 56 | 4 | length of the payload |
//! | 60 | | key, digests of the groups (16 bytes each), payload |
//! | end - 16 | 16 | seal |
//!
//! Numbers are big-endian. The first 20 bytes are all that the Admit rule compares, in Lua as here; a marker ends there.

use crate::bytes::Reader;
use crate::digest::{Digest, KEY_BYTES_MAX};
use crate::repository::GROUPS_MAX;
use crate::{Lsn, Origin, Position, Stamp, Timeline};
use crate::{entry, entry::Rank};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

const MAGIC: [u8; 3] = *b"HWE";
const VERSION: u8 = 1;
/// Bytes that the Admit rule compares, and all that a marker has.
pub(crate) const COMPARED_BYTES: usize = 20;
const HEADER_BYTES: usize = 60;
const SEAL_BYTES: usize = 16;

const ROW: u8 = 1;
const ABSENT: u8 = 2;
const MARKER: u8 = 3;

const HAS_UPPER: u8 = 1;
const ON_PRIMARY: u8 = 2;

/// The longest canonical key: the name of the cache with its length, and the key.
const CANONICAL_KEY_BYTES_MAX: usize = 2 * KEY_BYTES_MAX + 2;

/// Where an envelope lies and what its value must be: nothing else is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    /// The fingerprint of the history in the address. It is not stored, but sealed in: an envelope that was copied to the
    /// address of another history does not open.
    pub(crate) history: u64,
    /// The canonical key.
    pub(crate) key: &'a [u8],
    /// The fingerprint of the value's type and codec.
    pub(crate) type_fingerprint: u64,
}

/// What is sealed into an envelope, or found in one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) stamp: Stamp,
    pub(crate) filled_unix_ms: u64,
    pub(crate) expires_unix_ms: u64,
    pub(crate) groups: Vec<Digest>,
    /// The encoded value, or `None` for a row known to be absent.
    pub(crate) payload: Option<&'a [u8]>,
}

/// The key of the seal. It is public: the seal finds damage and what was put at another address, not forgery. Whoever can
/// write to the Redis server is trusted with what it answers.
const SEAL_KEY: [u8; 16] = *b"highwater seal 1";

pub(crate) fn seal_of(history: u64, bytes: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = SipHasher24::new_with_key(&SEAL_KEY);
    hasher.write(&history.to_be_bytes());
    hasher.write(bytes);
    hasher.finish128().as_u128().to_be_bytes()
}

/// What an envelope must fit to be sealed or opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most bytes of one payload.
    pub(crate) payload_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes_max: 1 << 20 }
    }
}

impl Limits {
    fn bytes_max(&self) -> usize {
        let around = HEADER_BYTES + CANONICAL_KEY_BYTES_MAX + GROUPS_MAX * 16 + SEAL_BYTES;
        self.payload_bytes_max.min(u32::MAX as usize).saturating_add(around)
    }
}

/// An entry that cannot be shared: it stays in the local tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unsealable {
    #[error("the encoded value has {0} bytes, more than the limit of the shared tier")]
    PayloadTooLong(usize),
    #[error("the entry names {0} groups, and the limit is {GROUPS_MAX}")]
    TooManyGroups(usize),
    #[error("the key has {0} bytes")]
    KeyTooLong(usize),
}

/// Why the bytes at an address do not answer: always a miss, never an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Unusable {
    /// Longer than anything this instance would store.
    TooLong,
    /// Truncated, or not an envelope.
    Malformed,
    /// The seal does not fit the bytes or the address.
    Damaged,
    /// Written by a release with another format.
    OtherVersion,
    /// The value has another type, or another codec.
    OtherType,
    /// Two keys with one digest.
    OtherKey,
    /// A retraction marker: something newer than this position has to be filled first.
    Marker(Position),
}

/// The envelope of an entry.
pub(crate) fn seal(contents: &Contents<'_>, lies: &Expected<'_>, limits: &Limits) -> Result<Vec<u8>, Unsealable> {
    let payload = contents.payload.unwrap_or_default();
    if payload.len() > limits.payload_bytes_max {
        return Err(Unsealable::PayloadTooLong(payload.len()));
    }
    let payload_bytes = u32::try_from(payload.len()).map_err(|_| Unsealable::PayloadTooLong(payload.len()))?;
    if contents.groups.len() > GROUPS_MAX {
        return Err(Unsealable::TooManyGroups(contents.groups.len()));
    }
    if lies.key.len() > CANONICAL_KEY_BYTES_MAX {
        return Err(Unsealable::KeyTooLong(lies.key.len()));
    }
    let stamp = &contents.stamp;
    let total = HEADER_BYTES + lies.key.len() + contents.groups.len() * 16 + payload.len() + SEAL_BYTES;
    let mut bytes = Vec::with_capacity(total);
    let kind = if contents.payload.is_some() { ROW } else { ABSENT };
    let upper = if stamp.upper.is_some() { HAS_UPPER } else { 0 };
    let origin = if stamp.origin == Origin::Primary { ON_PRIMARY } else { 0 };
    compared(&mut bytes, kind, upper | origin, Position { timeline: stamp.timeline, lsn: stamp.tag });
    bytes.extend_from_slice(&stamp.upper.unwrap_or_default().offset().to_be_bytes());
    bytes.extend_from_slice(&contents.filled_unix_ms.to_be_bytes());
    bytes.extend_from_slice(&contents.expires_unix_ms.to_be_bytes());
    bytes.extend_from_slice(&lies.type_fingerprint.to_be_bytes());
    // Both lengths were checked above and fit.
    bytes.extend_from_slice(&(lies.key.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&(contents.groups.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&payload_bytes.to_be_bytes());
    bytes.extend_from_slice(lies.key);
    contents.groups.iter().for_each(|group| bytes.extend_from_slice(group.as_bytes()));
    bytes.extend_from_slice(payload);
    let seal = seal_of(lies.history, &bytes);
    bytes.extend_from_slice(&seal);
    Ok(bytes)
}

/// The marker that a retraction at `position` leaves.
pub(crate) fn marker(position: Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COMPARED_BYTES);
    compared(&mut bytes, MARKER, 0, position);
    bytes
}

fn compared(bytes: &mut Vec<u8>, kind: u8, flags: u8, position: Position) {
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, kind, flags, 0, 0]);
    bytes.extend_from_slice(&position.timeline.0.to_be_bytes());
    bytes.extend_from_slice(&position.lsn.offset().to_be_bytes());
}

/// Opens what was found at an address. Lengths are checked before anything is believed, and the seal before anything is
/// handed out; nothing is allocated but the groups, of which there are at most [`GROUPS_MAX`].
pub(crate) fn open<'a>(bytes: &'a [u8], lies: &Expected<'_>, limits: &Limits) -> Result<Contents<'a>, Unusable> {
    if bytes.len() > limits.bytes_max() {
        return Err(Unusable::TooLong);
    }
    let header = Header::read(bytes)?;
    if header.kind == MARKER {
        return Err(Unusable::Marker(header.position));
    }
    let (sealed, seal) = bytes.split_last_chunk::<SEAL_BYTES>().ok_or(Unusable::Malformed)?;
    let contents = body(sealed, &header, lies)?;
    if seal_of(lies.history, sealed) != *seal {
        return Err(Unusable::Damaged);
    }
    contents
}

/// What lies behind the compared bytes. The outer result says whether the bytes are an envelope, the inner one whether
/// it is the one that was asked for: that is only worth saying once the seal was found to fit.
fn body<'a>(
    sealed: &'a [u8],
    header: &Header,
    lies: &Expected<'_>,
) -> Result<Result<Contents<'a>, Unusable>, Unusable> {
    let mut reader = Reader::new(sealed.get(COMPARED_BYTES..).unwrap_or_default());
    let mut read = || -> Option<_> {
        let (upper, filled, expires, fingerprint) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let (key, groups, payload) = (reader.u16()?, reader.u16()?, reader.u32()?);
        if usize::from(groups) > GROUPS_MAX {
            return None;
        }
        let key = reader.take(key.into())?;
        let groups = reader.take(usize::from(groups) * 16)?;
        let payload = reader.take(usize::try_from(payload).ok()?)?;
        reader.is_empty().then_some((upper, filled, expires, fingerprint, key, groups, payload))
    };
    let (upper, filled, expires, fingerprint, key, groups, payload) = read().ok_or(Unusable::Malformed)?;
    let has_upper = header.flags & HAS_UPPER != 0;
    if (!has_upper && upper != 0) || (header.kind == ABSENT && !payload.is_empty()) {
        return Err(Unusable::Malformed);
    }
    if fingerprint != lies.type_fingerprint {
        return Ok(Err(Unusable::OtherType));
    }
    if key != lies.key {
        return Ok(Err(Unusable::OtherKey));
    }
    let origin = if header.flags & ON_PRIMARY != 0 { Origin::Primary } else { Origin::Standby };
    let upper = has_upper.then(|| Lsn::new(upper));
    let stamp = Stamp { timeline: header.position.timeline, tag: header.position.lsn, origin, upper };
    Ok(Ok(Contents {
        stamp,
        filled_unix_ms: filled,
        expires_unix_ms: expires,
        groups: groups.as_chunks::<16>().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect(),
        payload: (header.kind == ROW).then_some(payload),
    }))
}

/// The Admit rule on stored bytes, marker or entry on either side: whether `incoming` takes the place of `present`, which
/// is empty where nothing is.
///
/// Where `present` cannot be compared (damaged, another format, another timeline) it gives way: it could never answer at
/// this address, so it must not occupy it. An `incoming` that cannot be compared is refused. `rule.lua` says the same.
pub(crate) fn replaces(present: &[u8], incoming: &[u8]) -> bool {
    let Ok(incoming) = Header::read(incoming) else { return false };
    let Ok(present) = Header::read(present) else { return true };
    if present.position.timeline != incoming.position.timeline {
        return true;
    }
    match (present.kind == MARKER, incoming.kind == MARKER) {
        (false, false) => entry::admits(present.rank(), incoming.rank()),
        (true, false) => entry::admits_over_marker(present.position.lsn, incoming.rank()),
        (_, true) => entry::marks(present.position.lsn, incoming.position.lsn),
    }
}

/// The compared bytes of an envelope.
#[derive(Debug)]
struct Header {
    kind: u8,
    flags: u8,
    position: Position,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Unusable> {
        let mut reader = Reader::new(bytes);
        let magic = reader.array::<3>().ok_or(Unusable::Malformed)?;
        let version = reader.u8().ok_or(Unusable::Malformed)?;
        if magic != MAGIC {
            return Err(Unusable::Malformed);
        }
        if version != VERSION {
            return Err(Unusable::OtherVersion);
        }
        let mut read =
            || -> Option<_> { Some((reader.u8()?, reader.u8()?, reader.u16()?, reader.u32()?, reader.u64()?)) };
        let (kind, flags, zero, timeline, tag) = read().ok_or(Unusable::Malformed)?;
        let flags_allowed = if kind == MARKER { 0 } else { HAS_UPPER | ON_PRIMARY };
        let length_fits = if kind == MARKER { reader.is_empty() } else { bytes.len() >= HEADER_BYTES + SEAL_BYTES };
        if !(ROW..=MARKER).contains(&kind) || flags & !flags_allowed != 0 || zero != 0 || !length_fits {
            return Err(Unusable::Malformed);
        }
        Ok(Self { kind, flags, position: Position { timeline: Timeline(timeline), lsn: Lsn::new(tag) } })
    }

    fn rank(&self) -> Rank {
        (self.position.lsn, self.flags & HAS_UPPER != 0)
    }
}

#[cfg(test)]
mod tests;
