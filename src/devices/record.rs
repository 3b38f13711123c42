//! What a user's devices hold, as it is stored: bytes of fixed widths, so that a script can compare them.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `HWD` and the version, 1 |
//! | 1 | flags: 1 a cluster could not be remembered, 2 clusters were left out, 4 an earlier record could not be read |
//! | 1 | number of clusters, at most 16; they follow, by ascending system identifier |
//!
//! A cluster is
//!
//! | bytes | what |
//! |---|---|
//! | 8 | system identifier |
//! | 8 | the era in which somebody answered for all that was written before, or zeros |
//! | 1 | number of positions, at most 4 |
//! | 1 | flags: 1 a position could not be remembered, 2 keys follow; without either there is a position |
//! | 36 each | the positions, by ascending timeline and branch |
//! | 9 + 12 each | the keys of the last position, if any: the rest (8), their number, 1 to 8, and by ascending key four bytes of its digest and an LSN above the rest (8) |
//!
//! A position is its timeline (4), branch (8), the LSN up to which it is pinned (8), a lineage (8) and the LSN up to which that
//! lineage's log vouches for it (8), which is above the pin. Both are zeros where no log vouches for anything.
//! Numbers are big-endian. `exchange.lua` does the same as [`Record::take_in`]; a test holds the two together.

use crate::bytes::Reader;
use crate::history::Branch;
use crate::lineage::{Lineage, Vouched};
use crate::named::{Brief, Named, PAIRS_MAX, Pair};
use crate::token::{CLUSTERS_MAX, PARTS_MAX, Part, Parts, Shard};
use crate::{Lsn, Position, Timeline, Token};

const MAGIC: [u8; 4] = *b"HWD\x01";

const OVERFLOWN: u8 = 1;
const COLLAPSED: u8 = 2;
const SUSPECT: u8 = 4;

const FORGOTTEN: u8 = 1;
const NAMED: u8 = 2;

const CLUSTER_BYTES: usize = 18;
const NAMED_BYTES_MAX: usize = 9 + PAIRS_MAX * 12;
const PART_BYTES: usize = 36;

/// The most bytes that a record has.
pub(crate) const BYTES_MAX: usize = 6 + CLUSTERS_MAX * (CLUSTER_BYTES + PARTS_MAX * PART_BYTES + NAMED_BYTES_MAX);

/// What a user's devices hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Record {
    pub(crate) token: Token,
    /// By system identifier: the era in which somebody answered for all that was written to the cluster before. Zero is none.
    eras: Vec<(u64, u64)>,
    /// An earlier record could not be read: nobody knows what it said.
    pub(crate) suspect: bool,
}

impl Record {
    /// A record of `token` that answers for nothing else.
    pub(crate) fn of(token: Token) -> Self {
        Self { token, ..Self::default() }
    }

    /// The same for somebody who knows that `token` covers all that was written to these clusters before `era` began.
    pub(crate) fn answering(token: Token, clusters: &[u64], era: u64) -> Self {
        Self { token, eras: clusters.iter().map(|cluster| (*cluster, era)).collect(), suspect: false }
    }

    /// The era in which somebody answered for this cluster; zero is none.
    pub(crate) fn era(&self, cluster: u64) -> u64 {
        self.eras.iter().find(|(own, _)| *own == cluster).map_or(0, |(_, era)| *era)
    }

