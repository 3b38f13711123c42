//! After the faults: healed at 1000, a grace of 100, and 200 for each operation.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn alive() {
    super::all_good(GOOD);
}

#[test]
fn dead() {
    super::all_bad(Kind::Stuck, STUCK);
    super::all_bad(Kind::Starved, STARVED);
}

pub(super) const GOOD: Family = &[
    ("a read in time", "@1200; a r1 x none = 0; @2000; close"),
    ("a read in time to the microsecond", "@1190; a r1 x none; @1390; r1 0; @2000; close"),
    ("a hang during the faults", "@500; a r1 x none; @2000; close"),
    ("a hang begun during the grace", "@1090; a r1 x none; @2000; close"),
    ("a slow read begun before healing", "@990; a r1 x none; @1900; r1 0; @2000; close"),
    ("only errors during the faults", "@500; a r1 x none = fail; a r2 x none = fail; @2000; close"),
    ("errors, and then an answer", "@1200; a r1 x none = fail; a r2 x none = 0; @2000; close"),
    ("a stale answer is an answer", "b w1 x = ok 1; @1200; b r1 x session = 0 stale; @2000; close"),
    ("one read, told of a loss", "a w1 x = ok 1; replaced w1; @1200; a r1 x session = fail; a warned; @2000; close"),
    ("a read cut off by the end", "@1900; a r1 x none; @2000; close"),
    ("a write that ends unknown has ended", "@1200; a w1 x = info; @2000; close"),
    ("a write that is refused has ended", "@1200; a w1 x = fail; @2000; close"),
    ("a session that only writes needs no answer", "@1200; a w1 x = ok 1; @2000; close"),
];

pub(super) const STUCK: Family = &[
    ("a write that never ends", "@1200; a w1 x; @2000; close"),
    ("a write that ends late", "@1200; a w1 x; @1500; w1 ok 1; @2000; close"),
    ("a read late by a microsecond", "@1190; a r1 x none; @1401; r1 0; @2000; close"),
    (
        "a read that fails too late, among good ones",
        "@1200; a r1 x none = 0; a r2 x none; @1500; r2 fail; @2000; close",
    ),
    ("a read that never ends, among good ones", "@1200; a r1 x none; a r2 x none = 0; @2000; close"),
    ("nothing is recorded after the hang but the end", "@1200; a w1 x; @5000; close"),
];

pub(super) const STARVED: Family = &[
    ("one read, and it failed", "@1200; a r1 x none = fail; @2000; close"),
    (
        "many reads, and all failed",
        "@1200; a r1 x none = fail; a r2 y none = fail; a r3 x session = fail; @2000; close",
    ),
    ("answered before healing only", "a r0 x none = 0; @1200; a r1 x none = fail; @2000; close"),
    ("another session is answered", "@1200; a r1 x none = fail; b r2 x none = 0; @2000; close"),
    (
        "told of a loss, and never answered again",
        "a w1 x = ok 1; replaced w1; @1200; a r1 x session = fail; a warned; a r2 x session = fail; @2000; close",
    ),
    (
        "told of a loss before healing only",
        "a w1 x = ok 1; replaced w1; a warned; @1200; a r1 x session = fail; @2000; close",
    ),
    ("its writes work", "@1200; a w1 x = ok 1; a r1 x session = fail; @2000; close"),
];
