//! What positions, tokens and roles are worth.

use crate::worlds::{InMemory, Real, World, fault, token};
use crate::{Result, soon, until};
use highwater::source::{Committed, FaultKind, Role, Source, Transaction};
use highwater::{Lsn, Switch, Timeline};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

both! { InMemory, real Real: [
    what_is_replayed_is_visible,
    a_paused_standby_receives_and_does_not_show,
    a_commit_is_in_the_log_before_it_is_visible,
    a_token_at_a_page_end_is_reached_without_other_log,
    a_crash_takes_what_was_not_flushed_and_uses_its_positions_again,
    a_standby_that_was_started_again_shows_what_it_says,
    a_promotion_begins_a_timeline_where_the_standby_was,
    a_transaction_that_a_crash_overtakes_is_not_told_as_committed,
] }

async fn position(world: &impl World, node: usize) -> Result<(Lsn, Lsn)> {
    let (insert, flush, _) = standing(world, node).await?;
    Ok((insert, flush))
}

/// How far it is, and when it started.
async fn standing(world: &impl World, node: usize) -> Result<(Lsn, Lsn, u64)> {
    match world.source().probe(node).await?.role {
        Role::Primary { insert, flush, started_ms, .. } => Ok((insert, flush, started_ms)),
        other => Err(format!("no primary: {other:?}").into()),
    }
}

/// Whatever a standby's answer is tagged with, it shows everything up to there.
async fn what_is_replayed_is_visible<W: World>() -> Result {
    let world = W::start(2).await?;
    let mut behind = 0;
    for value in 2..30 {
        let token = world.write(value).await?;
        for standby in [1, 2] {
            until("the token to be reached", async || {
                let (shown, stamp) = world.load(standby, false).await?;
                let reached = stamp.tag >= token.lsn;
                behind += usize::from(!reached);
                assert!(!reached || shown == value, "{shown} at {}, {token} was {value}", stamp.tag);
                assert!(stamp.upper.expect("it streams") >= stamp.tag);
                Ok(reached)
            })
            .await?;
        }
    }
    println!("{behind} answers were behind");
    Ok(())
}

async fn a_paused_standby_receives_and_does_not_show<W: World>() -> Result {
    let world = W::start(1).await?;
    world.pause(1, true).await?;
    let token = world.write(2).await?;
    until("it to be received", async || Ok(world.load(1, false).await?.1.upper >= Some(token.lsn))).await?;
    let (shown, stamp) = world.load(1, false).await?;
    assert!(shown == 1 && stamp.tag < token.lsn, "{shown} at {}", stamp.tag);
    world.pause(1, false).await?;
    until("it to be shown", async || Ok(world.load(1, false).await?.0 == 2)).await?;
    Ok(())
}

async fn a_commit_is_in_the_log_before_it_is_visible<W: World>() -> Result {
    let world = W::start(1).await?;
    world.stall(true).await?;
    let tx = world.begin(0, 2).await?;
    let mut commit = std::pin::pin!(tx.commit(soon()));
    assert!(timeout(Duration::from_millis(200), &mut commit).await.is_err(), "it is told before it is visible");
    until("the standby to show it", async || Ok(world.load(1, false).await?.0 == 2)).await?;
    let (shown, standby) = world.load(1, false).await?;
    let (on_primary, primary) = world.load(0, true).await?;
    let (insert, flush) = position(&world, 0).await?;
    assert_eq!((shown, on_primary), (2, 1), "a standby shows a commit before the primary does");
    world.stall(false).await?;
    let token = token(commit.await)?;
    assert!(standby.tag <= token.lsn && insert == flush && token.lsn <= insert, "{standby:?} {insert} {flush} {token}");
    assert!(primary.tag < token.lsn, "the primary's own answer must not pass for one that has seen it");
    assert_eq!(world.load(0, true).await?.0, 2);
    Ok(())
}

async fn a_token_at_a_page_end_is_reached_without_other_log<W: World>() -> Result {
    let world = W::start(1).await?;
    let token = world.write_to_a_page_end(2).await?;
    assert_eq!(token.lsn.offset() % 8_192, 0);
    let took = until("the token", async || Ok(world.load(1, false).await?.1.tag >= token.lsn)).await?;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(world.load(1, false).await?.0, 2);
    Ok(())
}

