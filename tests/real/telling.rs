//! What the store tells of itself: counters that add up, and logs without secrets.

use crate::support::{Instance, Result, cluster, over_nodes, put, run};
use highwater::testkit::{Node, Proxy, RedisServer};
use highwater::{BusState, PostgresNode, ReadOptions, Retraction, Rung, Session};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

#[test]
fn the_counters_add_up() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let one = Instance::sharing(over_nodes(cluster.nodes()), &redis).await?;
        let two = Instance::sharing(over_nodes(cluster.nodes()), &redis).await?;
        let (session, anybody) = (Session::new(), Session::new());
        for id in 1..=10 {
            one.get(&anybody, id).await?;
            one.get(&anybody, id).await?;
        }
        sleep(Duration::from_millis(200)).await;
        two.rows.get_many(&anybody, &(1..=10).collect::<Vec<_>>(), &ReadOptions::default()).await?;
        for id in 1..=3 {
            one.write(&session, id, "new").await?;
        }
        drop(one.store.begin(&session).await?);
        sleep(Duration::from_millis(200)).await;
        for id in 1..=10 {
            two.get(&anybody, id).await?;
        }
        let (stats, other) = (one.rows.stats(), two.rows.stats());
        assert_eq!((stats.hits_local, stats.misses_absent), (10, 10), "{stats:?}");
        assert_eq!(stats.loads_replica + stats.loads_primary, one.loads() as u64, "{stats:?}");
        assert_eq!((other.hits_shared, other.misses_retracted, other.hits_local), (10, 3, 7), "{other:?}");
        assert_eq!(other.loads_replica + other.loads_primary, 3, "{other:?}");
        let (store, heard) = (one.store.stats(), two.store.stats());
        assert_eq!((store.counts.commits, store.counts.rollbacks, store.counts.unknown_outcomes), (3, 0, 0));
        assert_eq!((store.counts.retractions_told, heard.counts.retractions_heard), (3, 3));
        assert_eq!((heard.counts.gaps, heard.counts.deaf, heard.counts.shared_errors), (0, 0, 0));
        assert_eq!(heard.bus, BusState::Live);
        assert!(heard.deaf_time > Duration::ZERO && heard.deaf_time < Duration::from_secs(5), "{:?}", heard.deaf_time);
        let states: Vec<&str> = store.nodes.iter().map(|node| node.state.as_str()).collect();
        assert_eq!(states, ["primary on timeline 1", "standby on timeline 1"]);
        assert!(store.nodes[1].lag_bytes.is_some() && store.nodes.iter().all(|node| node.loads == 0), "{store:?}");
        for (node, stats) in cluster.nodes().zip(&store.nodes) {
            assert_eq!(stats.name, format!("127.0.0.1:{}", node.port()), "the name by which it was given");
        }
        Ok(())
    })
}

/// Everything that is logged, at every level, by every crate.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const SECRETS: [&str; 6] = ["hunter2", "swordfish", "4815162342", "v4lue-of-a-row", "gr0up-of-a-row", "app_user"];

fn with_password(node: &Node) -> PostgresNode {
    let url = format!("postgres://app_user:swordfish@127.0.0.1:{}/postgres?sslmode=disable", node.port());
    PostgresNode::new(url)
}

/// A day in which everything happens that is worth a line: reads and writes, errors of the application, servers that go
/// and come, lost answers, refused users.
async fn an_eventful_day(log: &Lines) -> Result {
    let cluster = cluster(1).await?;
    for sql in
        ["create role app_user login superuser password 'swordfish'", "insert into rows values (4815162342, 1, 0, 'x')"]
    {
        cluster.primary().execute(sql).await?;
    }
    cluster.wait_for_catchup().await?;
    let redis = RedisServer::builder().password("hunter2").start().await?;
    let proxy = Proxy::start(cluster.primary().address()).await?;
    let through = format!("postgres://app_user:swordfish@{}/postgres?sslmode=disable", proxy.address());
    let builder = over_nodes([]).primary(PostgresNode::new(through)).replica(with_password(cluster.replica(0)));
    let instance = Instance::sharing(builder, &redis).await?;
    let (session, id, value) = (Session::new(), 4_815_162_342, "gr0up-of-a-row/v4lue-of-a-row");
    instance.write(&session, id, value).await?;
    assert_eq!(instance.get(&session, id).await?.value.unwrap().name, value);
    let mut tx = instance.store.begin(&session).await?;
    tx.retract_group("gr0up-of-a-row").retract(&instance.rows, &id);
    // Refused, with the values in the server's own message.
    tx.execute("insert into rows values ($1, 1, 1, $2)", &[&id, &value]).await.unwrap_err();
    tx.commit().await.unwrap_err();
    proxy.cut_replies_after(b"COMMIT");
    let mut tx = instance.store.begin(&session).await?;
    put(&tx, id, value).await?;
    tx.retract(&instance.rows, &id);
    tx.commit().await.unwrap_err();
    redis.kill().await?;
    instance.write(&session, id, value).await?;
    instance.until_bus(BusState::Deaf).await?;
    cluster.replica(0).pause_replay().await?;
    instance.write(&session, id, value).await?;
    instance.get(&session, id).await?;
    cluster.replica(0).kill().await?;
    instance.get(&Session::new(), 7).await?;
    instance.until_node(1, "out").await?;
    redis.start_again().await?;
    cluster.replica(0).start().await?;
    instance.until_node(1, "standby").await?;
    instance.until_bus(BusState::Live).await?;
    let mut retraction = Retraction::new();
    retraction.key(&instance.rows, &id).group("gr0up-of-a-row");
    instance.store.capture(&session, retraction).await?;
    let read = instance.get(&session, id).await?;
    assert_ne!(read.rung, Rung::Local);
    // What an application would log of ours.
    let tx = instance.store.begin(&session).await?;
    writeln!(log.clone(), "{:?} {:?} {read:?} {session:?} {tx:?}", instance.store, instance.rows)?;
    writeln!(log.clone(), "{:?} {:?}", instance.store.stats(), instance.rows.stats())?;
    drop(tx);
    instance.store.close().await;
    let refused = over_nodes([]).primary("postgres://app_user:swordfish@127.0.0.1:x/postgres").connect().await;
    writeln!(log.clone(), "{:?}", refused.unwrap_err())?;
    let refused = over_nodes(cluster.nodes()).redis("redis://:hunter2@127.0.0.1:x").connect().await;
    writeln!(log.clone(), "{:?}", refused.unwrap_err())?;
    Ok(())
}

#[test]
fn no_log_holds_a_password_a_key_or_a_value() -> Result {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    // One thread and its own default, so that the other tests' lines are not in it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tracing::subscriber::with_default(subscriber.finish(), || {
        let day = Box::pin(an_eventful_day(&lines));
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), day).await })
    })??;
    let log = String::from_utf8(lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone())?;
    let ours = log.lines().filter(|line| line.contains("highwater")).count();
    println!("{} lines, {ours} of them ours", log.lines().count());
    for word in ["server is taken out", "server is back", "the bus is deaf", "outcome of a commit is unknown"] {
        assert!(log.contains(word), "{word:?} is not in the log, which is too poor to show anything:\n{log}");
    }
    // Positions are no secrets, but a token is: it says what its holder wrote and when.
    for secret in SECRETS {
        let found: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{secret} in {found:#?}");
    }
    Ok(())
}
