//! Read your writes.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn kept() {
    super::all_good(GOOD);
}

#[test]
fn broken() {
    super::all_bad(Kind::ReadYourWrites, BAD);
}

pub(super) const GOOD: Family = &[
    ("nothing happened", ""),
    ("an absent row before any write", "a r1 x session = 0"),
    ("the own write", "a w1 x = ok 1; a r1 x session = 1:w1"),
    ("a later write of somebody else", "a w1 x = ok 1; b w2 x = ok 2; a r1 x session = 2:w2"),
    ("a later write not yet told", "a w1 x = ok 1; b w2 x; a r1 x session = 2:w2; w2 ok 2"),
    ("another's write may be missing", "a w1 x = ok 1; b r1 x session = 0"),
    ("a write of another row asks nothing of this one", "a w1 x = ok 1; a r1 y session = 0"),
    ("a write still under way may be missing", "a w1 x; a r1 x session = 0; w1 ok 1"),
    ("a write still under way may be seen", "a w1 x; a r1 x session = 1:w1; w1 ok 1"),
    ("a write told while the read ran may be missing", "a w1 x; a r1 x session; w1 ok 1; r1 0"),
    ("a write told while the read ran may be seen", "a w1 x; a r1 x session; w1 ok 1; r1 1:w1"),
    ("a write begun while the read ran may be missing", "a r1 x session; a w1 x = ok 1; r1 0"),
    ("a write begun while the read ran may be seen", "a r1 x session; a w1 x = ok 1; r1 1:w1"),
    ("a rolled back write is missing", "a w1 x = ok 1; a w2 x = fail; a r1 x session = 1:w1"),
    ("a write of unknown outcome is missing", "a w1 x = info; a r1 x session = 0"),
    ("a write of unknown outcome is seen", "a w1 x = info; a r1 x session = 1:w1"),
    ("one of unknown outcome that had a version is missing", "a w1 x = info 1; a r1 x session = 0"),
    ("one of unknown outcome appears late", "a w1 x = info; a r1 x session = 0; a r2 x session = 1:w1"),
    ("a write that never ended is missing", "a w1 x; a r1 x session = 0; a r2 x session = 0"),
    ("an answer labelled stale", "a w1 x = ok 1; a r1 x session = 0 stale"),
    ("an answer labelled stale by a replica", "a w1 x = ok 1; a w2 x = ok 2; a r1 x session = 1:w1 stale replica"),
    ("an error", "a w1 x = ok 1; a r1 x session = fail"),
    ("a read that asks for nothing", "a w1 x = ok 1; a r1 x none = 0"),
    ("a read that never ended", "a w1 x = ok 1; a r1 x session"),
    (
        "a read begun before the write was told ends after",
        "a w1 x; a r1 x session; w1 ok 1; a r2 x session = 1:w1; r1 0",
    ),
    ("the newest of many own writes", "a w1 x = ok 1; a w2 x = ok 2; a w3 x = ok 3; a r1 x session = 3:w3"),
    ("told out of version order", "a w1 x; a w2 x; w2 ok 2; w1 ok 1; a r1 x session = 2:w2"),
    ("a token handed on", "a w1 x = ok 1; a > b; b r1 x session = 1:w1"),
    ("a token handed on before the write was told", "a w1 x; a > b; w1 ok 1; b r1 x session = 0"),
    ("a read begun before the token came", "a w1 x = ok 1; b r1 x session; a > b; r1 0"),
    ("a token goes one way only", "b w1 x = ok 1; a > b; a r1 x session = 0"),
    ("a token with nothing in it", "a > b; b r1 x session = 0"),
    ("a token handed to its own session", "a w1 x = ok 1; a > a; a r1 x session = 1:w1"),
    ("a lower token does not lower", "a w1 x = ok 1; b w2 x = ok 2; a > b; b r1 x session = 2:w2"),
    ("what the giver saw is not in its token", "a w1 x = ok 1; b r1 x none = 1:w1; b > c; c r2 x session = 0"),
];

pub(super) const BAD: Family = &[
    ("the row is absent", "a w1 x = ok 1; a r1 x session = 0"),
    ("the version before", "a w1 x = ok 1; a w2 x = ok 2; a r1 x session = 1:w1"),
    ("a version long before", "a w1 x = ok 1; a w2 x = ok 2; a w3 x = ok 3; a w4 x = ok 4; a r1 x session = 1:w1"),
    ("another's older version", "b w1 x = ok 1; a w2 x = ok 2; a r1 x session = 1:w1"),
    ("from the local rung, after a good read", "a w1 x = ok 1; a r1 x session = 1:w1; a r2 x session = 0 local"),
    ("from the shared rung", "a w1 x = ok 1; a r1 x session = 0 shared"),
    ("from a replica", "a w1 x = ok 1; a r1 x session = 0 replica"),
    ("even from the primary", "a w1 x = ok 1; a r1 x session = 0 primary"),
    ("long after", "a w1 x = ok 1; @90000; a r1 x session = 0"),
    ("at the same microsecond, but after", "a w1 x = ok 1; @10; a r1 x session = 0"),
    ("while another's write runs", "a w1 x = ok 1; b w2 x; a r1 x session = 0; w2 ok 2"),
    ("while an own write runs", "a w1 x = ok 1; a w2 x; a r1 x session = 0; w2 ok 2"),
    ("behind a rolled back write", "a w1 x = ok 1; a w2 x = fail; a r1 x session = 0"),
    ("behind one of unknown outcome", "a w1 x = ok 1; a w2 x = info; a r1 x session = 0"),
    ("an older one of unknown outcome", "b w1 x = info; a w2 x = ok 2; a r1 x session = 1:w1"),
    ("one row right and one wrong", "a w1 x = ok 1; a w2 y = ok 1; a r1 x session = 1:w1; a r2 y session = 0"),
    ("told out of version order", "a w1 x; a w2 x; w2 ok 2; w1 ok 1; a r1 x session = 1:w1"),
    ("two reads at once, one wrong", "a w1 x = ok 1; a r1 x session; a r2 x session; r2 1:w1; r1 0"),
    ("a label on another read excuses nothing", "a w1 x = ok 1; a r1 x session = 0 stale; a r2 x session = 0"),
    ("an error before excuses nothing", "a w1 x = ok 1; a r1 x session = fail; a r2 x session = 0"),
    ("handed on", "a w1 x = ok 1; a > b; b r1 x session = 0"),
    ("handed on twice", "a w1 x = ok 1; a > b; b > c; c r1 x session = 0"),
    ("handed on to one with an own write", "b w1 x = ok 1; a w2 x = ok 2; a > b; b r1 x session = 1:w1"),
    ("the giver still owes it to itself", "a w1 x = ok 1; a > b; a r1 x session = 0"),
    ("a lower token does not lower", "a w1 x = ok 1; b w2 x = ok 2; a > b; b r1 x session = 1:w1"),
    ("handed on again after more", "a w1 x = ok 1; a > b; a w2 x = ok 2; a > b; b r1 x session = 1:w1"),
    ("a report of a loss when nothing was lost", "a w1 x = ok 1; a warned; a r1 x session = 0"),
    ("with a bound that is kept", "a w1 x = ok 1; a r1 x session,within500 = 0"),
];
