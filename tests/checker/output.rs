//! What the checker says and counts, and what it writes for others.

use highwater::Rung;
use highwater::testkit::history::{Ask, KeyId, Kind, Limits, Outcome, Recorder, Seen, SessionId, check};

use super::notation::history;

#[test]
fn a_violation_can_be_followed_by_a_human() {
    let verdict = check(&history("a w1 x = ok 1; a r1 x session,mono = 0 replica p7"), &Limits::default());
    let told: Vec<String> = verdict.violations().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["Read your writes: the answer misses a write that the session had been told of. Read #1 of key 120 by \
          session 97, asking for own writes and monotonic, begun at 20 us (event 2), at 20 us (event 3) answered by \
          the replica rung with version 0 made by nobody, reflecting position 7, not labelled. Against it stands: \
          Write #0 of key 120 by session 97, begun at 10 us (event 0), at 10 us (event 1) told committed as version 1. \
          That was owed to session 97 from event 1 on."]
    );
}

#[test]
fn all_are_counted_and_few_are_kept() {
    let text = "a w1 x = ok 1; a r1 x session = 0; a r2 x session = 0; a r3 x session = 0";
    let verdict = check(&history(text), &Limits { kept: 2, ..Limits::default() });
    assert_eq!((verdict.count(Kind::ReadYourWrites), verdict.violations().len()), (3, 2));
}

#[test]
fn what_is_no_violation_is_counted() {
    let text = "a w1 x = ok 1; b w2 y = info; b w3 y = fail; b r1 x none = 0; a r2 x session = 0 stale shared; \
                a r3 x session = 1:w1 stale; a r4 x session = fail; b r5 y none; replaced w1; a warned; b warned; \
                b r6 x none = 1:w1 replica";
    let verdict = check(&history(text), &Limits::default());
    assert!(verdict.is_ok(), "{verdict}");
    let tally = verdict.tally();
    assert_eq!((tally.reads, tally.reads_answered(), tally.reads_failed), (6, 4, 1));
    assert_eq!((tally.stale_labelled, tally.labels_needed, tally.behind, tally.ghosts), (2, 1, 2, 1));
    assert_eq!((tally.writes, tally.committed, tally.rolled_back, tally.unknown, tally.lost), (3, 1, 1, 1, 1));
    assert_eq!((tally.loss_reports, tally.needless_loss_reports), (2, 1));
    assert_eq!(tally.answered.get(&Rung::Replica), Some(&1));
}

#[test]
fn the_harness_can_ask_what_a_failover_lost() {
    let mut history = history("a w1 x = ok 1; a w2 x = ok 2; b w3 x; b r1 x none = 3:w3; a w4 y = ok 9");
    let lost = history.above(KeyId(u64::from(b'x')), 1);
    assert_eq!(lost.len(), 2);
    let replacement = history.replaced(100);
    for (write, version) in lost {
        history.lose(replacement, write, version);
    }
    assert!(history.above(KeyId(u64::from(b'x')), 1).is_empty());
    assert_eq!(check(&history, &Limits::default()).tally().lost, 2);
}

#[test]
fn edn_is_what_jepsen_writes() {
    let text =
        "a w1 x; b r1 x none = 0 stale; w1 ok 1; a w2 x = info; a r2 x session = 1:w1; a > b; a warned; replaced w1";
    let edn = history(text).to_edn();
    let expected = "\
{:index 0, :time 10000, :process 0, :type :invoke, :f :txn, :value [[:w 120 0]]}
{:index 1, :time 20000, :process 1, :type :invoke, :f :txn, :value [[:r 120 nil]]}
{:index 2, :time 20000, :process 1, :type :ok, :f :txn, :value [[:r 120 nil]], :version 0, :rung :local, :stale true}
{:index 3, :time 30000, :process 0, :type :ok, :f :txn, :value [[:w 120 0]], :version 1}
{:index 4, :time 40000, :process 0, :type :invoke, :f :txn, :value [[:w 120 2]]}
{:index 5, :time 40000, :process 0, :type :info, :f :txn, :value [[:w 120 2]]}
{:index 6, :time 50000, :process 2, :type :invoke, :f :txn, :value [[:r 120 nil]]}
{:index 7, :time 50000, :process 2, :type :ok, :f :txn, :value [[:r 120 0]], :version 1, :rung :local}
{:index 8, :time 60000, :process :nemesis, :type :info, :f :handed, :value [97 98]}
{:index 9, :time 70000, :process :nemesis, :type :info, :f :loss-reported, :value 97}
{:index 10, :time 80000, :process :nemesis, :type :info, :f :replaced, :value [0]}
";
    assert_eq!(edn, expected);
}

#[test]
fn many_threads_record_one_history() {
    let recorder = Recorder::new();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let recorder = recorder.clone();
            scope.spawn(move || {
                let (session, key) = (SessionId(worker), KeyId(worker));
                for turn in 1..=100 {
                    let write = recorder.record(|history| history.write(turn, session, key));
                    recorder.record(|history| history.finish(turn, write, Outcome::committed(turn)));
                    let read = recorder.record(|history| history.read(turn, session, key, Ask::latest()));
                    let seen = Seen::row(turn, write, Rung::Primary);
                    recorder.record(|history| history.finish(turn, read, Outcome::Saw(seen)));
                }
            });
        }
    });
    let history = recorder.history();
    let verdict = check(&history, &Limits::default());
    assert!(verdict.is_ok(), "{verdict}");
    assert_eq!((history.len(), verdict.tally().reads), (3_200, 800));
}
