//! A primary: in the log, flushed, visible, acknowledged, in this order and one at a time.

use crate::support::*;
use highwater::memory::{Fate, Network, Step};
use highwater::source::{Ask, Committed, FaultKind, Lease as _, Outcome, Source as _, Transaction as _};
use highwater::{Origin, Timeline};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(start_paused = true)]
async fn a_commit_is_in_the_log_before_it_can_be_seen() {
    let (cluster, source) = cluster(0);
    cluster.set_commit_pace(10 * MS, 40 * MS);
    let writer = tokio::spawn({
        let source = source.clone();
        async move { write(&source, 2).await }
    });
    pass(30 * MS).await;
    let flushed = flushed(&source, 0).await;
    let (value, stamp) = on_primary(&source).await;
    let token = writer.await.unwrap();
    assert_eq!(value, Some(1), "flushed and not visible");
    assert_eq!(flushed, token.lsn, "the flush position covers a commit that nobody can see");
    assert!(stamp.tag < token.lsn, "so the tag stays below it");
    assert_eq!(on_primary(&source).await.0, Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_idle_primary_does_not_reach_its_newest_token_until_its_log_moves() {
    let (_cluster, source) = cluster(0);
    let token = write(&source, 2).await;
    pass(60_000 * MS).await;
    assert!(on_primary(&source).await.1.tag < token.lsn);
    source.nudge(0).await.unwrap();
    assert!(on_primary(&source).await.1.tag < token.lsn, "the position known for the connection is a few ms old");
    let read = read_with(&source, 0, Ask { floor: token.lsn, ..ask(true) }).await.unwrap();
    assert!(read.1.tag >= token.lsn, "asked for more, it is read anew");
}

#[tokio::test(start_paused = true)]
async fn a_token_at_a_page_end_stands_before_the_header() {
    let (cluster, source) = cluster(1);
    for fill in [true, false] {
        let tx = source.begin(0, soon()).await.unwrap();
        tx.conn().put("t", 1, 2_u64).await.unwrap();
        if fill {
            cluster.fill_page(0);
        }
        let token = done(tx.commit(soon()).await);
        if fill {
            assert_eq!(token.lsn.offset() % 8192, 0);
        }
        let (_, stamp) = on_standby(&source, 1).await;
        assert_eq!(stamp.tag, token.lsn, "replay stands exactly there, however long nothing is written");
        pass(10 * MS).await;
    }
    cluster.switch_segment(0);
    let token = cluster.token(0).unwrap();
    assert_eq!(token.lsn.offset() % (16 << 20), 0);
    assert_eq!(on_standby(&source, 1).await.1.tag, token.lsn);
}

#[tokio::test(start_paused = true)]
async fn an_asynchronous_commit_is_seen_before_it_is_flushed() {
    let (cluster, source) = cluster(1);
    let tx = source.begin(0, soon()).await.unwrap();
    tx.conn().put("t", 1, 2_u64).await.unwrap();
    tx.conn().commit_asynchronously();
    let token = done(tx.commit(soon()).await);
    assert_eq!(on_primary(&source).await.0, Some(2));
    assert!(flushed(&source, 0).await < token.lsn, "a token from the flush position would be too low");
    assert_eq!(shown(&cluster, 1), Some(1), "only flushed log is streamed");
    pass(250 * MS).await;
    assert_eq!(flushed(&source, 0).await, token.lsn);
    assert_eq!(shown(&cluster, 1), Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_open_transaction_lets_a_token_run_ahead_of_what_is_flushed() {
    let (cluster, source) = cluster(1);
    let tx = source.begin(0, soon()).await.unwrap();
    tx.conn().put("t", 2, 0_u64).await.unwrap();
    let token = write(&source, 2).await;
    assert_eq!(token.lsn, flushed(&source, 0).await, "a flush takes along what was written before");
    cluster.write_unflushed(0, 100);
    let token = cluster.token(0).unwrap();
    pass(10_000 * MS).await;
    assert!(on_standby(&source, 1).await.1.tag < token.lsn, "the background flush stops at the page start");
    drop(tx);
    cluster.flush(0);
    pass(10 * MS).await;
    assert!(on_standby(&source, 1).await.1.tag >= token.lsn);
}

#[tokio::test(start_paused = true)]
async fn quiesce_waits_for_what_was_in_progress_and_for_nothing_else() {
    let (cluster, source) = cluster(1);
    cluster.stall(0, true);
    let writer = tokio::spawn({
        let source = source.clone();
        async move { write(&source, 2).await }
    });
    pass(10 * MS).await;
    assert_eq!((shown(&cluster, 0), shown(&cluster, 1)), (Some(1), Some(2)), "the standby is ahead of the primary");
    let reader = tokio::spawn({
        let source = source.clone();
        async move { read_with(&source, 0, Ask { quiesce: true, ..ask(true) }).await.unwrap() }
    });
    pass(500 * MS).await;
    assert!(!reader.is_finished());
    let later = source.begin(0, soon()).await.unwrap();
    later.conn().put("t", 2, 0_u64).await.unwrap();
    cluster.stall(0, false);
    assert_eq!(reader.await.unwrap().0, Some(2), "a transaction that began later does not hold it up");
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upper_bound_covers_what_was_shown() {
    let (_cluster, source) = cluster(1);
    let token = write(&source, 2).await;
    let (_, stamp) = on_primary(&source).await;
    assert_eq!((stamp.upper, stamp.origin), (Some(token.lsn), Origin::Primary));
    let (_, stamp) = on_standby(&source, 1).await;
    assert_eq!((stamp.upper, stamp.origin), (Some(token.lsn), Origin::Standby));
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_cut_happened_and_one_cut_on_the_way_did_not() {
    for (cut, outcome, value) in [(Step::Acknowledge, Outcome::Committed, 2), (Step::Commit, Outcome::Aborted, 1)] {
        let (cluster, _) = cluster(0);
        let source = cluster.source_over(Network::new(move |_, step| match step == cut {
            true => Fate::Cut,
            false => Fate::Pass(MS),
        }));
        let xid = unknown(write_on(&source, 0, 2).await);
        assert_eq!(source.outcome(0, xid, Timeline(1)).await.unwrap(), outcome);
        assert_eq!(shown(&cluster, 0), Some(value));
        assert_eq!(source.outcome(0, xid + 100, Timeline(1)).await.unwrap(), Outcome::Forgotten);
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_its_token_is_unplaced() {
    let (cluster, _) = cluster(0);
    let source = cluster.source_over(Network::new(|_, step| match step {
        Step::Token => Fate::Cut,
        _ => Fate::Pass(MS),
    }));
    assert!(matches!(write_on(&source, 0, 2).await, Committed::Unplaced { xid: Some(_), .. }));
    assert_eq!(shown(&cluster, 0), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_commit_sent_to_a_frozen_primary_happens_after_the_client_has_given_up() {
    let (cluster, source) = cluster(0);
    let tx = source.begin(0, soon()).await.unwrap();
    tx.conn().put("t", 1, 2_u64).await.unwrap();
    cluster.freeze(0, true);
    unknown(tx.commit(tokio::time::Instant::now() + 100 * MS).await);
    assert_eq!(kind(source.probe(0).await), FaultKind::TimedOut);
    pass(5_000 * MS).await;
    assert_eq!(shown(&cluster, 0), Some(1));
    cluster.freeze(0, false);
    assert_eq!(shown(&cluster, 0), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_transaction_rolls_back_and_a_dropped_commit_does_not() {
    let (cluster, source) = cluster(0);
    let tx = source.begin(0, soon()).await.unwrap();
    tx.conn().put("t", 1, 2_u64).await.unwrap();
    let xid = tx.conn().xid().unwrap();
    assert_eq!(source.outcome(0, xid, Timeline(1)).await.unwrap(), Outcome::InProgress);
    drop(tx);
    assert_eq!(source.outcome(0, xid, Timeline(1)).await.unwrap(), Outcome::Aborted);
    assert_eq!(shown(&cluster, 0), Some(1));

    cluster.set_commit_pace(10 * MS, 10 * MS);
    let committing = tokio::time::timeout(5 * MS, write_on(&source, 0, 3));
    assert!(committing.await.is_err());
    pass(20 * MS).await;
    assert_eq!(shown(&cluster, 0), Some(3));
}

#[tokio::test(start_paused = true)]
async fn rows_are_locked_until_the_transaction_has_ended() {
    let (_cluster, source) = cluster(0);
    let first = source.begin(0, soon()).await.unwrap();
    let seen = first.conn().lock::<u64>("t", 1).await.unwrap().unwrap();
    let second = tokio::spawn({
        let source = source.clone();
        async move {
            let second = source.begin(0, soon()).await.unwrap();
            let seen = second.conn().lock::<u64>("t", 1).await.unwrap().unwrap();
            second.conn().put("t", 1, *seen + 10).await.unwrap();
            done(second.commit(soon()).await)
        }
    });
    pass(1_500 * MS).await;
    first.conn().put("t", 1, *seen + 1).await.unwrap();
    assert_eq!(*first.conn().get::<u64>("t", 1).await.unwrap().unwrap(), 2, "its own change");
    assert_eq!(on_primary(&source).await.0, Some(1), "and nobody else's");
    let one = done(first.commit(soon()).await);
    let other = second.await.unwrap();
    assert_eq!(on_primary(&source).await.0, Some(12), "the second went on from what the first left");
    assert!(one.lsn < other.lsn);
}

#[tokio::test(start_paused = true)]
async fn a_failed_statement_aborts_the_transaction() {
    let (cluster, source) = cluster(0);
    let tx = source.begin(0, soon()).await.unwrap();
    tx.conn().put("t", 2, 5_u64).await.unwrap();
    assert_eq!(kind(tx.conn().insert("t", 1, 2_u64).await), FaultKind::Statement);
    assert!(matches!(tx.commit(soon()).await, Committed::RolledBack(_)), "COMMIT answers ROLLBACK");
    assert!(cluster.peek::<u64>(0, "t", 2).is_none());

    let (one, two) = (source.begin(0, soon()).await.unwrap(), source.begin(0, soon()).await.unwrap());
    one.conn().put("t", 1, 2_u64).await.unwrap();
    two.conn().put("t", 2, 2_u64).await.unwrap();
    let (a, b) = tokio::join!(one.conn().put("t", 2, 3_u64), async {
        let locked = two.conn().put("t", 1, 3_u64).await;
        drop(two);
        locked
    });
    assert_ne!(a.is_ok(), b.is_ok(), "one of a deadlock fails: {a:?} {b:?}");
}

#[tokio::test(start_paused = true)]
async fn behind_a_pooler_the_token_may_come_from_another_server() {
    let (cluster, _) = cluster(1);
    cluster.set_pooled(0, true);
    let committed = Arc::new(AtomicBool::new(false));
    let source = cluster.source_over(Network::new({
        let (cluster, committed) = (cluster.clone(), committed.clone());
        move |_, step| {
            if step == Step::Acknowledge && !committed.swap(true, Ordering::Relaxed) {
                cluster.promote(1);
                cluster.reroute(0, 1);
            }
            Fate::Pass(MS)
        }
    }));
    match write_on(&source, 0, 2).await {
        Committed::Unplaced { fault, .. } => assert_eq!(fault.kind, FaultKind::Unproven),
        other => panic!("a token of timeline 2 for a write on timeline 1: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_role_or_cluster_is_refused() {
    let (cluster, source) = cluster(1);
    assert_eq!(kind(source.begin(1, soon()).await), FaultKind::WrongRole);
    assert_eq!(kind(source.lease(1, ask(true)).await), FaultKind::WrongRole);
    assert_eq!(kind(source.lease(0, ask(false)).await), FaultKind::WrongRole);
    assert_eq!(kind(source.nudge(1).await), FaultKind::WrongRole);
    cluster.set_system_identifier(1, 42);
    assert_eq!(probe(&source, 1).await.system_identifier, 42);
    assert_eq!(kind(cluster.source().lease(1, ask(false)).await.map(drop)), FaultKind::Foreign);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_an_answer_to_come_is_not_used_again() {
    let (cluster, _) = cluster(0);
    let connects = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let source = cluster.source_over(Network::new({
        let connects = connects.clone();
        move |_, step| {
            connects.fetch_add(usize::from(step == Step::Connect), Ordering::Relaxed);
            Fate::Pass(MS)
        }
    }));
    for _ in 0..3 {
        on_primary(&source).await;
    }
    assert_eq!(connects.load(Ordering::Relaxed), 1);
    let lease = source.lease(0, ask(true)).await.unwrap();
    assert!(tokio::time::timeout(MS / 2, lease.conn().get::<u64>("t", 1)).await.is_err());
    lease.finish().await.unwrap();
    on_primary(&source).await;
    assert_eq!(connects.load(Ordering::Relaxed), 2);
}
