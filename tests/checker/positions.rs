//! The position that an answer claims to reflect.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn true_claims() {
    super::all_good(GOOD);
}

#[test]
fn overstated() {
    super::all_bad(Kind::PositionOverstated, BAD);
}

pub(super) const GOOD: Family = &[
    ("below the write that is missing", "b w1 x = ok 1 p50; a r1 x none = 0 p49"),
    ("at the write that is there", "b w1 x = ok 1 p50; a r1 x none = 1:w1 p50"),
    ("newer than claimed", "b w1 x = ok 1 p50; a r1 x none = 1:w1 p10"),
    ("no claim", "b w1 x = ok 1 p50; a r1 x none = 0"),
    ("a write that was told no position", "b w1 x = ok 1; a r1 x none = 0 p90"),
    ("a write of another row", "b w1 y = ok 1 p50; a r1 x none = 0 p90"),
    ("stale by label, honest by position", "b w1 x = ok 1 p50; b r1 x session = 0 p20 stale"),
    ("positions of different eras are not compared", "b w1 x = ok 1 p50; replaced w1; a r1 x none = 0 p60"),
    ("nor across a replacement that ran meanwhile", "a r1 x none; b w1 x = ok 1 p50; replaced w1; r1 0 p60"),
];

pub(super) const BAD: Family = &[
    ("above the write that is missing", "b w1 x = ok 1 p50; a r1 x none = 0 p51"),
    ("exactly at it", "b w1 x = ok 1 p50; a r1 x none = 0 p50"),
    ("between two, the lower missing", "b w1 x = ok 1 p50; b w2 x = ok 2 p70; a r1 x none = 0 p60"),
    ("the version before", "b w1 x = ok 1 p50; b w2 x = ok 2 p70; a r1 x none = 1:w1 p70"),
    ("a label does not excuse a false position", "b w1 x = ok 1 p50; a r1 x session = 0 p50 stale"),
    ("told only after the read", "b w1 x; a r1 x none = 0 p90; w1 ok 1 p50"),
    ("in the new era", "b w1 x = ok 1 p50; replaced w1; b w2 x = ok 1 p50; a r1 x none = 0 p50"),
];
