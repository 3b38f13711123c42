//! Configurations and requests that cannot work: each error names the thing and the remedy.

use crate::support::{Instance, Result, Rows, cluster, over, over_nodes, put, run, told};
use highwater::testkit::{Cluster, Node, RedisServer};
use highwater::{
    Error, HighwaterBuilder, KEYS_MAX, PostgresNode, ReadOptions, Repository, Retraction, Rung, Session, Settings,
    WriteError,
};
use std::time::Duration;
use tokio::time::Instant;

/// Connecting must fail as a configuration error that holds these words and no password.
async fn refused(builder: HighwaterBuilder, words: &[&str]) -> Result {
    let begun = Instant::now();
    let Err(error) = builder.connect().await else {
        return Err(format!("it was not refused; wanted {words:?}").into());
    };
    let text = told(&error);
    println!("{text}");
    assert!(error.is_configuration(), "{error:?}");
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text:?}");
    assert!(!format!("{text} {error:?}").contains("s3cret"), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    Ok(())
}

fn as_role(node: &Node, user: &str) -> PostgresNode {
    PostgresNode::new(format!("postgres://{user}:s3cret@127.0.0.1:{}/postgres?sslmode=disable", node.port()))
}

#[test]
fn addresses_that_cannot_be_read() -> Result {
    run(async {
        let cluster = cluster(0).await?;
        refused(highwater::Highwater::builder(), &["at least one server", "primary's URL"]).await?;
        for (url, word) in [
            ("postgres://app:s3cret@host:port/db", "server 2 of 2 (…@host:port)"),
            ("http://app:s3cret@host/db", "postgres://user@host"),
            ("postgres://app:s3cret@one,two/db", "server of its own"),
            ("postgres:///db?user=app&password=s3cret", "host"),
            ("s3cret", "cannot be read"),
            ("", "host"),
        ] {
            refused(over(&cluster).replica(url), &[word]).await?;
        }
        let again = cluster.primary().url().replace("postgres@", "app:s3cret@");
        refused(over(&cluster).primary(again), &[&cluster.primary().address().to_string(), "twice"]).await?;
        for (url, word) in [("redis://:s3cret@host:port", "Redis URL"), ("s3cret", "Redis URL"), ("", "Redis URL")] {
            refused(over(&cluster).redis(url), &[word]).await?;
        }
        refused(over(&cluster).postgres(|postgres| postgres.pool_size(0)), &["pool_size", "at least 1"]).await?;
        let zero = Duration::ZERO;
        for (name, settings) in [
            ("load_time_max", Settings { load_time_max: zero, ..Settings::default() }),
            ("probe_interval", Settings { probe_interval: zero, ..Settings::default() }),
            ("primary_loads_max", Settings { primary_loads_max: 0, ..Settings::default() }),
            ("floor_slots", Settings { floor_slots: 0, ..Settings::default() }),
            ("floor_slots", Settings { floor_slots: 1 << 40, ..Settings::default() }),
        ] {
            refused(over(&cluster).settings(settings), &[name]).await?;
        }
        Ok(())
    })
}

#[test]
fn servers_that_do_not_belong() -> Result {
    run(async {
        let ours = cluster(1).await?;
        let theirs = Cluster::builder().fresh_identity().replicas(1).start().await?;
        refused(over(&ours).replica(theirs.primary().url()), &["belongs to cluster", "check the URLs"]).await?;
        refused(over(&ours).replica(theirs.replica(0).url()), &["cluster", "check the URLs"]).await?;
        // A copy of the same cluster that takes writes of its own.
        let twin = Cluster::start(0).await?;
        let words = ["both take writes on timeline 1", "in recovery"];
        refused(over(&ours).replica(twin.primary().url()), &words).await?;
        let begun = Instant::now();
        let error = over_nodes(ours.replicas()).connect().await.unwrap_err();
        println!("{error}");
        assert!(error.is_unavailable() && error.to_string().contains("is in recovery"), "{error}");
        let error =
            highwater::Highwater::builder().primary("postgres://app@127.0.0.1:1/db?sslmode=disable").connect().await;
        assert!(error.as_ref().is_err_and(Error::is_unavailable), "{error:?}");
        // Each was given the ten seconds that a primary has to appear.
        assert!(begun.elapsed() < Duration::from_secs(24), "{:?}", begun.elapsed());
        // A replica that is away is no error: it joins later.
        ours.replica(0).kill().await?;
        let instance = Instance::alone(over(&ours)).await?;
        assert_eq!(instance.get(&Session::new(), 1).await?.rung, Rung::Primary);
        ours.replica(0).start().await?;
        instance.until_node(1, "standby").await?;
        assert_eq!(instance.get(&Session::new(), 2).await?.rung, Rung::Replica);
        Ok(())
    })
}