    /// The bytes of it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let shards: Vec<&Shard> = self.token.shards().iter().filter(|shard| !is_void(shard)).collect();
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.token.is_overflown(), OVERFLOWN)
            | flag(self.token.is_collapsed(), COLLAPSED)
            | flag(self.suspect, SUSPECT);
        let mut bytes = [&MAGIC[..], &[flags, shards.len() as u8]].concat();
        for shard in shards {
            bytes.extend_from_slice(&shard.system_identifier.to_be_bytes());
            bytes.extend_from_slice(&self.era(shard.system_identifier).to_be_bytes());
            let named = shard.parts.last().and_then(|part| part.named.as_ref());
            let flags = flag(shard.forgotten, FORGOTTEN) | flag(named.is_some(), NAMED);
            bytes.extend_from_slice(&[shard.parts.len() as u8, flags]);
            for Part { position, branch, vouched, .. } in &shard.parts {
                let vouched = vouched.filter(|vouched| vouched.lineage.number() != 0);
                let (lineage, covered) =
                    vouched.map_or((0, 0), |vouched| (vouched.lineage.number(), position.lsn.offset()));
                bytes.extend_from_slice(&position.timeline.0.to_be_bytes());
                bytes.extend_from_slice(&branch.number().to_be_bytes());
                bytes.extend_from_slice(&Vouched::pin(vouched, position.lsn).offset().to_be_bytes());
                bytes.extend_from_slice(&lineage.to_be_bytes());
                bytes.extend_from_slice(&covered.to_be_bytes());
            }
            if let Some(Named { rest, pairs }) = named {
                bytes.extend_from_slice(&rest.offset().to_be_bytes());
                bytes.push(pairs.len() as u8);
                for Pair { key, lsn } in pairs {
                    bytes.extend_from_slice(&key.0.to_be_bytes());
                    bytes.extend_from_slice(&lsn.offset().to_be_bytes());
                }
            }
        }
        bytes
    }

    /// What these bytes say, or `None` where they are no record of this format. Nothing is believed about lengths.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if bytes.len() > BYTES_MAX || reader.array()? != MAGIC {
            return None;
        }
        let (flags, count) = (reader.u8()?, usize::from(reader.u8()?));
        if flags & !(OVERFLOWN | COLLAPSED | SUSPECT) != 0 || count > CLUSTERS_MAX {
            return None;
        }
        let (mut shards, mut eras) = (Vec::<Shard>::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            let (shard, era) = read_cluster(&mut reader)?;
            if shards.last().is_some_and(|last| last.system_identifier >= shard.system_identifier) {
                return None;
            }
            eras.push((shard.system_identifier, era));
            shards.push(shard);
        }
        let token = Token::from_shards(shards, flags & OVERFLOWN != 0, flags & COLLAPSED != 0);
        reader.is_empty().then_some(Self { token, eras, suspect: flags & SUSPECT != 0 })
    }

    /// What is stored once `incoming`, made from the bytes `from`, came to `stored` in this era.
    pub(crate) fn take_in(stored: Option<&[u8]>, incoming: &Self, from: &[u8], era: u64) -> Self {
        let mut record = match stored.map(|bytes| (bytes, Self::decode(bytes))) {
            None => Self::default(),
            Some((_, None)) => Self { suspect: true, ..Self::default() },
            Some((bytes, Some(record))) if bytes == from => Self { token: Token::default(), ..record },
            Some((_, Some(record))) => record,
        };
        record.token.merge(&incoming.token);
        record.suspect |= incoming.suspect;
        let present = |cluster: u64| if incoming.era(cluster) == era { era } else { record.era(cluster) };
        record.eras =
            record.token.shards().iter().map(|shard| shard.system_identifier).map(|own| (own, present(own))).collect();
        record
    }
}

/// Nothing is left of it: every write that it named is lost, and the user was told.
fn is_void(shard: &Shard) -> bool {
    shard.parts.is_empty() && !shard.forgotten
}

fn read_cluster(reader: &mut Reader<'_>) -> Option<(Shard, u64)> {
    let (system_identifier, era) = (reader.u64()?, reader.u64()?);
    let (count, flags) = (usize::from(reader.u8()?), reader.u8()?);
    if count > PARTS_MAX || flags & !(FORGOTTEN | NAMED) != 0 {
        return None;
    }
    let mut parts = Parts::with_capacity(count);
    for _ in 0..count {
        let (timeline, branch) = (Timeline(reader.u32()?), Branch::from_number(reader.u64()?));
        let pinned = Lsn::new(reader.u64()?);
        let (lsn, vouched) = match (reader.u64()?, Lsn::new(reader.u64()?)) {
            (0, Lsn::ZERO) => (pinned, None),
            (lineage, covered) if lineage != 0 && lineage <= Lineage::MAX && covered > pinned => {
                (covered, Some(Vouched { lineage: Lineage::from_number(lineage), pinned }))
            }
            _ => return None,
        };
        let part = Part { position: Position { timeline, lsn }, branch, vouched, named: None };
        if parts.last().is_some_and(|last| last.order() >= part.order()) {
            return None;
        }
        parts.push(part);
    }
    if flags & NAMED != 0 {
        let last = parts.last_mut()?;
        last.named = Some(read_named(reader, last.position.lsn)?);
    }
    let shard = Shard { system_identifier, parts, forgotten: flags & FORGOTTEN != 0 };
    (!is_void(&shard)).then_some((shard, era))
}

/// What is known by key of a position at `lsn`.
fn read_named(reader: &mut Reader<'_>, lsn: Lsn) -> Option<Named> {
    let (rest, count) = (Lsn::new(reader.u64()?), usize::from(reader.u8()?));
    if count == 0 || count > PAIRS_MAX {
        return None;
    }
    let mut pairs: Vec<Pair> = Vec::with_capacity(count);
    for _ in 0..count {
        let pair = Pair { key: Brief(reader.u32()?), lsn: Lsn::new(reader.u64()?) };
        let rises = pairs.last().is_none_or(|last| last.key < pair.key);
        if !rises || pair.lsn <= rest || pair.lsn > lsn {
            return None;
        }
        pairs.push(pair);
    }
    Some(Named { rest, pairs })
}
