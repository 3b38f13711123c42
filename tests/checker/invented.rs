//! No invented values.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn real() {
    super::all_good(GOOD);
}

#[test]
fn invented() {
    super::all_bad(Kind::NeverWritten, NEVER_WRITTEN);
    super::all_bad(Kind::RolledBack, ROLLED_BACK);
    super::all_bad(Kind::WrongRow, WRONG_ROW);
    super::all_bad(Kind::WrongVersion, WRONG_VERSION);
    super::all_bad(Kind::TooEarly, TOO_EARLY);
}

pub(super) const GOOD: Family = &[
    ("any version, where nothing is asked", "b w1 x = ok 1; b w2 x = ok 2; b w3 x = ok 3; a r1 x none = 2:w2"),
    ("a write that begins while the read runs", "a r1 x none; b w1 x; r1 1:w1; w1 ok 1"),
    ("a write that never ends", "b w1 x; a r1 x none = 1:w1"),
    ("one of unknown outcome with the version it had", "b w1 x = info 1; a r1 x none = 1:w1"),
    ("one of unknown outcome, twice the same", "b w1 x = info; a r1 x none = 1:w1; c r2 x none = 1:w1"),
    ("seen before it is told", "b w1 x; a r1 x none = 1:w1; w1 ok 1; a r2 x none = 1:w1"),
    ("two rows, each its own", "b w1 x = ok 1; b w2 y = ok 1; a r1 x none = 1:w1; a r2 y none = 1:w2"),
    ("an old value, long after", "b w1 x = ok 1; b w2 x = ok 2; @90000; a r1 x none = 1:w1"),
    ("the first known version is high", "b w1 x = ok 41; a r1 x none = 41:w1"),
];

pub(super) const NEVER_WRITTEN: Family = &[
    ("a write that nobody began", "a r1 x none = 1:w9"),
    ("a write that nobody began, next to a real one", "b w1 x = ok 1; a r1 x none = 2:w9"),
    ("a version made by nobody", "a r1 x none = 3"),
    ("a known version made by nobody", "b w1 x = ok 1; a r1 x none = 1"),
    ("made by a read", "b w1 x = ok 1; a r1 x none = 1:w1; a r2 x none = 1:r1"),
    ("made by itself", "a r1 x none = 1:r1"),
    ("a label excuses no invention", "a r1 x none = 1:w9 stale"),
    ("nor does having asked for the latest", "b w1 x = ok 1; a r1 x latest = 2:w9"),
];

pub(super) const ROLLED_BACK: Family = &[
    ("after the end", "b w1 x = fail; a r1 x none = 1:w1"),
    ("before the end, seen dirty", "b w1 x; a r1 x none = 1:w1; w1 fail"),
    ("by its own session", "b w1 x = fail; b r1 x session = 1:w1"),
    ("above a committed one", "b w1 x = ok 1; b w2 x = fail; a r1 x session = 2:w2"),
    ("its version was made by another", "b w1 x = fail; b w2 x = ok 1; a r1 x none = 1:w1"),
    ("labelled", "b w1 x = fail; a r1 x none = 1:w1 stale"),
];

pub(super) const WRONG_ROW: Family = &[
    ("another row's value", "b w1 y = ok 1; a r1 x none = 1:w1"),
    ("while this one has the same version", "b w1 x = ok 1; b w2 y = ok 1; a r1 x session = 1:w2"),
    ("of a write under way", "b w1 y; a r1 x none = 1:w1; w1 ok 1"),
    ("that would have kept the promise", "a w1 x = ok 1; b w2 y = ok 5; a r1 x session = 5:w2"),
    ("of unknown outcome", "b w1 y = info; a r1 x none = 1:w1"),
];

pub(super) const WRONG_VERSION: Family = &[
    ("higher than made", "b w1 x = ok 1; a r1 x none = 2:w1"),
    ("lower than made", "b w1 x = ok 2; a r1 x none = 1:w1"),
    ("absent, and yet made", "b w1 x = ok 1; a r1 x none = 0:w1"),
    ("one of unknown outcome, not what it had", "b w1 x = info 3; a r1 x none = 4:w1"),
    ("one of unknown outcome, twice differently", "b w1 x = info; a r1 x none = 1:w1; a r2 x none = 2:w1"),
    ("before it was told otherwise", "b w1 x; a r1 x none = 2:w1; w1 ok 1"),
    ("half of one write and half of another", "b w1 x = ok 1; b w2 x = ok 2; a r1 x session = 2:w1"),
];

pub(super) const TOO_EARLY: Family = &[
    ("answered before the write began", "a r1 x none = 1:w1; b w1 x = ok 1"),
    ("answered before the own write began", "a r1 x session = 1:w1; a w1 x = ok 1"),
    ("before one of unknown outcome", "a r1 x none = 1:w1; b w1 x = info"),
    ("before one that never ends", "a r1 x none = 1:w1; b w1 x"),
    ("at the same microsecond, but before", "a r1 x none = 1:w1; @10; b w1 x = ok 1"),
];