#[test]
fn users_without_the_rights() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let (primary, replica) = (cluster.primary(), cluster.replica(0));
        primary.execute("create role app login; grant select, insert, update on rows to app").await?;
        primary.execute("create role shut nologin").await?;
        cluster.wait_for_catchup().await?;
        let both = |user| over_nodes([]).primary(as_role(primary, user)).replica(as_role(replica, user));
        refused(both("nobody"), &["28"]).await?;
        refused(both("shut"), &["28"]).await?;
        let nowhere = format!("postgres://postgres@{}/nosuch?sslmode=disable", primary.address());
        refused(over_nodes([]).primary(nowhere), &["3D000", "nosuch"]).await?;
        refused(both("app"), &["GRANT pg_read_all_stats"]).await?;
        primary.execute("grant pg_read_all_stats to app").await?;
        cluster.wait_for_catchup().await?;
        // The remedy that was named suffices.
        let instance = Instance::alone(both("app")).await?;
        let session = Session::new();
        instance.write(&session, 1, "grace").await?;
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("grace"));
        Ok(())
    })
}

/// A server that asks for passwords, reached with a wrong one.
#[test]
fn wrong_passwords() -> Result {
    run(async {
        let cluster = cluster(0).await?;
        let primary = cluster.primary();
        primary.execute("create role app login password 'right'; grant pg_read_all_stats to app").await?;
        let path = primary.value("show hba_file").await?.unwrap();
        let rules = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("host all app 127.0.0.1/32 scram-sha-256\n{rules}"))?;
        primary.execute("select pg_reload_conf()").await?;
        primary.reload().await?;
        refused(over_nodes([]).primary(as_role(primary, "app")), &["28P01"]).await?;
        let url = format!("postgres://app@127.0.0.1:{}/postgres?sslmode=disable", primary.port());
        refused(over_nodes([]).primary(PostgresNode::new(url)), &["password"]).await?;
        let url = format!("postgres://app:right@127.0.0.1:{}/postgres?sslmode=disable", primary.port());
        over_nodes([]).primary(PostgresNode::new(url)).connect().await?.close().await;
        Ok(())
    })
}

#[test]
fn a_redis_that_refuses() -> Result {
    run(async {
        let cluster = cluster(0).await?;
        let redis = RedisServer::builder()
            .password("right")
            .user("scriptless", "on >s3cret ~* &* +@all -eval -evalsha")
            .user("mute", "on >s3cret ~* resetchannels +@all")
            .start()
            .await?;
        let at = redis.address();
        for (url, words) in [
            (format!("redis://:s3cret@{at}/"), ["password", "ACL SETUSER"]),
            (format!("redis://{at}/"), ["wants a password", "URL"]),
            (redis.url_as("scriptless", "s3cret"), ["lacks a right", "+evalsha"]),
            (redis.url_as("mute", "s3cret"), ["lacks a right", "&<namespace>:*"]),
        ] {
            refused(over(&cluster).redis(url), &words).await?;
        }
        let mut admin = redis.connect().await?;
        redis::cmd("SET").arg("highwater:log").arg("mine").exec_async(&mut admin).await?;
        refused(over(&cluster).redis(redis.url()), &["highwater:log"]).await?;
        redis::cmd("DEL").arg("highwater:log").exec_async(&mut admin).await?;
        Instance::sharing(over(&cluster), &redis).await?;
        let old = RedisServer::builder().config("rename-command", "EVALSHA \"\"").start().await?;
        refused(over(&cluster).redis(old.url()), &["does not know a command"]).await
    })
}

