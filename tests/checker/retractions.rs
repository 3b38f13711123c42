//! What was retracted at an instance is not shown by it any more.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn heeded() {
    super::all_good(GOOD);
}

#[test]
fn overlooked() {
    super::all_bad(Kind::Retraction, BAD);
}

pub(super) const GOOD: Family = &[
    ("what was retracted is there", "a w1 x = ok 1; retracted p w1; b r1 x at-p = 1:w1"),
    ("something newer is there", "a w1 x = ok 1; retracted p w1; a w2 x = ok 2; b r1 x at-p = 2:w2"),
    ("retracted at another instance", "a w1 x = ok 1; retracted q w1; b r1 x at-p = 0"),
    ("told and not retracted", "a w1 x = ok 1; b r1 x at-p = 0"),
    ("retracted while the read ran", "a w1 x = ok 1; b r1 x at-p; retracted p w1; r1 0"),
    ("another row", "a w1 x = ok 1; retracted p w1; b r1 y at-p = 0"),
    ("labelled", "a w1 x = ok 1; retracted p w1; b r1 x at-p = 0 stale"),
    ("nobody was asked by name", "a w1 x = ok 1; retracted p w1; b r1 x none = 0"),
    ("lost since", "a w1 x = ok 1; retracted p w1; replaced w1; b r1 x at-p = 0"),
    ("renewed since", "a w1 x = ok 1; retracted p w1; replaced; renewed p; b r1 x at-p = 0"),
    ("renewed while the read ran", "a w1 x = ok 1; retracted p w1; b r1 x at-p; replaced; renewed p; r1 0"),
];

pub(super) const BAD: Family = &[
    ("the row is absent", "a w1 x = ok 1; retracted p w1; b r1 x at-p = 0"),
    (
        "older than what was retracted last",
        "a w1 x = ok 1; a w2 x = ok 2; retracted p w1; retracted p w2; b r1 x at-p = 1:w1",
    ),
    (
        "retracted in the other order",
        "a w1 x = ok 1; a w2 x = ok 2; retracted p w2; retracted p w1; b r1 x at-p = 1:w1",
    ),
    ("retracted at both, asked of one", "a w1 x = ok 1; retracted q w1; retracted p w1; b r1 x at-p = 0"),
    (
        "history was replaced, and the instance does not know",
        "a w1 x = ok 1; retracted p w1; replaced; b r1 x at-p = 0",
    ),
    ("retracted after it was renewed", "renewed p; a w1 x = ok 1; retracted p w1; b r1 x at-p = 0"),
    ("another was renewed", "a w1 x = ok 1; retracted p w1; renewed q; b r1 x at-p = 0"),
    ("of unknown outcome, seen, and retracted", "a w1 x = info; b r1 x none = 1:w1; retracted p w1; b r2 x at-p = 0"),
];
