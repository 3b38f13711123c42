//! What travels on the bus.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `HWB` and the format version |
//! | 4 | 8 | lineage |
//! | 12 | 8 | sequence number: a retraction's own, in a heartbeat the last one taken |
//! | 20 | 8 | generation |
//! | 28 | 8 | watermark of the history that the body names |
//! | 36 | 1 | kind: 1 a retraction, 2 a heartbeat |
//! | 37 | 8 | history |
//! | 45 | | the body |
//!
//! A retraction's body: timeline (4), LSN (8), number of keys (2) and of groups (2), their digests. A heartbeat's: the
//! nonce of who sent it (8). Numbers are big-endian.
//!
//! The log writes the first 36 bytes, in the same atomic step that takes the sequence number; the client writes the
//! rest, which the log does not read.
//!
//! What a writer announces is kept by the log for whoever finds that it never settled: the transaction's id (8, zero where
//! it has none yet), and then as a retraction from its kind on, at the position that the write will be above.

use super::{NOTICE_NAMES_MAX, Notice};
use crate::bytes::Reader;
use crate::digest::Digest;
use crate::lineage::Lineage;
use crate::{Lsn, Position, Timeline};

const MAGIC: [u8; 3] = *b"HWB";
const VERSION: u8 = 2;
const RETRACTION: u8 = 1;
const HEARTBEAT: u8 = 2;

/// Bytes that the log puts in front.
const FRAME_BYTES: usize = 36;

/// The most names that an announcement tells, for 4 KiB each: of a longer one only its own writer knows them.
const ANNOUNCED_NAMES_MAX: usize = 240;

/// What the log knows of itself when it publishes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Frame {
    /// Which log it is.
    pub(crate) lineage: Lineage,
    /// How many retractions this log has numbered.
    pub(crate) sequence: u64,
    /// How often history was replaced without a new timeline, as far as this log was told.
    pub(crate) generation: u64,
    /// Every write at or below it that was announced in the message's history has been retracted by messages up to this one.
    pub(crate) watermark: Lsn,
}

/// One message, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) frame: Frame,
    pub(crate) body: Body,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    Retraction(Notice),
    Heartbeat { nonce: u64, history: u64 },
}

impl Body {
    /// The history that the frame's watermark is of.
    pub(crate) fn history(&self) -> u64 {
        match self {
            Self::Retraction(notice) => notice.history,
            Self::Heartbeat { history, .. } => *history,
        }
    }
}

/// Why bytes heard on the bus were not understood. They are left alone: where a retraction was in them, the next
/// sequence number that is understood shows the gap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Unreadable {
    /// Published by a release with another format.
    OtherVersion,
    /// Not a message, or not a whole one.
    Malformed,
}

impl Frame {
    /// The bytes that the log puts in front. An in-memory log uses it; the scripts have their own, and a test compares
    /// the two.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.lineage.number().to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.watermark.offset().to_be_bytes());
        bytes
    }
}

impl Message {
    /// Decodes what was heard. Every length is checked against [`NOTICE_NAMES_MAX`] and the bytes at hand before
    /// anything is allocated.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        if reader.array() != Some(MAGIC) {
            return Err(Unreadable::Malformed);
        }
        if reader.u8().ok_or(Unreadable::Malformed)? != VERSION {
            return Err(Unreadable::OtherVersion);
        }
        Self::read(&mut reader).filter(|_| reader.is_empty()).ok_or(Unreadable::Malformed)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (lineage, sequence) = (Lineage::from_number(reader.u64()?), reader.u64()?);
        let (generation, watermark) = (reader.u64()?, Lsn::new(reader.u64()?));
        let frame = Frame { lineage, sequence, generation, watermark };
        let (kind, history) = (reader.u8()?, reader.u64()?);
        let body = match kind {
            RETRACTION => Body::Retraction(read_notice(history, reader)?),
            HEARTBEAT => Body::Heartbeat { nonce: reader.u64()?, history },
            _ => return None,
        };
        Some(Self { frame, body })
    }
}

