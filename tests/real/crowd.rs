//! Very many readers at once.

use crate::support::{Instance, Result, Rows, cluster, over, run, until};
use highwater::Session;
use highwater::testkit::{Node, RedisServer};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const READERS: usize = 10_000;

/// How often the table was looked up in by its index, as PostgreSQL itself counts.
async fn lookups(nodes: &[&Node]) -> Result<u64> {
    let mut all = 0;
    for node in nodes {
        let sql =
            "select coalesce(idx_scan, 0) + coalesce(seq_scan, 0) from pg_stat_user_tables where relname = 'rows'";
        all += node.value(sql).await?.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(all)
}

#[test]
fn ten_thousand_readers_of_a_cold_key_make_one_query_per_instance() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let slow = || Rows { delay: Duration::from_millis(300), ..Rows::default() };
        let one = Instance::new(over(&cluster).redis(redis.url()), slow(), true).await?;
        let two = Instance::new(over(&cluster).redis(redis.url()), slow(), true).await?;
        let nodes = [cluster.primary(), cluster.replica(0)];
        let before = lookups(&nodes).await?;
        let begun = Instant::now();
        let mut readers = JoinSet::new();
        for reader in 0..2 * READERS {
            let instance = if reader % 2 == 0 { one.clone() } else { two.clone() };
            readers.spawn(async move { instance.name(&Session::new(), 1).await });
        }
        while let Some(name) = readers.join_next().await {
            assert_eq!(name??.as_deref(), Some("ada"));
        }
        println!("{} readers on two instances: {:?}", 2 * READERS, begun.elapsed());
        assert_eq!((one.loads(), two.loads()), (1, 1));
        let (stats, hits) = (one.rows.stats(), one.rows.stats().hits_local);
        assert_eq!(stats.joined + hits + 1, READERS as u64, "{stats:?}");
        // A backend tells what it has counted at the latest when it ends.
        one.store.close().await;
        two.store.close().await;
        drop((one, two));
        until("PostgreSQL to have counted", Duration::from_secs(15), async || {
            lookups(&nodes).await.is_ok_and(|count| count >= before + 2)
        })
        .await?;
        sleep(Duration::from_millis(500)).await;
        assert_eq!(lookups(&nodes).await? - before, 2, "and PostgreSQL says so too");
        Ok(())
    })
}
