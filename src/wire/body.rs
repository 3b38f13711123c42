//! What every form of a token has inside.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | flags: 1 a cluster could not be remembered, 2 clusters were left out here; the others are zero |
//! | | the clusters, by ascending system identifier, to the end |
//!
//! A cluster is
//!
//! | bytes | what |
//! |---|---|
//! | 8 | system identifier, big-endian |
//! | 1 | bits 0 to 2 the number of positions, at most 4; 8 a position could not be remembered; 16 an extension follows; 32 keys follow |
//! | | the positions, by ascending timeline and branch of it: timeline, branch, LSN, each a varint |
//! | 1 + n | the extension, if any: its length, 1 to 32, and as many bytes |
//! | 1 + n | the keys, if any: their length, 1 to 128, and as many bytes |
//!
//! A varint has seven bits a byte, the lowest first, and the high bit set on all but the last; the shortest form is the only
//! one. The extension says what a log of retractions vouches for in the last of the positions, the only one that can be of a
//! log that anybody still hears: the lineage (6), and how far below the position the pin is, a varint, or zero where nothing
//! is pinned. Whoever does not know it skips it, and takes the position as pinned: that costs hits and nothing else. For the
//! same reason it is left out where there is no room for it.
//!
//! The keys say what is known of the last position key by key: how far below it the rest is, a varint, or zero where the rest is;
//! and by ascending key, each that was written above the rest, 1 to 8: four bytes of its digest, and how far below the
//! position it was written, a varint. Of another form they are a later release's, and all up to the position is demanded of every
//! key. So it is where there is no room for them; where there is room for some, the rest covers the others.

use crate::bytes::Reader;
use crate::history::Branch;
use crate::lineage::{Lineage, Vouched};
use crate::named::{Brief, Named, PAIRS_MAX, Pair};
use crate::token::{CLUSTERS_MAX, PARTS_MAX, Part, Parts, Shard};
use crate::{Lsn, Position, Timeline, Token};

const OVERFLOWN: u8 = 1;
const COLLAPSED: u8 = 2;

const COUNT: u8 = 7;
const FORGOTTEN: u8 = 8;
const EXTENDED: u8 = 16;
const NAMED: u8 = 32;

const EXTENSION_BYTES_MAX: u8 = 32;
const NAMED_BYTES_MAX: u8 = 128;

/// Where the bits stand in a cluster's bytes, of which there are at least these two.
const HEAD_AT: usize = 8;
const SHARD_BYTES_MIN: usize = HEAD_AT + 1;

/// The first bytes of a lineage are zero.
const LINEAGE_AT: usize = 2;

/// Writes a token into `out`, in at most `room` bytes for a token of one cluster that names no keys and `room_max` for others.
/// What does not fit is left out, and the token says so: first the keys written longest ago, then clusters other than
/// `own`, then the oldest timelines.
pub(crate) fn write(token: &Token, own: &[u64], room: usize, room_max: usize, out: &mut Vec<u8>) {
    let room = if token.shards().len() > 1 { room_max } else { room };
    let mut left = room.saturating_sub(1);
    let is_own = |shard: &&Shard| own.contains(&shard.system_identifier);
    let mut chosen = Vec::with_capacity(token.shards().len());
    for shard in token.shards().iter().filter(is_own).chain(token.shards().iter().filter(|shard| !is_own(shard))) {
        let whole = Some(shard_bytes(shard, true)).filter(|bytes| bytes.len() <= left);
        let bytes = whole.unwrap_or_else(|| {
            // A single cluster always fits: what is too long of it is forgotten.
            if token.shards().len() > 1 { shard_bytes(shard, false) } else { trimmed(shard, left) }
        });
        if bytes.len() <= left {
            left -= bytes.len();
            chosen.push((shard, bytes));
        }
    }
    left += room_max.saturating_sub(room);
    for (shard, bytes) in &mut chosen {
        let keys = named_bytes(shard, left);
        if let (false, Some(head)) = (keys.is_empty(), bytes.get_mut(HEAD_AT)) {
            *head |= NAMED;
            left -= keys.len();
            bytes.extend_from_slice(&keys);
        }
    }
    chosen.sort_unstable_by_key(|(shard, _)| shard.system_identifier);
    let overflown = if token.is_overflown() { OVERFLOWN } else { 0 };
    let is_collapsed = token.is_collapsed() || chosen.len() < token.shards().len();
    let collapsed = if is_collapsed { COLLAPSED } else { 0 };
    out.push(overflown | collapsed);
    chosen.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
}

/// The bytes of a cluster that is alone, without its oldest timelines where they do not fit.
fn trimmed(shard: &Shard, room: usize) -> Vec<u8> {
    let mut bytes = shard_bytes(shard, false);
    let mut shard = shard.clone();
    while bytes.len() > room && !shard.parts.is_empty() {
        shard.parts.remove(0);
        shard.forgotten = true;
        bytes = shard_bytes(&shard, false);
    }
    bytes
}

fn shard_bytes(shard: &Shard, extended: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + shard.parts.len() * 10);
    bytes.extend_from_slice(&shard.system_identifier.to_be_bytes());
    // At most PARTS_MAX, which fits.
    let count = shard.parts.len() as u8 & COUNT;
    let last = shard.parts.last().filter(|_| extended);
    let vouched = last.and_then(|part| Some((part.position.lsn, part.vouched?)));
    let extended = if vouched.is_some() { EXTENDED } else { 0 };
    bytes.push(count | extended | if shard.forgotten { FORGOTTEN } else { 0 });
    for part in &shard.parts {
        push_varint(&mut bytes, part.position.timeline.0.into());
        push_varint(&mut bytes, part.branch.number());
        push_varint(&mut bytes, part.position.lsn.offset());
    }
    if let Some((lsn, Vouched { lineage, pinned })) = vouched {
        let mut extension = lineage.number().to_be_bytes().get(LINEAGE_AT..).unwrap_or_default().to_vec();
        let below = if pinned == Lsn::ZERO { 0 } else { lsn.offset() - pinned.offset() };
        push_varint(&mut extension, below);
        // At most 16, which fits.
        bytes.push(extension.len() as u8);
        bytes.extend_from_slice(&extension);
    }
    bytes
}