fn read_notice(history: u64, reader: &mut Reader<'_>) -> Option<Notice> {
    let (timeline, lsn) = (Timeline(reader.u32()?), Lsn::new(reader.u64()?));
    let (keys, groups) = (usize::from(reader.u16()?), usize::from(reader.u16()?));
    if keys + groups > NOTICE_NAMES_MAX {
        return None;
    }
    let keys = digests(reader.take(keys * 16)?);
    let groups = digests(reader.take(groups * 16)?);
    Some(Notice { history, position: Position { timeline, lsn }, keys, groups })
}

fn digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.as_chunks::<16>().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect()
}

/// The part of a retraction that the client writes. The notice has at most [`NOTICE_NAMES_MAX`] names: see [`split`].
pub(crate) fn retraction(notice: &Notice) -> Vec<u8> {
    let names = notice.keys.len() + notice.groups.len();
    let mut bytes = Vec::with_capacity(25 + names * 16);
    bytes.push(RETRACTION);
    bytes.extend_from_slice(&notice.history.to_be_bytes());
    bytes.extend_from_slice(&notice.position.timeline.0.to_be_bytes());
    bytes.extend_from_slice(&notice.position.lsn.offset().to_be_bytes());
    bytes.extend_from_slice(&(notice.keys.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&(notice.groups.len() as u16).to_be_bytes());
    notice.keys.iter().chain(&notice.groups).for_each(|name| bytes.extend_from_slice(name.as_bytes()));
    bytes
}

/// The part of a heartbeat that the client writes.
pub(crate) fn heartbeat(nonce: u64, history: u64) -> Vec<u8> {
    let mut bytes = vec![HEARTBEAT];
    bytes.extend_from_slice(&history.to_be_bytes());
    bytes.extend_from_slice(&nonce.to_be_bytes());
    bytes
}

/// What is kept of an announcement: the write's names, at the position that it will be above. Nothing where it is long.
pub(crate) fn announced(xid: Option<u64>, notice: &Notice) -> Vec<u8> {
    if notice.keys.len() + notice.groups.len() > ANNOUNCED_NAMES_MAX {
        return Vec::new();
    }
    let mut bytes = xid.unwrap_or(0).to_be_bytes().to_vec();
    bytes.extend_from_slice(&retraction(notice));
    bytes
}

/// Reads it back; `None` where it is nothing of the kind.
pub(crate) fn read_announced(bytes: &[u8]) -> Option<(Option<u64>, Notice)> {
    let mut reader = Reader::new(bytes);
    let xid = Some(reader.u64()?).filter(|xid| *xid != 0);
    if reader.u8()? != RETRACTION {
        return None;
    }
    let history = reader.u64()?;
    let notice = read_notice(history, &mut reader)?;
    reader.is_empty().then_some((xid, notice))
}

/// The same notice in parts of at most [`NOTICE_NAMES_MAX`] names. A notice without names has no parts: it tells nothing.
pub(crate) fn split(notice: &Notice) -> impl Iterator<Item = Notice> {
    let part = |keys: &[Digest], groups: &[Digest]| Notice {
        history: notice.history,
        position: notice.position,
        keys: keys.to_vec(),
        groups: groups.to_vec(),
    };
    let keys = notice.keys.chunks(NOTICE_NAMES_MAX);
    let groups = notice.groups.chunks(NOTICE_NAMES_MAX);
    let whole = notice.keys.len() + notice.groups.len() <= NOTICE_NAMES_MAX && !notice.groups.is_empty();
    let together = whole.then(|| part(&notice.keys, &notice.groups));
    let apart = keys.map(move |keys| part(keys, &[])).chain(groups.map(move |groups| part(&[], groups)));
    together.into_iter().chain(apart.filter(move |_| !whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notice(keys: usize, groups: usize) -> Notice {
        let named =
            |prefix: &str, count: usize| (0..count).map(|i| Digest::of_group(&format!("{prefix}{i}"))).collect();
        Notice {
            history: 5,
            position: Position::new(2, Lsn::new(1 << 55)),
            keys: named("k", keys),
            groups: named("g", groups),
        }
    }

    fn framed(frame: Frame, body: &[u8]) -> Vec<u8> {
        [&frame.encode()[..], body].concat()
    }

    const FRAME: Frame = Frame {
        lineage: Lineage::from_number(0x1122_3344_5566_7788),
        sequence: 9,
        generation: 1,
        watermark: Lsn::new(0x42),
    };

    #[test]
    fn the_frame_is_part_of_the_format() {
        let hex: String = framed(FRAME, &heartbeat(3, 5)).iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "48574202 1122334455667788 0000000000000009 0000000000000001 0000000000000042 02 0000000000000005 \
                        0000000000000003";
        assert_eq!(hex, expected.replace(' ', ""));
    }

    #[test]
    fn too_many_names_or_trailing_bytes_are_malformed() {
        let mut long = framed(FRAME, &retraction(&notice(NOTICE_NAMES_MAX, 0)));
        assert!(Message::decode(&long).is_ok());
        long.push(0);
        assert_eq!(Message::decode(&long), Err(Unreadable::Malformed));
        let longer = framed(FRAME, &retraction(&notice(NOTICE_NAMES_MAX, 1)));
        assert_eq!(Message::decode(&longer), Err(Unreadable::Malformed));
        assert_eq!(Message::decode(b"HWB\x01anything"), Err(Unreadable::OtherVersion));
    }

    #[test]
    fn a_long_notice_is_told_in_parts() {
        let parts = |keys, groups| {
            let whole = notice(keys, groups);
            let parts: Vec<_> = split(&whole).collect();
            assert!(parts.iter().all(|part| part.keys.len() + part.groups.len() <= NOTICE_NAMES_MAX));
            assert_eq!(parts.iter().flat_map(|part| part.keys.clone()).collect::<Vec<_>>(), whole.keys);
            assert_eq!(parts.iter().flat_map(|part| part.groups.clone()).collect::<Vec<_>>(), whole.groups);
            parts.len()
        };
        assert_eq!((parts(0, 0), parts(1, 0), parts(0, 1), parts(3, 3)), (0, 1, 1, 1));
        assert_eq!((parts(NOTICE_NAMES_MAX, 0), parts(NOTICE_NAMES_MAX, 1), parts(2_500, 1_100)), (1, 2, 5));
    }

    proptest! {
        #[test]
        fn what_is_published_is_heard(
            (lineage, sequence, generation, watermark) in (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()),
            (nonce, xid) in (any::<u64>(), any::<u64>()),
            (keys, groups) in (0..40usize, 0..40usize),
        ) {
            let (lineage, watermark) = (Lineage::from_number(lineage), Lsn::new(watermark));
            let frame = Frame { lineage, sequence, generation, watermark };
            let notice = notice(keys, groups);
            let heard = Message::decode(&framed(frame, &retraction(&notice)));
            prop_assert_eq!(heard, Ok(Message { frame, body: Body::Retraction(notice.clone()) }));
            let heard = Message::decode(&framed(frame, &heartbeat(nonce, 5)));
            prop_assert_eq!(heard, Ok(Message { frame, body: Body::Heartbeat { nonce, history: 5 } }));
            let xid = Some(xid).filter(|xid| *xid != 0);
            prop_assert_eq!(read_announced(&announced(xid, &notice)), Some((xid, notice)));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
            prop_assert!(Message::decode(&bytes).is_err());
            let whole = framed(FRAME, &retraction(&notice(3, 2)));
            prop_assert!(Message::decode(&whole[..cut.index(whole.len())]).is_err());
            let mut damaged = whole;
            let at = cut.index(damaged.len());
            damaged.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = from);
            let _ = Message::decode(&damaged);
        }
    }
}
