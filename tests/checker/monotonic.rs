//! Monotonic reads.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn kept() {
    super::all_good(GOOD);
}

#[test]
fn broken() {
    super::all_bad(Kind::MonotonicReads, BAD);
}

pub(super) const GOOD: Family = &[
    ("the same again", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 x mono = 1:w1"),
    ("newer", "b w1 x = ok 1; b w2 x = ok 2; a r1 x mono = 1:w1; a r2 x mono = 2:w2"),
    ("absent and then there", "b w1 x = ok 1; a r1 x mono = 0; a r2 x mono = 1:w1"),
    ("absent twice", "b w1 x = ok 1; a r1 x mono = 0; a r2 x mono = 0"),
    ("going back without having asked", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 x none = 0"),
    ("going back with a label", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 x mono = 0 stale"),
    ("an error", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 x mono = fail"),
    ("another session's read", "b w1 x = ok 1; a r1 x mono = 1:w1; c r2 x mono = 0"),
    ("a read of another row", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 y mono = 0"),
    ("two at once, older answered last", "b w1 x = ok 1; a r1 x mono; a r2 x mono; r1 1:w1; r2 0"),
    ("begun before the other was answered", "b w1 x = ok 1; a r1 x mono; a r2 x mono = 1:w1; r1 0"),
    ("an own write is no read", "a w1 x = ok 1; a r1 x mono = 0"),
    ("a failed read shows nothing", "b w1 x = ok 1; a r1 x mono = fail; a r2 x mono = 0"),
    ("behind one that had not asked", "b w1 x = ok 1; a r1 x none = 1:w1; a r2 x mono = 0"),
    ("behind one that was labelled", "b w1 x = ok 1; a r1 x mono = 1:w1 stale; a r2 x mono = 0"),
    ("a token does not carry what was seen", "b w1 x = ok 1; a r1 x mono = 1:w1; a > c; c r2 x mono = 0"),
];

pub(super) const BAD: Family = &[
    ("there and then absent", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 x mono = 0"),
    ("one version back", "b w1 x = ok 1; b w2 x = ok 2; a r1 x mono = 2:w2; a r2 x mono = 1:w1"),
    ("back after forth", "b w1 x = ok 1; b w2 x = ok 2; a r1 x mono = 1:w1; a r2 x mono = 2:w2; a r3 x mono = 1:w1"),
    ("behind one that asked for something else", "b w1 x = ok 1; a r1 x session = 1:w1; a r2 x mono = 0"),
    ("one that had not asked between", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 x none = 1:w1; a r3 x mono = 0"),
    ("behind a write not told yet", "b w1 x; a r1 x mono = 1:w1; a r2 x mono = 0; w1 ok 1"),
    ("behind one of unknown outcome", "b w1 x = info; a r1 x mono = 1:w1; a r2 x mono = 0"),
    ("from rung to rung", "b w1 x = ok 1; a r1 x mono = 1:w1 replica; a r2 x mono = 0 shared"),
    ("from the primary to a replica", "b w1 x = ok 1; a r1 x mono = 1:w1 primary; a r2 x mono = 0 replica"),
    ("long after", "b w1 x = ok 1; a r1 x mono = 1:w1; @90000; a r2 x mono = 0"),
    ("another row between", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 y mono = 0; a r3 x mono = 0"),
    (
        "the own writes are kept, and less than seen",
        "a w1 x = ok 1; b w2 x = ok 2; a r1 x session,mono = 2:w2; a r2 x session,mono = 1:w1",
    ),
    ("a label between", "b w1 x = ok 1; a r1 x mono = 1:w1; a r2 x mono = 0 stale; a r3 x mono = 0"),
    (
        "the best of two read at once counts",
        "b w1 x = ok 1; b w2 x = ok 2; a r1 x mono; a r2 x mono; r2 2:w2; r1 1:w1; a r3 x mono = 1:w1",
    ),
    ("a report when nothing was lost", "b w1 x = ok 1; a r1 x mono = 1:w1; a warned; a r2 x mono = 0"),
];
