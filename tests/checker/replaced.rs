//! Failovers that replace history.

use highwater::testkit::history::Kind;

use super::Family;

#[test]
fn reported() {
    super::all_good(GOOD);
}

#[test]
fn papered_over() {
    super::all_bad(Kind::LossPaperedOver, BAD);
}

#[test]
fn a_loss_excuses_nothing_else() {
    super::all_bad(Kind::ReadYourWrites, &BAD_OTHERWISE[..10]);
    super::all_bad(Kind::MonotonicReads, &BAD_OTHERWISE[10..13]);
    super::all_bad(Kind::Latest, &BAD_OTHERWISE[13..15]);
    super::all_bad(Kind::BoundedStaleness, &BAD_OTHERWISE[15..]);
}

pub(super) const GOOD: Family = &[
    ("reported, then missing", "a w1 x = ok 1; replaced w1; a warned; a r1 x session = 0"),
    (
        "the read that fails is the report",
        "a w1 x = ok 1; replaced w1; a r1 x session = fail; a warned; a r2 x session = 0",
    ),
    ("reported while the read ran", "a w1 x = ok 1; replaced w1; a r1 x session; a warned; r1 0"),
    ("labelled, before the report", "a w1 x = ok 1; replaced w1; a r1 x session = 0 stale"),
    ("an error for ever", "a w1 x = ok 1; replaced w1; a r1 x session = fail; a r2 x session = fail"),
    ("the lost value itself still satisfies", "a w1 x = ok 1; replaced w1; a r1 x session = 1:w1"),
    ("nothing was asked", "a w1 x = ok 1; replaced w1; a r1 x none = 0"),
    ("nothing of this row was lost", "a w1 x = ok 1; a w2 y = ok 1; replaced w2; a r1 x session = 1:w1"),
    ("what survived is still there", "a w1 x = ok 1; a w2 x = ok 2; replaced w2; a warned; a r1 x session = 1:w1"),
    ("another's loss needs no report", "a w1 x = ok 1; replaced w1; b r1 x session = 0"),
    ("the latest no longer has what was lost", "a w1 x = ok 1; replaced w1; b r1 x latest = 0"),
    ("nor has a bounded read", "a w1 x = ok 1; @900; replaced w1; b r1 x within100 = 0"),
    ("the version is used again", "a w1 x = ok 1; replaced w1; a warned; b w2 x = ok 1; a r1 x session = 1:w2"),
    ("an own write after the loss", "a w1 x = ok 1; replaced w1; a warned; a w2 x = ok 1; a r1 x session = 1:w2"),
    (
        "twice replaced, twice reported",
        "a w1 x = ok 1; replaced w1; a warned; a w2 x = ok 1; replaced w2; a warned; a r1 x session = 0",
    ),
    (
        "twice replaced, reported once for both",
        "a w1 x = ok 1; a w2 x = ok 2; replaced w2; replaced w1; a warned; a r1 x session = 0",
    ),
    ("handed on and reported to both", "a w1 x = ok 1; a > b; replaced w1; a warned; b warned; b r1 x session = 0"),
    ("handed on after the report", "a w1 x = ok 1; replaced w1; a warned; a > b; b r1 x session = 0"),
    (
        "what was seen is lost, and reported",
        "b w1 x = ok 1; a r1 x mono = 1:w1; replaced w1; a warned; a r2 x mono = 0",
    ),
    (
        "what was seen is lost, its foundation is there",
        "b w1 x = ok 1; b w2 x = ok 2; a r1 x mono = 2:w2; replaced w2; a warned; a r2 x mono = 1:w1",
    ),
    (
        "a read before the failover that reflects it",
        "a w1 x = ok 1; a r1 x session = 1:w1; replaced w1; a warned; a r2 x session = 0",
    ),
    ("lost without anybody having been told", "a w1 x; replaced w1:1; a r1 x session = 0; w1 info"),
    ("the loss found only after it was told", "replaced w1; a w1 x = ok 1; a warned; a r1 x session = 0"),
    (
        "an older value of the old history still leads to what survived",
        "a w1 x = ok 1; b w2 x = ok 2; replaced w2; a r1 x session = 2:w2",
    ),
    ("reported twice", "a w1 x = ok 1; replaced w1; a warned; a warned; a r1 x session = 0"),
    (
        "a replacement that lost nothing",
        "a w1 x = ok 1; replaced; a r1 x session = 1:w1; a w2 x = ok 2; a r2 x session = 2:w2",
    ),
    ("a write across a replacement survives", "a w1 x; replaced; w1 ok 1; a r1 x session = 1:w1"),
    (
        "an unnamed one above the cut is lost as well",
        "b w1 x = ok 1; c w2 x; c r1 x none = 2:w2; replaced w1; c w3 x = ok 1; c r2 x session = 1:w3",
    ),
];

