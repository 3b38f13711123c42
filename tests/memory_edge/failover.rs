//! Promotions: a new timeline, lost writes, and servers that stay behind on the old one.

use crate::support::*;
use highwater::source::{Ask, FaultKind, Role, Source as _};
use highwater::{Position, Switch, Timeline};

async fn switches(source: &highwater::memory::Source, node: usize) -> (Timeline, Vec<Switch>) {
    match probe(source, node).await.role {
        Role::Primary { timeline, switches, .. } => (timeline, switches),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_loses_what_had_not_arrived() {
    let (cluster, source) = cluster(3);
    let kept = write(&source, 2).await;
    cluster.set_transit(1, 1_000 * MS);
    cluster.follow(3, 1);
    write(&source, 65).await;
    let lost = write(&source, 66).await;
    on_standby(&source, 2).await;
    cluster.kill(0);
    assert!(cluster.promote(1) && !cluster.promote(1));
    let (timeline, ends) = switches(&source, 1).await;
    assert_eq!(timeline, Timeline(2));
    let [Switch { from: Timeline(1), at }] = ends[..] else { panic!("{ends:?}") };
    assert!(kept.lsn <= at && at < lost.lsn);
    assert_eq!(shown(&cluster, 1), Some(2));

    let token = done(write_on(&source, 1, 3).await);
    assert_eq!(token.timeline, Timeline(2));
    let (value, stamp) = on_standby(&source, 3).await;
    assert_eq!((value, stamp.timeline, stamp.tag), (Some(3), Timeline(2), token.lsn), "it followed the promoted one");

    let (value, stamp) = read_with(&source, 2, Ask { upper: false, ..ask(false) }).await.unwrap();
    assert_eq!(value, Some(66), "it shows the lost write");
    assert!(stamp.tag >= token.lsn, "its number is high enough");
    assert_eq!(stamp.timeline, Timeline(1), "only the timeline tells");
    cluster.follow(2, 1);
    pass(10_000 * MS).await;
    assert_eq!(shown(&cluster, 2), Some(66), "it has replayed beyond the switch and cannot follow");
    assert_eq!(kind(cluster.source().lease(2, ask(false)).await), FaultKind::Unproven);
    cluster.rebuild(2, 1);
    assert_eq!(on_standby(&source, 2).await.0, Some(3));
}

#[tokio::test(start_paused = true)]
async fn received_and_not_replayed_is_thrown_away_when_the_new_primary_does_not_have_it() {
    let (cluster, source) = cluster(2);
    cluster.set_transit(1, 1_000 * MS);
    cluster.pause(2, true);
    write(&source, 66).await;
    cluster.kill(0);
    cluster.promote(1);
    cluster.follow(2, 1);
    let token = done(write_on(&source, 1, 3).await);
    cluster.pause(2, false);
    pass(MS).await;
    let (value, stamp) = on_standby(&source, 2).await;
    assert_eq!((value, stamp.timeline, stamp.tag), (Some(3), Timeline(2), token.lsn));
}

#[tokio::test(start_paused = true)]
async fn connections_live_through_a_promotion_and_the_role_does_not() {
    let (cluster, source) = cluster(1);
    on_standby(&source, 1).await;
    let lease = source.lease(1, ask(false)).await.unwrap();
    cluster.promote(1);
    use highwater::source::Lease as _;
    assert_eq!(*lease.conn().get::<u64>("t", 1).await.unwrap().unwrap(), 1);
    assert_eq!(kind(lease.finish().await), FaultKind::WrongRole, "there is no upper bound of a standby any more");
    assert_eq!(kind(read_with(&source, 1, ask(false)).await), FaultKind::WrongRole);
    read_with(&source, 1, ask(true)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_old_primary_returns_and_takes_writes() {
    let (cluster, source) = cluster(1);
    cluster.kill(0);
    cluster.promote(1);
    cluster.start(0);
    let old = write(&source, 66).await;
    let new = done(write_on(&source, 1, 3).await);
    assert_eq!((old.timeline, new.timeline), (Timeline(1), Timeline(2)));
    assert_eq!((shown(&cluster, 0), shown(&cluster, 1)), (Some(66), Some(3)));
    cluster.rebuild(0, 1);
    assert_eq!(on_standby(&source, 0).await.0, Some(3));
    assert!(cluster.promote(0));
    let (timeline, ends) = switches(&source, 0).await;
    assert_eq!(timeline, Timeline(3));
    assert_eq!(ends.iter().map(|end| end.from.0).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn two_standbys_promoted_apart_take_the_same_number() {
    let (cluster, source) = cluster(2);
    cluster.set_transit(1, 1_000 * MS);
    write(&source, 2).await;
    cluster.kill(0);
    cluster.promote(1);
    cluster.promote(2);
    let (one, two) = (switches(&source, 1).await, switches(&source, 2).await);
    assert_eq!(one.0, two.0);
    assert_ne!(one.1, two.1, "only the switch points tell them apart");
    cluster.forget_switches(1);
    assert!(switches(&source, 1).await.1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lie_reaches_only_the_monitor() {
    let (cluster, source) = cluster(1);
    cluster.pause(1, true);
    let token: Position = write(&source, 2).await;
    cluster.lie(1, move |mut probe| {
        if let Role::Standby { replay, .. } = &mut probe.role {
            *replay = token.lsn;
        }
        probe
    });
    match probe(&source, 1).await.role {
        Role::Standby { replay, .. } => assert_eq!(replay, token.lsn),
        other => panic!("{other:?}"),
    }
    let (_, stamp) = read_with(&source, 1, Ask { floor: token.lsn, ..ask(false) }).await.unwrap();
    assert!(stamp.tag < token.lsn);
}
