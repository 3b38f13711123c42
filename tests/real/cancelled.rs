//! Futures that are dropped half-way, after every number of polls.

use crate::dropped::dropped_after;
use crate::support::{Instance, Result, Row, Rows, WRITE, cluster, over, put, run, until};
use highwater::source::postgres::QueryError;
use highwater::testkit::{Cluster, RedisServer};
use highwater::{HighwaterBuilder, Read, ReadOptions, Retraction, Session};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// More polls than any of the futures takes.
const POLLS_MAX: usize = 300;

/// What an operation takes at most when something was left in its way by one that was dropped; the machine is busy.
const QUICK: Duration = Duration::from_millis(1_500);

/// How the connections of these tests call themselves.
const NAME: &str = "dropped";

/// Two connections, so that one that is lost is missed.
fn narrow(cluster: &Cluster) -> HighwaterBuilder {
    over(cluster).postgres(|postgres| postgres.pool_size(2).application_name(NAME))
}

struct Scene {
    cluster: Cluster,
    _redis: RedisServer,
    instance: Instance,
    other: Instance,
}

impl Scene {
    async fn set() -> Result<Self> {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        cluster.primary().execute("insert into rows select n, 1, 0, 'row' from generate_series(2, 3000) n").await?;
        cluster.wait_for_catchup().await?;
        let instance = Instance::sharing(narrow(&cluster), &redis).await?;
        let other = Instance::sharing(over(&cluster), &redis).await?;
        Ok(Self { cluster, _redis: redis, instance, other })
    }

    /// No session of ours is in the middle of anything, on any server, and all connections can be used.
    async fn is_clean(&self) -> Result {
        let sql = format!(
            "select count(*) from pg_stat_activity where application_name = '{NAME}' \
             and state <> 'idle' and pid <> pg_backend_pid()"
        );
        for node in self.cluster.nodes() {
            until("every session to be idle", Duration::from_secs(5), async || {
                node.value(&sql).await.is_ok_and(|count| count.as_deref() == Some("0"))
            })
            .await?;
        }
        let (one, two) = (Session::new(), Session::new());
        let begun = Instant::now();
        let (first, second) = tokio::join!(self.instance.store.begin(&one), self.instance.store.begin(&two));
        drop((first?, second?));
        // The connections of transactions that were dropped are closed; the pool gives others.
        let (first, second) =
            tokio::join!(self.instance.write(&one, 2_999, "first"), self.instance.write(&two, 3_000, "second"));
        first?;
        second?;
        assert_eq!(self.instance.name(&one, 2_999).await?.as_deref(), Some("first"));
        assert!(begun.elapsed() < 3 * QUICK, "{:?}", begun.elapsed());
        let sessions = format!("select count(*) from pg_stat_activity where application_name = '{NAME}'");
        for node in self.cluster.nodes() {
            until("no connections beyond the pool's", Duration::from_secs(5), async || {
                let count = node.value(&sessions).await.ok().flatten().and_then(|count| count.parse::<u32>().ok());
                count.is_some_and(|count| count <= 3)
            })
            .await?;
        }
        Ok(())
    }
}

/// Drops what `begin` gives after 1, 2, 3, ... polls, until it comes to its end by itself, three times over; each time
/// the next operation must be quick. Returns the most polls that it took.
async fn at_every_poll<F: Future<Output: Into<Result>>>(
    scene: &Scene,
    mut begin: impl FnMut(i64) -> F,
) -> Result<usize> {
    let (mut ended, mut number, mut most) = (0, 0, 0);
    for polls in 1..POLLS_MAX {
        number += 1;
        match dropped_after(polls, begin(number)).await {
            Some(outcome) => {
                outcome.into()?;
                ended += 1;
                most = most.max(polls);
                if ended == 3 {
                    break;
                }
            }
            None => ended = 0,
        }
        // The local clock of a future is its polls: other tasks get a chance to come further, or not.
        if polls % 3 == 0 {
            sleep(Duration::from_millis(2)).await;
        }
        let begun = Instant::now();
        timeout(4 * QUICK, scene.instance.get(&Session::new(), 2_000 + number)).await??;
        assert!(begun.elapsed() < QUICK, "after {polls} polls the next read took {:?}", begun.elapsed());
    }
    assert_eq!(ended, 3, "it never came to an end");
    scene.is_clean().await?;
    Ok(most)
}