pub(super) const BAD: Family = &[
    ("silent", "a w1 x = ok 1; replaced w1; a r1 x session = 0"),
    ("silent, one version back", "a w1 x = ok 1; a w2 x = ok 2; replaced w2; a r1 x session = 1:w1"),
    ("behind a new write of the same version", "a w1 x = ok 1; replaced w1; b w2 x = ok 1; a r1 x session = 1:w2"),
    (
        "behind a new write of a higher version",
        "a w1 x = ok 1; replaced w1; b w2 x = ok 1; b w3 x = ok 2; a r1 x session = 2:w3",
    ),
    ("behind a new write of its own", "a w1 x = ok 1; replaced w1; a w2 x = ok 1; a r1 x session = 1:w2"),
    ("reported to another session", "a w1 x = ok 1; replaced w1; b warned; a r1 x session = 0"),
    ("reported before it was lost", "a w1 x = ok 1; a warned; replaced w1; a r1 x session = 0"),
    ("reported only after the answer", "a w1 x = ok 1; replaced w1; a r1 x session = 0; a warned; a r2 x session = 0"),
    ("reported before it was told", "a w1 x; replaced w1; a warned; w1 ok 1; a r1 x session = 0"),
    (
        "the first loss was reported, the second not",
        "a w1 x = ok 1; a w2 x = ok 2; replaced w2; a warned; replaced w1; a r1 x session = 0",
    ),
    (
        "the second of two, after a new write",
        "a w1 x = ok 1; replaced w1; a warned; a w2 x = ok 1; replaced w2; a r1 x session = 0",
    ),
    ("handed on before the loss", "a w1 x = ok 1; a > b; replaced w1; a warned; b r1 x session = 0"),
    ("handed on after the loss", "a w1 x = ok 1; replaced w1; a > b; b r1 x session = 0"),
    (
        "handed on again after the report to the taker",
        "a w1 x = ok 1; a > b; replaced w1; b warned; a > b; b r1 x session = 0",
    ),
    ("a read that asks for the latest", "a w1 x = ok 1; replaced w1; a r1 x latest = 0"),
    ("a read that ran across the failover", "a w1 x = ok 1; a r1 x session; replaced w1; r1 0"),
    ("a monotonic read of what was seen and lost", "b w1 x = ok 1; a r1 x mono = 1:w1; replaced w1; a r2 x mono = 0"),
    (
        "a monotonic read behind the version used again",
        "b w1 x = ok 1; a r1 x mono = 1:w1; replaced w1; b w2 x = ok 1; a r2 x mono = 1:w2",
    ),
    ("a label on another read", "a w1 x = ok 1; replaced w1; a r1 x session = 0 stale; a r2 x session = 0"),
    ("an error before it", "a w1 x = ok 1; replaced w1; a r1 x session = fail; a r2 x session = 0"),
    ("an unfenced old primary went on", "replaced w1; a w1 x = ok 1; a r1 x session = 0"),
    ("named as lost although told while it was replaced", "a w1 x; replaced w1; w1 ok 1; a r1 x session = 0"),
    ("an unnamed one above the cut", "b w1 x = ok 1; a w2 x = ok 2; replaced w1; a r1 x session = 0"),
];

/// Read your writes, then monotonic reads, latest, bounded staleness.
pub(super) const BAD_OTHERWISE: Family = &[
    ("stale before the failover", "a w1 x = ok 1; a r1 x session = 0; replaced w1"),
    ("what survived is missing", "a w1 x = ok 1; a w2 x = ok 2; replaced w2; a warned; a r1 x session = 0"),
    ("the new write is missing", "a w1 x = ok 1; replaced w1; a warned; a w2 x = ok 1; a r1 x session = 0"),
    (
        "a lost value stands for the new one of its version",
        "b w1 x = ok 1; replaced w1; a w2 x = ok 1; a r1 x session = 1:w1",
    ),
    (
        "a higher lost value stands for the new one",
        "b w1 x = ok 1; b w2 x = ok 2; replaced w1 w2; a w3 x = ok 1; a r1 x session = 2:w2",
    ),
    (
        "the value of a loss before the last",
        "b w1 x = ok 1; replaced w1; b w2 x = ok 1; replaced w2; a w3 x = ok 1; a r1 x session = 1:w1",
    ),
    (
        "an unnamed lost value stands for the new one",
        "b w1 x = ok 1; c w2 x; c r1 x none = 2:w2; replaced w1; a w3 x = ok 1; a r2 x session = 2:w2",
    ),
    (
        "a lost value above one that nobody was told of",
        "b w1 x = info; b w2 x = info; replaced w1:1 w2:2; a w3 x = ok 1; a r1 x session = 2:w2",
    ),
    ("another row's survivor is missing", "a w1 x = ok 1; a w2 y = ok 1; replaced w2; a warned; a r1 x session = 0"),
    ("a replacement that lost nothing", "a w1 x = ok 1; replaced; a warned; a r1 x session = 0"),
    (
        "what was seen and survived is missing",
        "b w1 x = ok 1; b w2 x = ok 2; a r1 x mono = 1:w1; replaced w2; a warned; a r2 x mono = 0",
    ),
    (
        "what the lost value was built on is missing",
        "b w1 x = ok 1; b w2 x = ok 2; a r1 x mono = 2:w2; replaced w2; a warned; a r2 x mono = 0",
    ),
    ("going back to a lost value", "b w1 x = ok 1; replaced w1; b w2 x = ok 1; a r1 x mono = 1:w2; a r2 x mono = 1:w1"),
    ("the latest misses a survivor", "b w1 x = ok 1; b w2 x = ok 2; replaced w2; a r1 x latest = 0"),
    ("the latest is a lost value", "b w1 x = ok 1; replaced w1; b w2 x = ok 1; a r1 x latest = 1:w1"),
    ("a bounded read misses a survivor", "b w1 x = ok 1; b w2 x = ok 2; replaced w2; @900; a r1 x within100 = 0"),
    ("a bounded read of a lost value", "b w1 x = ok 1; replaced w1; b w2 x = ok 1; @900; a r1 x within100 = 1:w1"),
];
