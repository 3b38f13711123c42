//! Writes that are made through another client.

use crate::support::{Instance, Result, cluster, over, run, until};
use highwater::testkit::RedisServer;
use highwater::{Freshness, ReadOptions, Retraction, Session, Token};
use std::time::Duration;
use tokio::time::sleep;

#[test]
fn a_captured_write_is_covered_and_told() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let one = Instance::sharing(over(&cluster), &redis).await?;
        let two = Instance::sharing(over(&cluster), &redis).await?;
        let (session, anybody) = (Session::new(), Session::new());
        let client = cluster.primary().connect().await?;
        cluster.replica(0).apply_delay(Duration::from_millis(200)).await?;
        for round in 0..10 {
            one.get(&anybody, 1).await?;
            two.get(&anybody, 1).await?;
            let name = format!("by hand {round}");
            client.execute("update rows set name = $1 where id = 1", &[&name]).await?;
            let mut retraction = Retraction::new();
            retraction.key(&one.rows, &1);
            let receipt = one.store.capture(&session, retraction).await?;
            assert!(receipt.told);
            // Elsewhere first, where nothing but the token may have arrived yet.
            assert_eq!(two.name(&Session::from_token(session.token()), 1).await?.as_ref(), Some(&name));
            assert_eq!(one.name(&session, 1).await?.as_ref(), Some(&name));
            let heard = async || two.name(&anybody, 1).await.is_ok_and(|found| found.as_ref() == Some(&name));
            until("the other instance to hear of it", Duration::from_secs(2), heard).await?;
        }
        Ok(())
    })
}

/// Who tells nobody is only seen by those who ask for a bound, for the latest, or for a position.
#[test]
fn what_nobody_told_is_found_by_bounds_and_positions() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let session = Session::new();
        let client = cluster.primary().connect().await?;
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("ada"));
        client.execute("update rows set name = 'silent' where id = 1", &[]).await?;
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("ada"), "nobody knows");
        let token = instance.store.token().await?;
        let ask = async |freshness| -> Result<Option<String>> {
            let read = instance.rows.get_with(&session, &1, &ReadOptions::fresh(freshness)).await?;
            Ok(read.value.map(|row| row.name.clone()))
        };
        assert_eq!(ask(Freshness::AtLeast(token)).await?.as_deref(), Some("silent"));
        client.execute("update rows set name = 'newer' where id = 1", &[]).await?;
        assert_eq!(ask(Freshness::Latest).await?.as_deref(), Some("newer"));
        client.execute("update rows set name = 'newest' where id = 1", &[]).await?;
        sleep(Duration::from_millis(400)).await;
        assert_eq!(ask(Freshness::Within(Duration::from_millis(300))).await?.as_deref(), Some("newest"));
        Ok(())
    })
}
