//! Histories that contradict themselves.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn in_order() {
    super::all_good(GOOD);
}

#[test]
fn out_of_order() {
    super::all_bad(Kind::ForkedHistory, FORKED);
    super::all_bad(Kind::Malformed, MALFORMED);
}

pub(super) const GOOD: Family = &[
    ("two writers at once, told in the other order", "a w1 x; b w2 x; w2 ok 1; w1 ok 2"),
    ("a version left out by one of unknown outcome", "a w1 x = ok 1; b w2 x = info; a w3 x = ok 3"),
    ("the same version in two rows", "a w1 x = ok 1; a w2 y = ok 1"),
    ("a version used again after a loss", "a w1 x = ok 1; replaced w1; b w2 x = ok 1"),
    ("a version lower than one lost", "a w1 x = ok 1; a w2 x = ok 2; replaced w1 w2; b w3 x = ok 1"),
    ("one of unknown outcome was lost, as its twin shows", "a w1 x = info 1; replaced; b w2 x = ok 1"),
    (
        "one that never ended was lost, though a replica showed it",
        "a w1 x; c r1 x none = 1:w1; replaced; b w2 x = ok 1",
    ),
    ("the old primary went on committing", "replaced w1; a w1 x = ok 1; b w2 x = ok 1"),
];

pub(super) const FORKED: Family = &[
    ("a version made twice", "a w1 x = ok 1; b w2 x = ok 1"),
    ("a version made twice at once", "a w1 x; b w2 x; w1 ok 1; w2 ok 1"),
    ("a version made twice by one session", "a w1 x = ok 1; a w2 x = ok 1"),
    ("versions going down", "a w1 x = ok 2; b w2 x = ok 1"),
    ("a loss that nobody named", "a w1 x = ok 1; replaced; b w2 x = ok 1"),
    ("a loss of another row", "a w1 x = ok 1; a w2 y = ok 1; replaced w2; b w3 x = ok 1"),
    ("one of unknown outcome without a replacement", "a w1 x = info 1; b w2 x = ok 1"),
    ("a second time after the loss", "a w1 x = ok 1; replaced w1; b w2 x = ok 1; c w3 x = ok 1"),
];

pub(super) const MALFORMED: Family = &[
    ("ended twice", "a w1 x = ok 1; w1 ok 1"),
    ("ended and never begun", "w9 ok 1"),
    ("a read that commits", "a r1 x none; r1 ok 1"),
    ("a write that sees", "a w1 x; w1 0"),
    ("a write told the version of nothing", "a w1 x = ok 0"),
    ("a loss of a write rolled back", "a w1 x = fail; replaced w1:1"),
    ("a loss of another version than was told", "a w1 x = ok 1; replaced w1:2"),
    ("a loss of a read", "a r1 x none = 0; replaced r1:1"),
];
