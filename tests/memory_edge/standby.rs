//! A standby: behind, ahead, and not sure itself.

use crate::support::*;
use highwater::memory::{Fate, Network, Step};
use highwater::source::{Ask, FaultKind, Lease as _, Role, Source as _};
use highwater::{Lsn, Timeline};

#[tokio::test(start_paused = true)]
async fn it_shows_a_commit_before_the_primary_does() {
    let (cluster, source) = cluster(1);
    cluster.stall(0, true);
    let writer = tokio::spawn({
        let source = source.clone();
        async move { write(&source, 2).await }
    });
    pass(MS).await;
    let (value, stamp) = on_standby(&source, 1).await;
    assert_eq!((value, on_primary(&source).await.0), (Some(2), Some(1)));
    cluster.stall(0, false);
    let token = writer.await.unwrap();
    assert_eq!(stamp.tag, token.lsn);
}

#[tokio::test(start_paused = true)]
async fn it_shows_a_commit_before_its_own_position_says_so() {
    let (cluster, source) = cluster(1);
    cluster.set_report_gap(1, 100 * MS);
    let token = write(&source, 2).await;
    let (value, stamp) = on_standby(&source, 1).await;
    assert_eq!(value, Some(2));
    assert!(stamp.tag < token.lsn, "the position is a lower bound only");
    assert_eq!(stamp.upper, Some(token.lsn), "what it received is an upper one");
    pass(100 * MS).await;
    assert_eq!(on_standby(&source, 1).await.1.tag, token.lsn);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_one_lets_only_commits_wait() {
    let (cluster, source) = cluster(2);
    cluster.set_lag(1, 1_500 * MS);
    let token = write(&source, 2).await;
    pass(1_000 * MS).await;
    let (value, stamp) = on_standby(&source, 1).await;
    assert_eq!(value, Some(1));
    assert!(stamp.tag < token.lsn);
    match probe(&source, 1).await.role {
        Role::Standby { replay, lag, .. } => assert!(replay == stamp.tag && lag.unwrap() >= 1_000 * MS),
        other => panic!("{other:?}"),
    }
    assert_eq!(on_standby(&source, 2).await.0, Some(2));
    pass(501 * MS).await;
    assert_eq!(on_standby(&source, 1).await.1.tag, token.lsn);
}

#[tokio::test(start_paused = true)]
async fn a_paused_one_goes_on_receiving() {
    let (cluster, source) = cluster(1);
    cluster.pause(1, true);
    let token = write(&source, 2).await;
    let (value, stamp) = on_standby(&source, 1).await;
    assert_eq!((value, stamp.upper), (Some(1), Some(token.lsn)));
    cluster.pause(1, false);
    assert_eq!(on_standby(&source, 1).await.0, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_back_and_the_position_agrees() {
    let (cluster, source) = cluster(1);
    write(&source, 2).await;
    let token = write(&source, 3).await;
    assert_eq!(on_standby(&source, 1).await.1.tag, token.lsn);
    cluster.kill(1);
    assert_eq!(kind(source.lease(1, ask(false)).await), FaultKind::Down);
    cluster.start_back(1, 2, 1_000 * MS);
    let (value, stamp) = on_standby(&source, 1).await;
    assert_eq!(value, Some(2));
    assert!(stamp.tag < token.lsn, "its old position must not be remembered");
    pass(1_000 * MS).await;
    assert_eq!(on_standby(&source, 1).await.0, Some(3));
}

#[tokio::test(start_paused = true)]
async fn log_that_is_on_its_way_has_not_been_received() {
    let (cluster, source) = cluster(1);
    cluster.set_transit(1, 50 * MS);
    let token = write(&source, 2).await;
    let (value, stamp) = on_standby(&source, 1).await;
    assert!(value == Some(1) && stamp.upper.unwrap() < token.lsn);
    pass(50 * MS).await;
    assert_eq!(on_standby(&source, 1).await.0, Some(2));
}

#[tokio::test(start_paused = true)]
async fn without_a_stream_only_what_was_confirmed_before_counts() {
    let (cluster, source) = cluster(1);
    cluster.pause(1, true);
    let token = write(&source, 2).await;
    let (_, before) = on_standby(&source, 1).await;
    cluster.kill(0);
    match probe(&source, 1).await.role {
        Role::Standby { timeline, .. } => assert_eq!(timeline, None),
        other => panic!("{other:?}"),
    }
    cluster.pause(1, false);
    let more = Ask { floor: token.lsn, ..ask(false) };
    assert_eq!(kind(read_with(&source, 1, more).await), FaultKind::Unproven, "nothing bounds what it showed");
    let (value, after) = read_with(&source, 1, Ask { upper: false, ..more }).await.unwrap();
    assert_eq!(value, Some(2), "it replayed what it had received");
    assert_eq!((after.timeline, after.tag), (Timeline(1), before.tag), "on whichever timeline that was");
    assert_eq!(kind(cluster.source().lease(1, ask(false)).await), FaultKind::Unproven);
}

#[tokio::test(start_paused = true)]
async fn recovery_cancels_a_statement_once() {
    let (cluster, source) = cluster(1);
    cluster.conflict(1);
    assert_eq!(kind(read_with(&source, 1, ask(false)).await), FaultKind::Conflict);
    assert_eq!(on_standby(&source, 1).await.0, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_one_answers_after_it_was_let_go_on_or_never() {
    let (cluster, source) = cluster(1);
    cluster.freeze(1, true);
    let soon = Ask { deadline: tokio::time::Instant::now() + 100 * MS, ..ask(false) };
    assert_eq!(kind(source.lease(1, soon).await), FaultKind::TimedOut);
    write(&source, 2).await;
    let reader = tokio::spawn({
        let source = source.clone();
        async move { on_standby(&source, 1).await.0 }
    });
    pass(1_000 * MS).await;
    assert!(!reader.is_finished());
    cluster.freeze(1, false);
    assert_eq!(reader.await.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_name_may_lead_to_another_server_and_open_connections_stay() {
    let (cluster, source) = cluster(2);
    cluster.pause(2, true);
    on_standby(&source, 1).await;
    cluster.reroute(1, 2);
    write(&source, 2).await;
    assert_eq!(on_standby(&source, 1).await.0, Some(2), "the old server, over the old connection");
    assert_eq!(on_standby(&cluster.source(), 1).await.0, Some(1));
    cluster.disconnect(1);
    assert_eq!(on_standby(&source, 1).await.0, Some(1));
    cluster.set_pooled(1, true);
    cluster.reroute(1, 1);
    assert_eq!(on_standby(&cluster.source(), 1).await.0, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_position_is_kept_for_a_few_milliseconds_and_read_anew_when_more_is_asked() {
    let (cluster, _) = cluster(1);
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let source = cluster.source_over(Network::new({
        let asked = asked.clone();
        move |_, step| {
            asked.fetch_add(usize::from(step == Step::Position), std::sync::atomic::Ordering::Relaxed);
            Fate::Pass(std::time::Duration::ZERO)
        }
    }));
    let count = || asked.load(std::sync::atomic::Ordering::Relaxed);
    let (_, stamp) = on_standby(&source, 1).await;
    on_standby(&source, 1).await;
    assert_eq!(count(), 1);
    let one = source.lease(1, ask(false)).await.unwrap();
    let other = source.lease(1, ask(false)).await.unwrap();
    assert_eq!((one.finish().await.unwrap(), other.finish().await.unwrap()), (stamp, stamp));
    assert_eq!(count(), 1, "nor is it on another connection of the same run");
    let more = Lsn::new(stamp.tag.offset() + 1);
    read_with(&source, 1, Ask { floor: more, ..ask(false) }).await.unwrap();
    assert_eq!(count(), 2);
    pass(6 * MS).await;
    on_standby(&source, 1).await;
    assert_eq!(count(), 3);
}
