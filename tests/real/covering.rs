//! How soon the watermark covers a write on real servers, and for how long a writer that dawdles holds it back. The bounds are
//! asserted in virtual time (`tests/cache/watermark.rs`), where nothing else takes time; here guards that are wider, and figures.

use crate::support::{Instance, Result, cluster, over, put, run, until};
use highwater::testkit::RedisServer;
use highwater::{Lsn, Session};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

const MS: Duration = Duration::from_millis(1);

async fn covered(instance: &Instance, position: Lsn) -> Result<Duration> {
    let begun = Instant::now();
    while instance.store.stats().watermark.and_then(|watermark| watermark.position) < Some(position) {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err("it is never covered".into());
        }
        sleep(MS).await;
    }
    Ok(begun.elapsed())
}

fn quantile(times: &mut [Duration], of_hundred: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * of_hundred / 100).min(times.len() - 1)]
}

/// A hundred writes a second of one instance, and what it took them and took the other instance to cover them.
async fn load(one: &Instance, two: &Instance, seconds: i64) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let mut due = interval(10 * MS);
    let mut writes = JoinSet::new();
    for number in 0..seconds * 100 {
        due.tick().await;
        let (one, two) = (one.clone(), two.clone());
        writes.spawn(async move {
            let begun = Instant::now();
            let mut tx = one.store.begin(&Session::new()).await?;
            tx.retract(&one.rows, &number);
            put(&tx, number, "grace").await?;
            let receipt = tx.commit().await?;
            Result::<_>::Ok((begun.elapsed(), covered(&two, receipt.position.lsn).await?))
        });
    }
    writes.join_all().await.into_iter().collect::<Result<Vec<_>>>().map(|both| both.into_iter().unzip())
}

#[test]
fn how_soon_the_watermark_covers_a_write() -> Result {
    run(async {
        let (cluster, redis) = (cluster(0).await?, RedisServer::start().await?);
        let one = Instance::sharing(over(&cluster), &redis).await?;
        let two = Instance::sharing(over(&cluster), &redis).await?;
        for instance in [&one, &two] {
            let begun = || instance.store.stats().watermark.is_some_and(|watermark| watermark.position.is_some());
            until("an epoch", Duration::from_secs(5), async || begun()).await?;
        }
        let mut idle = Vec::new();
        for _ in 0..10 {
            sleep(330 * MS).await;
            let receipt = one.write(&Session::new(), 1, "grace").await?;
            idle.push(covered(&two, receipt.position.lsn).await?);
        }
        println!("idle: covered after {:?}, at most {:?}", quantile(&mut idle, 50), quantile(&mut idle, 100));
        assert!(quantile(&mut idle, 50) <= 100 * MS, "{idle:?}");
        let (mut held, mut after) = load(&one, &two, 3).await?;
        let [held, after] = [&mut held, &mut after].map(|times| [50, 99].map(|part| quantile(times, part)));
        println!("100 a second: transactions {held:?}, covered {after:?} after, p50 and p99");
        assert!(after[0] <= 3 * held[1] && after[1] <= Duration::from_secs(1), "{held:?} {after:?}");
        let before = two.store.stats().counts.abandoned + one.store.stats().counts.abandoned;
        let mut slow = one.store.begin(&Session::new()).await?;
        put(&slow, 9_000, "slow").await?;
        slow.retract(&one.rows, &9_000);
        let (_, mut after) = load(&one, &two, 3).await?;
        let longest = quantile(&mut after, 100);
        println!("with one that does not end: at most {longest:?}");
        assert!(longest >= Duration::from_secs(1) && longest <= Duration::from_secs(3), "{longest:?}");
        let abandoned = two.store.stats().counts.abandoned + one.store.stats().counts.abandoned - before;
        assert_eq!(abandoned, 1);
        let (session, receipt) = (Session::new(), slow.commit().await?);
        assert!(receipt.told);
        assert_eq!(two.name(&session, 9_000).await?.as_deref(), Some("slow"));
        Ok(())
    })
}