async fn a_crash_takes_what_was_not_flushed_and_uses_its_positions_again<W: World>() -> Result {
    let mut world = W::start(1).await?;
    world.write(2).await?;
    world.write_unflushed().await?;
    let (insert, flush, started_ms) = standing(&world, 0).await?;
    let (_, fill) = world.load(0, true).await?;
    assert!(insert > flush && fill.tag < flush, "{insert} {flush} {fill:?}");
    world.crash().await?;
    until("it to answer", async || Ok(world.source().probe(0).await.is_ok())).await?;
    let (after, still, again_ms) = standing(&world, 0).await?;
    assert!(again_ms > started_ms && started_ms > 1_600_000_000_000, "{started_ms} {again_ms}");
    assert!(after < insert, "{after} is not below {insert}");
    assert!(still >= flush, "what was flushed is there: {still} {flush}");
    until("a write", async || Ok(world.load(0, true).await.is_ok())).await?;
    let token = world.write(3).await?;
    assert!(token.lsn < insert, "positions are used again: {token} {insert}");
    assert!(fill.tag < token.lsn, "a tag from the flush position does not cover them");
    assert_eq!(token.timeline, Timeline(1));
    until("the standby", async || Ok(world.load(1, false).await.is_ok_and(|(value, _)| value == 3))).await?;
    Ok(())
}

async fn a_standby_that_was_started_again_shows_what_it_says<W: World>() -> Result {
    let world = W::start(1).await?;
    let mut last = world.write(2).await?;
    for value in 3..6 {
        world.restart_standby(1).await?;
        let mut answers = 0;
        until("the standby", async || {
            let Ok((shown, stamp)) = world.load(1, false).await else { return Ok(false) };
            answers += 1;
            assert!(stamp.tag < last.lsn || shown == value - 1, "{shown} at {}, {last} was {}", stamp.tag, value - 1);
            Ok(stamp.tag >= last.lsn)
        })
        .await?;
        assert!(answers > 0);
        last = world.write(value).await?;
    }
    Ok(())
}

async fn a_promotion_begins_a_timeline_where_the_standby_was<W: World>() -> Result {
    let world = W::start(2).await?;
    let kept = world.write(2).await?;
    until("the first standby", async || Ok(world.load(1, false).await?.1.tag >= kept.lsn)).await?;
    world.cut_off(1).await?;
    let lost = world.write(3).await?;
    until("the second standby", async || Ok(world.load(2, false).await?.1.tag >= lost.lsn)).await?;
    world.promote(1).await?;
    let Role::Primary { timeline, switches, .. } = world.source().probe(1).await?.role else {
        return Err("it was not promoted".into());
    };
    let [Switch { from: Timeline(1), at }] = switches[..] else { return Err(format!("{switches:?}").into()) };
    assert_eq!(timeline, Timeline(2));
    assert!(kept.lsn <= at && at < lost.lsn, "{kept} {at} {lost}");
    let (shown, stamp) = world.load(1, true).await?;
    assert_eq!((shown, stamp.timeline), (2, Timeline(2)));
    let mut token = world.write_on(1, 4).await?;
    while token.lsn <= lost.lsn {
        token = world.write_on(1, 4).await?;
    }
    assert_eq!(token.timeline, Timeline(2));
    // The other standby shows what was lost, at a number that is high enough: only the timeline tells, or nothing does.
    world.start_the_old_primary().await?;
    let old = async || world.source().probe(0).await;
    until("the old primary", async || Ok(old().await.is_ok())).await?;
    let Role::Primary { timeline, .. } = old().await?.role else { return Err("it is no primary".into()) };
    assert_eq!(timeline, Timeline(1), "it says that it is the primary, of a timeline that was left");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        match world.load(2, false).await {
            Ok((shown, stamp)) => assert_eq!((shown, stamp.timeline), (3, Timeline(1))),
            Err(error) => {
                let kind = fault::<()>(Err(error)).map(|fault| fault.kind);
                assert!(matches!(kind, Some(FaultKind::Unproven | FaultKind::Down)), "{kind:?}");
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn a_transaction_that_a_crash_overtakes_is_not_told_as_committed<W: World>() -> Result {
    let mut world = W::start(0).await?;
    let tx = world.begin(0, 2).await?;
    world.crash().await?;
    let committed = tx.commit(soon()).await;
    assert!(matches!(committed, Committed::Unknown { .. } | Committed::RolledBack(_)), "{committed:?}");
    until("the primary", async || Ok(world.load(0, true).await.is_ok())).await?;
    assert_eq!(world.load(0, true).await?.0, 1);
    // One that waits for a standby is in the log, and survives.
    world.stall(true).await?;
    let tx = world.begin(0, 3).await?;
    let mut commit = Box::pin(tx.commit(soon()));
    assert!(timeout(Duration::from_millis(200), &mut commit).await.is_err());
    world.crash().await?;
    assert!(matches!(commit.await, Committed::Unknown { .. }));
    until("the primary", async || Ok(world.load(0, true).await.is_ok())).await?;
    assert_eq!(world.load(0, true).await?.0, 3, "it was never told, and it is there");
    Ok(())
}