fn checked(read: Read<Row>) -> Result {
    read.value.map(drop).ok_or_else(|| "the row is missing".into())
}

#[test]
fn reads() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let (rows, session) = (&scene.instance.rows, Session::new());
        let get = at_every_poll(&scene, |n| {
            let session = &session;
            async move { checked(rows.get(session, &n).await?) }
        });
        println!("get: {} polls", get.await?);
        // A floor that no replica is at yet, so that every rung is tried.
        let writer = Session::new();
        scene.other.write(&writer, 1, "floor").await?;
        let fresh = ReadOptions::fresh(highwater::Freshness::AtLeast(writer.token()));
        let get_with = at_every_poll(&scene, |n| {
            let (session, fresh) = (&session, &fresh);
            async move { checked(rows.get_with(session, &(300 + n), fresh).await?) }
        });
        println!("get_with: {} polls", get_with.await?);
        let latest = ReadOptions::fresh(highwater::Freshness::Latest);
        let get_latest = at_every_poll(&scene, |n| {
            let (session, latest) = (&session, &latest);
            async move { checked(rows.get_with(session, &(600 + n), latest).await?) }
        });
        println!("get_with, latest: {} polls", get_latest.await?);
        let monotonic = Session::monotonic();
        let get_many = at_every_poll(&scene, |n| {
            let monotonic = &monotonic;
            async move {
                let keys: Vec<i64> = (0..3).map(|at| 900 + 3 * n + at).collect();
                let reads = rows.get_many(monotonic, &keys, &ReadOptions::default()).await?;
                reads.into_iter().try_for_each(checked)
            }
        });
        println!("get_many: {} polls", get_many.await?);
        Ok(())
    })
}

#[test]
fn begin_and_statements() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let (store, session) = (&scene.instance.store, Session::new());
        let begin = at_every_poll(&scene, |_| {
            let session = &session;
            async move {
                store.begin(session).await?;
                Ok(())
            }
        });
        println!("begin: {} polls", begin.await?);
        let mut most = 0;
        for polls in 1..POLLS_MAX {
            let id = 1_000 + i64::try_from(polls)?;
            let tx = store.begin(&session).await?;
            let statement = dropped_after(polls, async {
                put(&tx, id, "half").await?;
                tx.query("select pg_sleep(0.005)", &[]).await?;
                tx.execute("update rows set op = 1 where id = $1", &[&id]).await
            });
            let ended = statement.await.transpose()?.is_some();
            let committed = tx.commit().await;
            let name = scene.cluster.primary().value(&format!("select name from rows where id = {id}")).await?;
            let expected = if ended { "half" } else { "row" };
            assert_eq!(committed.is_ok(), ended, "after {polls} polls: {committed:?}");
            assert_eq!(name.as_deref(), Some(expected), "after {polls} polls: {committed:?}");
            if ended {
                most = polls;
                break;
            }
        }
        println!("statements: {most} polls");
        assert!(most > 0);
        scene.is_clean().await
    })
}

#[test]
fn writes() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let (store, rows) = (&scene.instance.store, &scene.instance.rows);
        let (mut through, mut ended) = (0, 0);
        for polls in 1..POLLS_MAX {
            let id = i64::try_from(polls)? + 10;
            let session = Session::new();
            scene.hold(id).await?;
            let whole = store.write(&session, async |tx| {
                tx.query_one(WRITE, &[&id, &0_i64, &"written"]).await?;
                tx.retract(rows, &id);
                Ok::<_, QueryError>(())
            });
            ended += usize::from(dropped_after(polls, whole).await.transpose()?.is_some());
            through += usize::from(scene.is_written_and_covered(&session, id).await?);
            if ended == 3 {
                println!("write: up to {polls} polls; {through} went through, {ended} came to their end");
                break;
            }
        }
        assert!(ended == 3 && through >= ended, "{through} {ended}");
        scene.is_clean().await
    })
}