#[test]
fn caches_and_names_that_cannot_be() -> Result {
    run(async {
        let cluster = cluster(0).await?;
        let store = over(&cluster).connect().await?;
        let cache = |name: &str| store.cache(name, Rows::default());
        for (error, words) in [
            (cache("").build().unwrap_err(), "1 to"),
            (cache(&"x".repeat(5_000)).build().unwrap_err(), "1 to"),
            (cache("rows").max_capacity(0).build().unwrap_err(), "max_capacity"),
            (cache("rows").time_to_live(Duration::ZERO).build().unwrap_err(), "time_to_live"),
            (cache("rows").time_to_live(Duration::MAX).build().unwrap_err(), "30 days"),
            (cache("rows").time_to_idle(Duration::ZERO).build().unwrap_err(), "time_to_idle"),
            (cache("rows").shared().build().unwrap_err(), "Redis URL"),
        ] {
            assert!(error.is_configuration() && error.to_string().contains(words), "{words:?} in {error}");
        }
        let rows = cache("rows").build()?;
        let many = vec![1; KEYS_MAX + 1];
        let error = rows.get_many(&Session::new(), &many, &ReadOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains("1024"), "{error}");
        let mut retraction = Retraction::new();
        retraction.group(&"x".repeat(5_000));
        let error = store.capture(&Session::new(), retraction).await.unwrap_err();
        assert!(error.to_string().contains("5000"), "{error}");
        Ok(())
    })
}

/// Rows by name, of any size.
struct Texts;

impl Repository for Texts {
    type Key = String;
    type Value = String;
    type Error = highwater::source::postgres::QueryError;

    async fn load(&self, on: &highwater::Routed, key: &String) -> Result<Option<String>, Self::Error> {
        let size = i32::try_from(key.len()).unwrap_or(0) * 2_000;
        Ok(Some(on.query_one("select repeat('x', $1)", &[&size]).await?.get(0)))
    }
}

#[test]
fn what_is_too_large() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let instance = Instance::sharing(over(&cluster), &redis).await?;
        let texts = instance.store.cache("texts", Texts).shared().build()?;
        let session = Session::new();
        let error = texts.get(&session, &"k".repeat(100_000)).await.unwrap_err();
        assert!(error.as_cache().is_some_and(Error::is_key), "{error}");
        assert!(error.to_string().contains("\"texts\"") && error.to_string().contains("limit"), "{error}");
        // Two megabytes are read, kept here, and not given to Redis.
        let big = "k".repeat(1_000);
        assert_eq!(texts.get(&session, &big).await?.value.unwrap().len(), 2_000_000);
        assert_eq!(texts.get(&session, &big).await?.rung, Rung::Local);
        assert_eq!(texts.stats().fills_oversized, 1);
        let mut tx = instance.store.begin(&session).await?;
        put(&tx, 1, "never").await?;
        tx.retract(&texts, &"k".repeat(100_000));
        let error = tx.commit().await.unwrap_err();
        assert!(matches!(&error, WriteError::Store(error) if error.is_key()), "{error:?}");
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("ada"), "it did not go ahead");
        Ok(())
    })
}

#[test]
fn a_closed_store() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let Instance { store, rows, .. } = Instance::sharing(over(&cluster), &redis).await?;
        let session = Session::new();
        let open = store.begin(&session).await?;
        put(&open, 1, "unfinished").await?;
        rows.get(&session, &1).await?;
        store.close().await;
        store.close().await;
        assert!(store.begin(&session).await.unwrap_err().is_closed());
        assert!(store.token().await.unwrap_err().is_closed());
        assert!(store.capture(&session, Retraction::new()).await.unwrap_err().is_closed());
        let read = rows.get(&session, &7).await.unwrap_err();
        assert!(read.as_cache().is_some_and(Error::is_closed) && read.to_string().contains("closed"), "{read}");
        let error = rows.get_many(&session, &[8, 9], &ReadOptions::default()).await.unwrap_err();
        assert!(error.as_cache().is_some_and(Error::is_closed), "{error}");
        let ended = open.commit().await;
        println!("a transaction begun before: {ended:?}");
        let name = cluster.primary().value("select name from rows where id = 1").await?;
        match ended {
            Ok(_) => assert_eq!(name.as_deref(), Some("unfinished")),
            Err(WriteError::Store(_) | WriteError::RolledBack(_)) => assert_eq!(name.as_deref(), Some("ada")),
            Err(other) => return Err(other.into()),
        }
        Ok(())
    })
}
