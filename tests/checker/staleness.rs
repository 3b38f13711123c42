//! Bounded staleness.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn kept() {
    super::all_good(GOOD);
}

#[test]
fn broken() {
    super::all_bad(Kind::BoundedStaleness, BAD);
}

pub(super) const GOOD: Family = &[
    ("nothing was written", "a r1 x within0 = 0"),
    ("fresh enough because it is the newest", "b w1 x = ok 1; @900; a r1 x within100 = 1:w1"),
    ("missing one younger than the bound", "b w1 x = ok 1; a r1 x within100 = 0"),
    ("missing one exactly as old as the bound", "b w1 x = ok 1; @100; a r1 x within100 = 0"),
    ("the bound reaches beyond the beginning", "b w1 x = ok 1; @200; a r1 x within5000 = 0"),
    ("missing one that began long ago and was told late", "b w1 x; @900; w1 ok 1; a r1 x within100 = 0"),
    ("missing one still under way", "b w1 x; @900; a r1 x within100 = 0; w1 ok 1"),
    ("missing one of unknown outcome", "b w1 x = info; @900; a r1 x within100 = 0"),
    ("missing one that was rolled back", "b w1 x = fail; @900; a r1 x within100 = 0"),
    ("labelled", "b w1 x = ok 1; @900; a r1 x within100 = 0 stale"),
    ("an error", "b w1 x = ok 1; @900; a r1 x within100 = fail"),
    ("the second newest, while the newest is young", "b w1 x = ok 1; @900; b w2 x = ok 2; a r1 x within100 = 1:w1"),
    ("counted from the beginning of the read", "b w1 x = ok 1; a r1 x within100; @900; r1 0"),
    ("old writes of other rows", "b w1 y = ok 1; @900; a r1 x within100 = 0"),
    ("a young own write, where only the bound is asked", "a w1 x = ok 1; a r1 x within100 = 0"),
    ("told out of version order", "b w1 x; b w2 x; w2 ok 2; w1 ok 1; @900; a r1 x within100 = 2:w2"),
];

pub(super) const BAD: Family = &[
    ("the row is absent", "b w1 x = ok 1; @900; a r1 x within100 = 0"),
    ("by one microsecond", "b w1 x = ok 1; @101; a r1 x within90 = 0"),
    ("a bound of nothing at all", "b w1 x = ok 1; @11; a r1 x within0 = 0"),
    (
        "two versions back, one of them old",
        "b w1 x = ok 1; b w2 x = ok 2; @900; b w3 x = ok 3; a r1 x within100 = 1:w1",
    ),
    ("the own write", "a w1 x = ok 1; @900; a r1 x within100 = 0"),
    ("from the local rung", "b w1 x = ok 1; b w2 x = ok 2; @900; a r1 x within100 = 1:w1 local"),
    ("from the shared rung", "b w1 x = ok 1; b w2 x = ok 2; @900; a r1 x within100 = 1:w1 shared"),
    ("from a replica", "b w1 x = ok 1; b w2 x = ok 2; @900; a r1 x within100 = 1:w1 replica"),
    ("a newer write is under way", "b w1 x = ok 1; @900; b w2 x; a r1 x within100 = 0; w2 ok 2"),
    ("a longer bound, passed as well", "b w1 x = ok 1; @9000; a r1 x within5000 = 0"),
    ("one of many rows", "b w1 x = ok 1; b w2 y = ok 1; @900; a r1 x within100 = 1:w1; a r2 y within100 = 0"),
    ("told out of version order", "b w1 x; b w2 x; w2 ok 2; w1 ok 1; @900; a r1 x within100 = 1:w1"),
    ("own writes are kept", "a w1 x = ok 1; b w2 x = ok 2; @900; a r1 x session,within100 = 1:w1"),
    ("a label on another read", "b w1 x = ok 1; @900; a r1 x within100 = 0 stale; a r2 x within100 = 0"),
];
