//! A crash of the primary takes the unflushed end of the log with it, and its positions are used again.

use crate::support::*;
use highwater::Timeline;
use highwater::memory::{Fate, Network, Step};
use highwater::source::{FaultKind, Outcome, Role, Source as _, Transaction as _};

#[tokio::test(start_paused = true)]
async fn positions_beyond_the_flushed_one_are_used_again() {
    let (cluster, source) = cluster(0);
    cluster.write_unflushed(0, 4_000);
    let (_, fill) = on_primary(&source).await;
    let insert = cluster.token(0).unwrap();
    cluster.crash(0);
    assert!(cluster.token(0).unwrap().lsn < insert.lsn);
    let token = write(&source, 2).await;
    assert_eq!(token.timeline, insert.timeline);
    assert!(insert.lsn > token.lsn, "a tag from the insert position would cover a write that it has never seen");
    assert!(fill.tag < token.lsn, "one from the flush position does not");
}

#[tokio::test(start_paused = true)]
async fn an_asynchronous_commit_is_undone() {
    let (cluster, source) = cluster(1);
    let tx = source.begin(0, soon()).await.unwrap();
    tx.conn().put("t", 1, 2_u64).await.unwrap();
    tx.conn().put("t", 2, 2_u64).await.unwrap();
    let xid = tx.conn().xid().unwrap();
    tx.conn().commit_asynchronously();
    let token = done(tx.commit(soon()).await);
    cluster.crash(0);
    assert_eq!((shown(&cluster, 0), shown(&cluster, 1)), (Some(1), Some(1)));
    assert!(flushed(&source, 0).await < token.lsn);
    assert_eq!(source.outcome(0, xid, Timeline(1)).await.unwrap(), Outcome::Forgotten, "as if it had never been");
    let tx = source.begin(0, soon()).await.unwrap();
    tx.conn().put("t", 1, 3_u64).await.unwrap();
    assert_eq!(tx.conn().xid(), Some(xid), "and its id is given to another");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_flushed_and_not_visible_is_visible_afterwards() {
    let (cluster, source) = cluster(0);
    cluster.stall(0, true);
    let writer = tokio::spawn({
        let source = source.clone();
        async move { write_on(&source, 0, 2).await }
    });
    pass(MS).await;
    assert_eq!(shown(&cluster, 0), Some(1));
    cluster.crash(0);
    let xid = unknown(writer.await.unwrap());
    assert_eq!(cluster.committed(0).last().unwrap().xid, xid);
    assert_eq!(
        source.outcome(0, xid, Timeline(1)).await.unwrap(),
        Outcome::Forgotten,
        "the id might be another's by now"
    );
    assert_eq!(shown(&cluster, 0), Some(2));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_down_nothing_answers() {
    let (cluster, source) = cluster(1);
    let tx = source.begin(0, soon()).await.unwrap();
    tx.conn().put("t", 1, 2_u64).await.unwrap();
    cluster.kill(0);
    unknown(tx.commit(soon()).await);
    assert_eq!(kind(source.probe(0).await), FaultKind::Down);
    assert_eq!(kind(source.begin(0, soon()).await), FaultKind::Down);
    cluster.start(0);
    assert_eq!(on_primary(&source).await.0, Some(1));
    write(&source, 3).await;
    assert_eq!(on_standby(&source, 1).await.0, Some(3), "the standby streams again");
}

/// The server answered, died and came back; only then is its answer read.
#[tokio::test(start_paused = true)]
async fn an_answer_under_way_tells_how_it_was_before_a_crash() {
    let (cluster, _) = cluster(0);
    let source = cluster.source_over(Network::new(|_, step| match step {
        Step::Answer => Fate::Pass(50 * MS),
        _ => Fate::Pass(MS),
    }));
    cluster.write_unflushed(0, 4_000);
    let before = cluster.token(0).unwrap();
    let probing = tokio::spawn({
        let source = source.clone();
        async move { probe(&source, 0).await.role }
    });
    pass(25 * MS).await;
    cluster.crash(0);
    assert!(!probing.is_finished(), "the answer takes its time");
    let Role::Primary { insert, .. } = probing.await.unwrap() else { panic!("it is the primary") };
    assert_eq!(insert, before.lsn);
    assert!(cluster.token(0).unwrap().lsn < insert, "the end of the log was lost meanwhile");
}

/// Of every question there is an answer that the network can keep from arriving.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_is_a_fault_and_what_was_asked_for_has_happened() {
    let (cluster, _) = cluster(1);
    let source = cluster.source_over(Network::new(|_, step| match step {
        Step::Answer => Fate::Cut,
        _ => Fate::Pass(MS),
    }));
    assert_eq!(kind(source.probe(0).await), FaultKind::Down);
    assert_eq!(kind(source.begin(0, soon()).await), FaultKind::Down);
    assert_eq!(kind(source.lease(0, ask(true)).await), FaultKind::Down);
    assert_eq!(kind(source.lease(1, ask(false)).await), FaultKind::Down);
    assert_eq!(kind(source.outcome(0, 1, Timeline(1)).await), FaultKind::Down);
    let before = cluster.token(0).unwrap();
    assert_eq!(kind(source.nudge(0).await), FaultKind::Down);
    assert!(cluster.token(0).unwrap().lsn > before.lsn, "the log was moved all the same");
}

#[tokio::test(start_paused = true)]
async fn a_torn_record_is_not_a_step_back() {
    let (cluster, source) = cluster(1);
    cluster.write_unflushed(0, 20_000);
    pass(1_000 * MS).await;
    let before = flushed(&source, 0).await;
    assert_eq!(before.offset() % 8192, 0, "whole pages, in the middle of a record");
    cluster.crash(0);
    assert!(flushed(&source, 0).await >= before);
    let token = write(&source, 2).await;
    assert_eq!(on_standby(&source, 1).await, (Some(2), on_standby(&source, 1).await.1));
    assert_eq!(on_standby(&source, 1).await.1.tag, token.lsn);
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_has_the_same_identity_and_lower_flushed_positions() {
    let (cluster, source) = cluster(1);
    let backup = cluster.backup(0);
    let before = probe(&source, 0).await;
    for value in 2..9 {
        write(&source, value).await;
    }
    let flushed_before = flushed(&source, 0).await;
    cluster.restore(0, &backup);
    let after = probe(&source, 0).await;
    assert_eq!(before.system_identifier, after.system_identifier);
    assert!(flushed(&source, 0).await < flushed_before);
    assert_eq!((shown(&cluster, 0), shown(&cluster, 1)), (Some(1), Some(8)));
    for value in 20..40 {
        write(&source, value).await;
    }
    assert_eq!(shown(&cluster, 1), Some(8), "a standby of the replaced history never streams again");
    cluster.rebuild(1, 0);
    assert_eq!(shown(&cluster, 1), Some(39));
}