/// Once it was polled a commit goes on to its end, whoever goes away.
#[test]
fn commits() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let mut ended = 0;
        for round in 0..20 {
            let id = 10 + round;
            let session = Session::new();
            scene.hold(id).await?;
            let mut tx = scene.instance.store.begin(&session).await?;
            put(&tx, id, "written").await?;
            tx.retract(&scene.instance.rows, &id);
            let polls = 1 + usize::try_from(round % 2)?;
            ended += usize::from(dropped_after(polls, tx.commit()).await.transpose()?.is_some());
            assert!(scene.is_written_and_covered(&session, id).await?, "after {polls} polls");
        }
        println!("commit: 20 went through, {ended} came to their end");
        assert!(ended <= 10, "a commit takes more than one poll");
        scene.is_clean().await
    })
}

impl Scene {
    /// Both instances hold the row.
    async fn hold(&self, id: i64) -> Result {
        self.instance.get(&Session::new(), id).await?;
        self.other.get(&Session::new(), id).await?;
        Ok(())
    }

    /// Whether a write of the row went through. If so, its session is covered and everybody is told; if not, not.
    async fn is_written_and_covered(&self, session: &Session, id: i64) -> Result<bool> {
        settled(self).await?;
        let name = self.cluster.primary().value(&format!("select name from rows where id = {id}")).await?;
        if name.as_deref() != Some("written") {
            assert!(session.token().is_empty());
            return Ok(false);
        }
        assert!(!session.token().is_empty(), "the write of row {id} is not covered");
        assert_eq!(self.instance.name(session, id).await?.as_deref(), Some("written"));
        let anybody = Session::new();
        for instance in [&self.instance, &self.other] {
            let told = async || instance.name(&anybody, id).await.is_ok_and(|name| name.as_deref() == Some("written"));
            until("everybody to be told", Duration::from_secs(3), told).await?;
        }
        Ok(true)
    }
}

/// No transaction is under way any more, and what follows a commit has had its time.
async fn settled(scene: &Scene) -> Result {
    let sql = format!(
        "select count(*) from pg_stat_activity where application_name = '{NAME}' \
         and (state <> 'idle' or backend_xid is not null) and query not like '%pg_stat%'"
    );
    until("transactions to end", Duration::from_secs(5), async || {
        scene.cluster.primary().value(&sql).await.is_ok_and(|count| count.as_deref() == Some("0"))
    })
    .await?;
    sleep(Duration::from_millis(30)).await;
    Ok(())
}

#[test]
fn captures_and_positions() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let (store, session) = (&scene.instance.store, Session::new());
        let capture = at_every_poll(&scene, |n| {
            let (session, mut retraction) = (&session, Retraction::new());
            retraction.key(&scene.instance.rows, &n);
            async move {
                store.capture(session, retraction).await?;
                Ok(())
            }
        });
        println!("capture: {} polls", capture.await?);
        let position = at_every_poll(&scene, |_| async move {
            store.token().await?;
            Ok(())
        });
        println!("position: {} polls", position.await?);
        Ok(())
    })
}

#[test]
fn connecting_and_closing() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let sessions = format!("select count(*) from pg_stat_activity where application_name = '{NAME}'");
        let mut stores = Vec::new();
        let mut ended = 0;
        for polls in 1..POLLS_MAX {
            let builder = narrow(&cluster).redis(redis.url());
            if let Some(store) = dropped_after(polls, builder.connect()).await {
                stores.push(store?);
                ended += 1;
            }
            if ended == 3 {
                println!("connect: {polls} polls");
                break;
            }
        }
        assert_eq!(ended, 3);
        for (polls, store) in (1..).zip(stores) {
            let rows = store.cache("rows", Rows::default()).build()?;
            rows.get(&Session::new(), &1).await?;
            dropped_after(polls, store.close()).await;
            let error = rows.get(&Session::new(), &2).await.unwrap_err();
            assert!(error.as_cache().is_some_and(highwater::Error::is_closed), "{error}");
            timeout(Duration::from_secs(5), store.close()).await?;
        }
        for node in cluster.nodes() {
            until("every connection to be closed", Duration::from_secs(5), async || {
                node.value(&sessions).await.is_ok_and(|count| count.as_deref() == Some("0"))
            })
            .await?;
        }
        let mut admin = redis.connect().await?;
        until("every connection to Redis to be closed", Duration::from_secs(5), async || {
            let list: String =
                redis::cmd("CLIENT").arg("LIST").query_async(&mut admin.clone()).await.unwrap_or_default();
            list.lines().count() == 1
        })
        .await?;
        let _: () = redis::cmd("PING").exec_async(&mut admin).await?;
        Ok(())
    })
}
