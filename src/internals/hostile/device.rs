//! What a user's devices hold, as Redis gives it back, and what an instance brings to it.
//!
//! The input is two records, what is stored and what comes; the first is as long as the first byte says of 256.

use super::{Outcome, Target};
use crate::devices::record::{BYTES_MAX, Record};
use crate::token::Shard;

pub(super) const TARGET: Target = Target {
    name: "device",
    read: |input| {
        let (_, incoming) = halves(input);
        Box::new(move || drop(Record::decode(incoming)))
    },
    check,
    bytes_max: BYTES_MAX,
    outcomes: &["no record", "the first", "taken in", "stored was none"],
};

const ERA: u64 = 7;

fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    let (share, rest) = input.split_first().unwrap_or((&0, &[]));
    rest.split_at(rest.len() * usize::from(*share) / 256)
}

fn check(input: &[u8]) -> Outcome {
    let (stored, bytes) = halves(input);
    let Some(incoming) = Record::decode(bytes) else { return "no record" };
    assert_eq!(incoming.encode(), bytes, "a record has one form");
    let known = Record::decode(stored);
    let stored = Some(stored).filter(|stored| !stored.is_empty());
    let after = Record::take_in(stored, &incoming, b"", ERA);
    let written = after.encode();
    assert!(written.len() <= BYTES_MAX, "{} bytes", written.len());
    assert_eq!(Record::decode(&written).map(|read| read.encode()).as_ref(), Some(&written));
    assert_eq!(Record::take_in(Some(&written), &incoming, b"", ERA).encode(), written, "told twice");
    assert_eq!(
        after.suspect,
        incoming.suspect || known.as_ref().map_or_else(|| stored.is_some(), |known| known.suspect)
    );
    for record in [Some(&incoming), known.as_ref()].into_iter().flatten() {
        record.token.shards().iter().for_each(|shard| assert!(is_covered(shard, &after), "{shard:?} by {after:?}"));
    }
    for shard in after.token.shards() {
        let own = shard.system_identifier;
        let before = known.as_ref().map_or(0, |known| known.era(own));
        assert!(
            [before, ERA].contains(&after.era(own))
                && (after.era(own) != ERA || incoming.era(own) == ERA || before == ERA)
        );
    }
    match (stored, known) {
        (None, _) => "the first",
        (Some(_), Some(_)) => "taken in",
        (Some(_), None) => "stored was none",
    }
}

/// Whether nothing that this says is forgotten without a word. Of too much the oldest is left out, which is said.
fn is_covered(shard: &Shard, by: &Record) -> bool {
    let Some(own) = by.token.shards().iter().find(|own| own.system_identifier == shard.system_identifier) else {
        return by.token.is_overflown();
    };
    shard.parts.iter().all(|part| {
        let higher = |own: &&crate::token::Part| own.order() == part.order() && own.position.lsn >= part.position.lsn;
        own.forgotten || own.parts.iter().find(higher).is_some_and(|own| own.pin() >= part.pin())
    })
}