/// What of the last position is known by key, as much of it as there is room for.
fn named_bytes(shard: &Shard, room: usize) -> Vec<u8> {
    let Some(last) = shard.parts.last() else { return Vec::new() };
    let (lsn, mut named) = (last.position.lsn.offset(), last.named.clone());
    while let Some(Named { rest, pairs }) = &named {
        let mut bytes = vec![0];
        push_varint(&mut bytes, if *rest == Lsn::ZERO { 0 } else { lsn - rest.offset() });
        for Pair { key, lsn: at } in pairs {
            bytes.extend_from_slice(&key.0.to_be_bytes());
            push_varint(&mut bytes, lsn - at.offset());
        }
        let length = bytes.len() - 1;
        if let Some(first) = bytes.first_mut() {
            // At most 122, which fits.
            *first = length as u8;
        }
        if bytes.len() <= room {
            return bytes;
        }
        named = named.and_then(Named::shorter);
    }
    Vec::new()
}

/// The token in these bytes, or `None` where they are not exactly what [`write()`] makes. Nothing is believed about lengths:
/// no more is allocated than the bytes can hold.
pub(crate) fn read(bytes: &[u8]) -> Option<Token> {
    let mut reader = Reader::new(bytes);
    let flags = reader.u8()?;
    if flags & !(OVERFLOWN | COLLAPSED) != 0 {
        return None;
    }
    let mut shards: Vec<Shard> = Vec::with_capacity(CLUSTERS_MAX.min(bytes.len() / SHARD_BYTES_MIN));
    while !reader.is_empty() {
        let shard = read_shard(&mut reader)?;
        let rises = shards.last().is_none_or(|last| last.system_identifier < shard.system_identifier);
        if !rises || shards.len() == CLUSTERS_MAX {
            return None;
        }
        shards.push(shard);
    }
    Some(Token::from_shards(shards, flags & OVERFLOWN != 0, flags & COLLAPSED != 0))
}

fn read_shard(reader: &mut Reader<'_>) -> Option<Shard> {
    let system_identifier = reader.u64()?;
    let head = reader.u8()?;
    let (count, forgotten) = (usize::from(head & COUNT), head & FORGOTTEN != 0);
    if head & !(COUNT | FORGOTTEN | EXTENDED | NAMED) != 0 || count > PARTS_MAX || (count == 0 && !forgotten) {
        return None;
    }
    let mut parts = Parts::with_capacity(count);
    for _ in 0..count {
        let timeline = Timeline(u32::try_from(varint(reader)?).ok()?);
        let branch = Branch::from_number(varint(reader)?);
        let part = Part::pinned(Position { timeline, lsn: Lsn::new(varint(reader)?) }, branch);
        if parts.last().is_some_and(|last| last.order() >= part.order()) {
            return None;
        }
        parts.push(part);
    }
    if head & EXTENDED != 0 {
        let length = reader.u8().filter(|length| (1..=EXTENSION_BYTES_MAX).contains(length))?;
        let mut extension = Reader::new(reader.take(length.into())?);
        let last = parts.last_mut()?;
        let lineage = extension
            .take(8 - LINEAGE_AT)
            .map(|bytes| Lineage::from_number(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))));
        // Of another form, it is of a later release: the position stays pinned.
        if let (Some(below), true) = (varint(&mut extension), extension.is_empty()) {
            let lsn = last.position.lsn.offset();
            let pinned = if below == 0 { 0 } else { lsn.saturating_sub(below) };
            last.vouched = Vouched::below(last.position.lsn, lineage, Lsn::new(pinned));
        }
    }
    if head & NAMED != 0 {
        let length = reader.u8().filter(|length| (1..=NAMED_BYTES_MAX).contains(length))?;
        let bytes = reader.take(length.into())?;
        let last = parts.last_mut()?;
        last.named = read_named(bytes, last.position.lsn);
    }
    Some(Shard { system_identifier, parts, forgotten })
}

/// What is known by key of a position at `lsn`. Nothing where it is not exactly what is written.
fn read_named(bytes: &[u8], lsn: Lsn) -> Option<Named> {
    let mut reader = Reader::new(bytes);
    let at = |below: u64| lsn.offset().checked_sub(below).map(Lsn::new);
    let rest = varint(&mut reader).and_then(|below| if below == 0 { Some(Lsn::ZERO) } else { at(below) })?;
    let mut pairs: Vec<Pair> = Vec::with_capacity(PAIRS_MAX);
    while !reader.is_empty() {
        let pair = Pair { key: Brief(reader.u32()?), lsn: at(varint(&mut reader)?)? };
        let rises = pairs.last().is_none_or(|last| last.key < pair.key);
        if !rises || pair.lsn <= rest || pairs.len() == PAIRS_MAX {
            return None;
        }
        pairs.push(pair);
    }
    (!pairs.is_empty()).then_some(Named { rest, pairs })
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn varint(reader: &mut Reader<'_>) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7f);
        // Of the tenth byte only one bit is left.
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            let is_shortest = byte != 0 || shift == 0;
            return is_shortest.then_some(number);
        }
    }
    None
}
