//! Promotions: whose position counts on which timeline.

use crate::{PRIMARY, REPLICA, Result, anew, ask, cluster, load, source, write};
use highwater::source::postgres::Postgres;
use highwater::source::{Ask, FaultKind, Lease, Role, Source};
use highwater::testkit::Node;
use highwater::{Lsn, Switch, Timeline};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const OTHER: usize = 2;

async fn role(source: &Postgres, node: usize) -> Result<Role> {
    Ok(source.probe(node).await?.role)
}

/// Waits until a standby has noticed that nobody sends any more.
async fn cut_off(node: &Node) -> Result {
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.value("select count(*) from pg_stat_wal_receiver where status = 'streaming'").await?.as_deref()
        != Some("0")
    {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_standby_that_lost_its_primary_counts_up_to_what_was_confirmed() -> Result {
    let cluster = cluster(2).await?;
    let source = source(&cluster).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let (_, confirmed) = load(&source, REPLICA, anew(false)).await?;
    // What the replica receives from now on is never confirmed: nobody asks it while it streams.
    replica.pause_replay().await?;
    let token = write(&source, "new").await?;
    sleep(Duration::from_millis(200)).await;
    primary.kill().await?;
    cut_off(replica).await?;
    replica.resume_replay().await?;
    while replica.value("select v from t").await?.as_deref() != Some("new") {
        sleep(Duration::from_millis(20)).await;
    }
    let (value, stamp) = load(&source, REPLICA, anew(false)).await?;
    assert_eq!((value.as_str(), stamp.timeline), ("new", Timeline(1)));
    assert!(stamp.tag >= confirmed.tag && stamp.tag < token.lsn, "{stamp:?} {confirmed:?} {token}");
    // The other one was never asked, so nothing is known of it.
    cut_off(cluster.replica(1)).await?;
    let fault = source.lease(OTHER, anew(false)).await?.finish().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unproven, "{fault}");
    assert!(matches!(role(&source, OTHER).await?, Role::Standby { timeline: None, .. }));
    let upper = source.lease(REPLICA, Ask { upper: true, ..ask(false) }).await?;
    upper.conn().query("select v from t", &[]).await?;
    assert_eq!(upper.finish().await.unwrap_err().kind, FaultKind::Unproven);
    Ok(())
}

/// A standby that recovers from an archive: no receiver, so nothing tells which timeline it has replayed, nor bounds what it
/// shows.
#[tokio::test]
async fn a_standby_that_recovers_from_an_archive_proves_nothing() -> Result {
    let cluster = cluster(1).await?;
    let source = source(&cluster).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let log = primary.value("show data_directory").await?.expect("a folder");
    let streamed = source.lease(REPLICA, Ask { upper: true, ..ask(false) }).await?;
    streamed.conn().query("select v from t", &[]).await?;
    assert!(streamed.finish().await?.upper.is_some());
    replica.configure("restore_command", &format!("cp {log}/pg_wal/%f %p")).await?;
    replica.execute("alter system set primary_conninfo = ''").await?;
    replica.restart().await?;
    write(&source, "archived").await?;
    primary.execute("select pg_switch_wal()").await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while replica.value("select v from t").await?.as_deref() != Some("archived") {
        assert!(Instant::now() < deadline, "{}", replica.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(replica.value("select count(*) from pg_stat_wal_receiver").await?.as_deref(), Some("0"));
    for upper in [true, false] {
        let lease = source.lease(REPLICA, Ask { upper, ..anew(false) }).await?;
        lease.conn().query("select v from t", &[]).await.map_err(|fault| println!("{fault}")).ok();
        assert_eq!(lease.finish().await.unwrap_err().kind, FaultKind::Unproven, "upper {upper}");
    }
    assert!(matches!(role(&source, REPLICA).await?, Role::Standby { timeline: None, .. }));
    Ok(())
}

/// replica0 is cut off and promoted without the last write; replica1 has it. Its position passes the comparison of
/// numbers, and only the label tells that its history is the lost one.
#[tokio::test]
async fn a_diverged_standby_keeps_the_label_of_the_lost_timeline() -> Result {
    let cluster = cluster(2).await?;
    let source = source(&cluster).await?;
    let (winner, loser) = (cluster.replica(0), cluster.replica(1));
    load(&source, REPLICA, anew(false)).await?;
    role(&source, REPLICA).await?;
    winner.execute("alter system set primary_conninfo = ''").await?;
    winner.reload().await?;
    cut_off(winner).await?;
    let lost = write(&source, "lost").await?;
    loser.wait_for_catchup(cluster.primary()).await?;
    let (value, stamp) = load(&source, OTHER, anew(false)).await?;
    assert_eq!((value.as_str(), stamp.timeline), ("lost", Timeline(1)));
    cluster.primary().kill().await?;
    winner.promote().await?;
    let Role::Primary { timeline, insert, flush, switches, .. } = role(&source, REPLICA).await? else {
        panic!("not promoted")
    };
    assert_eq!(timeline, Timeline(2));
    assert!(insert >= flush);
    assert_eq!(switches.len(), 1, "{switches:?}");
    assert_eq!(switches[0].from, Timeline(1));
    assert!(switches[0].at < lost.lsn);
    let (value, stamp) = load(&source, REPLICA, anew(true)).await?;
    assert_eq!((value.as_str(), stamp.timeline), ("old", Timeline(2)));
    // The loser cannot follow: its own position is past the fork.
    let (value, stamp) = load(&source, OTHER, anew(false)).await?;
    assert_eq!((value.as_str(), stamp.timeline), ("lost", Timeline(1)));
    Ok(())
}

#[tokio::test]
async fn a_standby_that_follows_takes_the_new_label() -> Result {
    let cluster = cluster(2).await?;
    let source = source(&cluster).await?;
    let (winner, other) = (cluster.replica(0), cluster.replica(1));
    for node in [REPLICA, OTHER] {
        load(&source, node, anew(false)).await?;
    }
    cluster.wait_for_catchup().await?;
    cluster.primary().kill().await?;
    winner.promote().await?;
    other.follow(winner).await?;
    winner.execute("update t set v = 'second'").await?;
    other.wait_for_catchup(winner).await?;
    let (value, stamp) = load(&source, OTHER, anew(false)).await?;
    assert_eq!((value.as_str(), stamp.timeline), ("second", Timeline(2)));
    Ok(())
}

/// A role that may not read files learns the switch point from the position that the server was promoted at, and only
/// where its own connection saw the standby: after a crash the same function tells where crash recovery ended.
#[tokio::test]
async fn the_switch_point_of_a_promotion_is_not_taken_from_a_crash() -> Result {
    let cluster = cluster(1).await?;
    for sql in ["create role app login", "grant pg_read_all_stats to app", "grant select on t to app"] {
        cluster.primary().execute(sql).await?;
    }
    cluster.wait_for_catchup().await?;
    let url = |node: &Node| format!("postgres://app@127.0.0.1:{}/postgres?sslmode=disable", node.port());
    let replica = cluster.replica(0);
    let build = || Postgres::builder().node(url(replica)).build();
    let source = build()?;
    assert!(matches!(role(&source, 0).await?, Role::Standby { timeline: Some(Timeline(1)), .. }));
    cluster.primary().stop().await?;
    replica.promote().await?;
    let at = replica.value("select pg_last_wal_replay_lsn()::text").await?.unwrap().parse::<Lsn>()?;
    let Role::Primary { switches, .. } = role(&source, 0).await? else { panic!("not promoted") };
    assert_eq!(switches, [Switch { from: Timeline(1), at }]);
    let Role::Primary { switches, .. } = role(&build()?, 0).await? else { panic!("not promoted") };
    assert_eq!(switches, [], "who did not see the standby, cannot tell a promotion from a crash");
    replica.execute("update t set v = 'more'").await?;
    replica.kill().await?;
    replica.start().await?;
    let wrong = replica.value("select pg_last_wal_replay_lsn()::text").await?.unwrap().parse::<Lsn>()?;
    assert!(wrong > at, "this is what the rule is for");
    let Role::Primary { switches, .. } = role(&build()?, 0).await? else { panic!("not started") };
    assert_eq!(switches, []);
    let first = source.probe(0).await;
    let second = source.probe(0).await?;
    let Role::Primary { switches, .. } = second.role else { panic!("{first:?}") };
    assert_eq!(switches, [Switch { from: Timeline(1), at }], "remembered");
    // The superuser reads it all from the history file.
    let reads = Postgres::builder().node(crate::address(replica)).build()?;
    let Role::Primary { switches, .. } = role(&reads, PRIMARY).await? else { panic!("not started") };
    assert_eq!(switches, [Switch { from: Timeline(1), at }]);
    Ok(())
}
