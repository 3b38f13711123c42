//! Clusters in which nothing else happens.

use crate::support::{Instance, Result, cluster, over, put, run};
use highwater::testkit::{Cluster, Node, RedisServer};
use highwater::{Fallback, ReadOptions, Rung, Session, Settings};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PAGE: u64 = 8_192;

/// The insert position that PostgreSQL tells, raw.
async fn insert(node: &Node) -> Result<u64> {
    Ok(node.insert_lsn().await?.into())
}

/// A message beyond 255 bytes has a longer header, so all of them are.
const FILL: usize = 400;

/// Commits a write of row 1 and, before its commit record, so many bytes that mean nothing.
async fn commit_of(instance: &Instance, session: &Session, fill: usize) -> Result {
    let tx = instance.store.begin(session).await?;
    put(&tx, 1, "boundary").await?;
    let message = "x".repeat(fill);
    tx.query_one("select pg_logical_emit_message(true, 'fill', $1)", &[&message]).await?;
    tx.commit().await?;
    Ok(())
}

/// Writes until a commit ends exactly at the end of a page, so that the insert position lies behind the next header.
async fn write_to_the_end_of_a_page(cluster: &Cluster, instance: &Instance, session: &Session) -> Result {
    let primary = cluster.primary();
    // What a checkpoint or the background writer logs would move the target.
    primary.execute("checkpoint").await?;
    for _ in 0..60 {
        let before = insert(primary).await?;
        commit_of(instance, session, FILL).await?;
        let size = insert(primary).await? - before;
        let at = insert(primary).await?;
        // Into a page in which one commit has room, and then to its end. Records are padded to eight bytes.
        let left = PAGE - at % PAGE;
        if left < size + 64 || left > 4_000 {
            commit_of(instance, session, 3_000).await?;
            continue;
        }
        let extra = usize::try_from(left - size)?;
        commit_of(instance, session, FILL + extra).await?;
        if insert(primary).await? % PAGE == 24 {
            return Ok(());
        }
    }
    Err("no commit ended at the end of a page".into())
}

#[test]
fn a_token_at_a_page_boundary_does_not_wait_for_other_log() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        // Patient enough that only a replica can answer, and that a wait for the background writer would be seen.
        let settings = Settings { wait_budget: Duration::from_secs(15), ..Settings::default() };
        let settings = Settings { load_time_max: Duration::from_secs(40), ..settings };
        let instance = Instance::alone(over(&cluster).settings(settings)).await?;
        let session = Session::new();
        write_to_the_end_of_a_page(&cluster, &instance, &session).await?;
        let raw = insert(cluster.primary()).await?;
        let token = session.token().positions(instance.store.history().system_identifier()).last().unwrap();
        assert_eq!(token.lsn.offset(), raw - 24, "the token is floored to the page's start");
        let begun = Instant::now();
        let options = ReadOptions::default().or_else(Fallback::Error);
        let read = instance.rows.get_with(&session, &1, &options).await?;
        println!("a token at a page boundary: answered by {:?} after {:?}", read.rung, begun.elapsed());
        assert_eq!(read.rung, Rung::Replica);
        assert_eq!(read.value.unwrap().name, "boundary");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(insert(cluster.primary()).await?, raw, "nothing else was logged meanwhile");
        Ok(())
    })
}

/// The strict tag of a primary fill would stay below the newest token for up to 20 s.
#[test]
fn without_replicas_everybody_gets_hits_again_within_a_second_of_a_write() -> Result {
    run(async {
        let (cluster, redis) = (cluster(0).await?, RedisServer::start().await?);
        let one = Instance::sharing(over(&cluster), &redis).await?;
        let two = Instance::sharing(over(&cluster), &redis).await?;
        let (writer, anybody) = (Session::new(), Session::new());
        for round in 0..5 {
            sleep(Duration::from_millis(300)).await;
            let name = format!("round {round}");
            one.write(&writer, 1, &name).await?;
            let begun = Instant::now();
            let elsewhere = Session::from_token(writer.token());
            for (instance, session) in [(&one, &writer), (&one, &anybody), (&two, &elsewhere), (&two, &anybody)] {
                loop {
                    let read = instance.get(session, 1).await?;
                    if read.rung == Rung::Local && read.value.as_ref().is_some_and(|row| row.name == name) {
                        break;
                    }
                    assert!(begun.elapsed() < Duration::from_secs(1), "round {round}: {read:?}");
                    sleep(Duration::from_millis(10)).await;
                }
            }
            println!("everybody has hits again {:?} after the write", begun.elapsed());
        }
        assert!(one.store.stats().counts.nudges >= 1);
        Ok(())
    })
}
