//! Reads that ask for the latest.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn kept() {
    super::all_good(GOOD);
}

#[test]
fn broken() {
    super::all_bad(Kind::Latest, BAD);
}

pub(super) const GOOD: Family = &[
    ("nothing was written", "a r1 x latest = 0"),
    ("another's write", "b w1 x = ok 1; a r1 x latest = 1:w1"),
    ("the own write", "a w1 x = ok 1; a r1 x latest = 1:w1"),
    ("newer than told", "b w1 x = ok 1; c w2 x; a r1 x latest = 2:w2; w2 ok 2"),
    ("missing one told while the read ran", "b w1 x; a r1 x latest; w1 ok 1; r1 0"),
    ("missing one still under way", "b w1 x; a r1 x latest = 0; w1 ok 1"),
    ("missing one of unknown outcome", "b w1 x = info; a r1 x latest = 0"),
    (
        "missing one that another read had seen, but nobody was told",
        "b w1 x = info; c r1 x none = 1:w1; a r2 x latest = 0",
    ),
    ("missing one rolled back", "b w1 x = fail; a r1 x latest = 0"),
    ("labelled", "b w1 x = ok 1; a r1 x latest = 0 stale"),
    ("an error", "b w1 x = ok 1; a r1 x latest = fail"),
    ("another row", "b w1 y = ok 1; a r1 x latest = 0"),
];

pub(super) const BAD: Family = &[
    ("another's write", "b w1 x = ok 1; a r1 x latest = 0"),
    ("the own write", "a w1 x = ok 1; a r1 x latest = 0"),
    ("the version before", "b w1 x = ok 1; b w2 x = ok 2; a r1 x latest = 1:w1"),
    ("of two writers, the one told last is older", "b w1 x; c w2 x; w2 ok 2; w1 ok 1; a r1 x latest = 1:w1"),
    ("told just before", "b w1 x; w1 ok 1; a r1 x latest; r1 0"),
    ("even from the primary", "b w1 x = ok 1; a r1 x latest = 0 primary"),
    ("the own one, not the latest", "a w1 x = ok 1; b w2 x = ok 2; a r1 x session,latest = 1:w1"),
    ("after a good one", "b w1 x = ok 1; a r1 x latest = 1:w1; a r2 x latest = 0"),
    ("while a newer one runs", "b w1 x = ok 1; c w2 x; a r1 x latest = 0; w2 ok 2"),
];
