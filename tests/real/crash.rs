//! A crash of the primary, which takes along what it had not flushed.

use crate::support::{Instance, Result, over, prepared, run, until};
use highwater::Session;
use highwater::testkit::Cluster;
use std::time::Duration;
use tokio::time::sleep;

/// Writes that were told and are lost with the crash. The database says nothing; the position of its log does.
#[test]
fn commits_that_were_never_flushed_are_counted_as_a_crash() -> Result {
    run(async {
        // Without images of pages at their first hint, which would let the log grow past its old end at once.
        let lazy = [("synchronous_commit", "off"), ("wal_writer_delay", "10s"), ("wal_log_hints", "off")];
        let cluster = lazy.iter().fold(Cluster::builder(), |cluster, (key, value)| cluster.config(key, value));
        let cluster = prepared(cluster.start().await?).await?;
        let primary = cluster.primary();
        primary.execute("checkpoint").await?;
        let (one, two) = (Instance::alone(over(&cluster)).await?, Instance::alone(over(&cluster)).await?);
        let session = Session::new();
        // Whole pages reach the disk at once. More must be left than the records that recovery itself writes.
        let (mut gap, mut told) = (0, 0);
        while gap < 2_000 {
            told += 1;
            one.write(&session, 1, &format!("{told} {}", "x".repeat(1_000))).await?;
            // The monitor is to have seen it too.
            sleep(Duration::from_millis(400)).await;
            let sql = "select (pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn())::text";
            gap = primary.value(sql).await?.expect("a number").parse()?;
        }
        primary.kill().await?;
        one.until_node(0, "out").await?;
        primary.start().await?;
        until("the crash to be noticed", Duration::from_secs(5), async || one.store.stats().counts.crashes > 0).await?;
        assert_eq!(one.store.stats().counts.replaced, 0, "what was flushed is there");
        // The log of the server ends below the token, which would be waited for until the log has grown again.
        let handed = Session::from_token(session.token());
        let last = format!("{told} ");
        let name = one.name(&session, 1).await?.expect("an older version");
        assert!(!name.starts_with(&last), "the write was told, and is lost");
        assert_eq!(one.store.stats().counts.tokens_clamped, 1);
        // Whether the log has grown past the token by now, which reading alone can do, or not: others are served as well.
        let name = two.name(&handed, 1).await?.expect("an older version");
        assert!(!name.starts_with(&last));
        one.write(&session, 1, "again").await?;
        assert_eq!(one.name(&session, 1).await?.as_deref(), Some("again"));
        Ok(())
    })
}
