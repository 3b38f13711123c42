//! Redis killed, frozen, wiped, refused, and a bus whose messages are all lost: it costs speed and nothing else.

use crate::support::{Instance, Result, Rows, cluster, over, put, run, until};
use crate::traffic::Traffic;
use highwater::ledger::NOTICE_NAMES_MAX;
use highwater::testkit::{Cluster, Proxy, RedisServer};
use highwater::{BusState, RedisSettings, Session, Settings};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The bus must be live again this long after Redis is back, however long it was away.
const BACK_TIME_MAX: Duration = Duration::from_secs(5);

struct Scene {
    _cluster: Cluster,
    redis: RedisServer,
    one: Instance,
    two: Instance,
}

impl Scene {
    async fn set() -> Result<Self> {
        Self::with(RedisServer::start().await?, RedisServer::url).await
    }

    async fn with(redis: RedisServer, url: impl Fn(&RedisServer) -> String) -> Result<Self> {
        let cluster = cluster(1).await?;
        let one = Instance::new(over(&cluster).redis(url(&redis)), Rows::default(), true).await?;
        let two = Instance::new(over(&cluster).redis(url(&redis)), Rows::default(), true).await?;
        let scene = Self { _cluster: cluster, redis, one, two };
        scene.both(BusState::Live).await?;
        Ok(scene)
    }

    async fn both(&self, state: BusState) -> Result<Duration> {
        let begun = Instant::now();
        self.one.until_bus(state).await?;
        self.two.until_bus(state).await?;
        Ok(begun.elapsed())
    }

    /// Waits for the bus to be live after Redis came back, and shows that it carries messages.
    async fn recovered(&self, what: &str) -> Result {
        let begun = Instant::now();
        let took = self.both(BusState::Live).await?;
        let heard = |it: &Instance| it.store.stats().watermark.is_some_and(|it| it.position.is_some());
        until("an epoch to begin", BACK_TIME_MAX, async || heard(&self.one) && heard(&self.two)).await?;
        let begun = begun.elapsed();
        println!("{what}: the bus is live again {took:?} after Redis is back, and an epoch has begun after {begun:?}");
        assert!(begun <= BACK_TIME_MAX, "{what}: {begun:?}");
        let (writer, anybody) = (Session::new(), Session::new());
        self.two.get(&anybody, 1).await?;
        let told = self.one.write(&writer, 1, what).await?.told;
        let heard = async || self.two.name(&anybody, 1).await.is_ok_and(|name| name.as_deref() == Some(what));
        until("a message after the return", Duration::from_secs(5), heard).await?;
        println!("{what}: told at once: {told}");
        Ok(())
    }
}

#[test]
fn redis_killed_for_a_second() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let traffic = Traffic::over(&[&scene.one, &scene.two]);
        sleep(Duration::from_secs(1)).await;
        scene.redis.kill().await?;
        sleep(Duration::from_secs(1)).await;
        scene.redis.start_again().await?;
        scene.recovered("killed for 1 s").await?;
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "Redis can only cost speed");
        let counts = scene.one.store.stats().counts;
        assert!(counts.shared_errors > 0 && counts.retractions_deferred > 0, "{counts:?}");
        Ok(())
    })
}

#[test]
fn redis_killed_for_twenty_seconds() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let traffic = Traffic::over(&[&scene.one, &scene.two]);
        sleep(Duration::from_millis(500)).await;
        scene.redis.kill().await?;
        let deaf = scene.both(BusState::Deaf).await?;
        println!("killed: deaf after {deaf:?}");
        assert!(deaf <= Duration::from_secs(3), "{deaf:?}");
        sleep(Duration::from_secs(5)).await;
        // The rest of the outage without a crowd, which would only keep the processors from other tests.
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "Redis can only cost speed");
        sleep(Duration::from_secs(15)).await;
        let traffic = Traffic::over(&[&scene.one, &scene.two]);
        scene.redis.start_again().await?;
        scene.recovered("killed for 20 s").await?;
        traffic.end().await?;
        Ok(())
    })
}

#[test]
fn redis_frozen() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let traffic = Traffic::over(&[&scene.one, &scene.two]);
        sleep(Duration::from_millis(500)).await;
        scene.redis.freeze().await?;
        let deaf = scene.both(BusState::Deaf).await?;
        println!("frozen: deaf after {deaf:?}");
        assert!(deaf <= Duration::from_millis(3_500), "{deaf:?}");
        sleep(Duration::from_secs(3)).await;
        scene.redis.thaw().await?;
        scene.recovered("frozen").await?;
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "Redis can only cost speed");
        Ok(())
    })
}

#[test]
fn redis_that_refuses_the_channel() -> Result {
    run(async {
        let rights = "on >pass ~highwater:* &highwater:* +@all";
        let redis = RedisServer::builder().user("app", rights).start().await?;
        let scene = Scene::with(redis, |redis| redis.url_as("app", "pass")).await?;
        let mut admin = scene.redis.connect().await?;
        let mut acl =
            async |rule: &str| redis::cmd("ACL").arg("SETUSER").arg("app").arg(rule).exec_async(&mut admin).await;
        let traffic = Traffic::over(&[&scene.one, &scene.two]);
        sleep(Duration::from_millis(500)).await;
        // Redis ends the subscriptions, and refuses new ones on connections that it lets in as ever.
        acl("resetchannels").await?;
        let deaf = scene.both(BusState::Deaf).await?;
        println!("refused: deaf after {deaf:?}");
        sleep(Duration::from_secs(3)).await;
        acl("&highwater:*").await?;
        scene.recovered("refused").await?;
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "Redis can only cost speed");
        Ok(())
    })
}

#[test]
fn redis_wiped() -> Result {
    run(async {
        let scene = Scene::set().await?;
        let traffic = Traffic::over(&[&scene.one, &scene.two]);
        for _ in 0..5 {
            sleep(Duration::from_millis(500)).await;
            scene.redis.flush().await?;
        }
        scene.recovered("wiped").await?;
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "Redis can only cost speed");
        // The log came with another identity, which tells everybody that something may be missing.
        assert!(scene.one.store.stats().counts.gaps > 0, "{:?}", scene.one.store.stats().counts);
        Ok(())
    })
}

/// The server takes everything and publishes it; nothing of it is heard. So no floor is raised from elsewhere, and the
/// shared tier works as ever.
#[test]
fn with_every_message_dropped_nobody_misses_their_own_write() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let settings = Settings { deaf_age_max: Duration::from_secs(2), ..Settings::default() };
        let deaf = async |proxy: &Proxy| -> Result<Instance> {
            let settings = settings.clone();
            let builder = over(&cluster).redis(RedisSettings::new(proxy.redis_url())).settings(settings);
            Instance::new(builder, Rows::default(), true).await
        };
        let proxies = [Proxy::start(redis.address()).await?, Proxy::start(redis.address()).await?];
        let (one, two) = (deaf(&proxies[0]).await?, deaf(&proxies[1]).await?);
        one.until_bus(BusState::Live).await?;
        two.until_bus(BusState::Live).await?;
        // A server that takes PUBLISH and delivers it to nobody: the command itself is refused no right.
        let mut admin = redis.connect().await?;
        redis::cmd("ACL").arg(&["SETUSER", "default", "-subscribe"]).exec_async(&mut admin).await?;
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).exec_async(&mut admin).await?;
        let traffic = Traffic::over(&[&one, &two]);
        let (writer, anybody) = (Session::new(), Session::new());
        two.get(&anybody, 1).await?;
        let receipt = one.write(&writer, 1, "unheard").await?;
        assert!(receipt.told, "Redis took it");
        assert_eq!(two.name(&Session::from_token(writer.token()), 1).await?.as_deref(), Some("unheard"));
        one.until_bus(BusState::Deaf).await?;
        two.until_bus(BusState::Deaf).await?;
        sleep(Duration::from_secs(4)).await;
        // Without a token what is served is bounded by age.
        assert_eq!(two.name(&anybody, 1).await?.as_deref(), Some("unheard"));
        let heard = two.store.stats().counts.retractions_heard;
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "Redis can only cost speed");
        assert_eq!(two.store.stats().counts.retractions_heard, heard, "nothing was heard");
        assert!(two.rows.stats().misses_deaf > 0, "{:?}", two.rows.stats());
        redis::cmd("ACL").arg(&["SETUSER", "default", "+subscribe"]).exec_async(&mut admin).await?;
        let begun = Instant::now();
        one.until_bus(BusState::Live).await?;
        two.until_bus(BusState::Live).await?;
        println!("allowed again: live after {:?}", begun.elapsed());
        assert!(begun.elapsed() <= BACK_TIME_MAX);
        Ok(())
    })
}

/// A retraction of as many keys as go into one message is more than Redis keeps for a subscriber (the first 16 KB do not
/// count), so it closes all subscriptions instead of delivering it. Everybody has to notice, and reads stay right.
#[test]
fn redis_cuts_its_subscribers() -> Result {
    run(async {
        let limit = "pubsub 4kb 0 0";
        let redis = RedisServer::builder().config("client-output-buffer-limit", limit).start().await?;
        let scene = Scene::with(redis, RedisServer::url).await?;
        let (one, two) = (&scene.one, &scene.two);
        let traffic = Traffic::over(&[one, two]);
        let (writer, anybody) = (Session::new(), Session::new());
        let heard = two.store.stats().counts;
        for round in 0..3 {
            let name = format!("cut {round}");
            two.get(&anybody, 1).await?;
            let mut tx = one.store.begin(&writer).await?;
            put(&tx, 1, &name).await?;
            for id in 1..=NOTICE_NAMES_MAX {
                tx.retract(&one.rows, &i64::try_from(id)?);
            }
            assert!(tx.commit().await?.told, "Redis took it");
            // The writer's own read, at the instance that was told nothing.
            let own = two.name(&Session::from_token(writer.token()), 1).await?;
            assert_eq!(own.as_deref(), Some(name.as_str()));
            until("the cut to be noticed", Duration::from_secs(5), async || {
                two.store.stats().counts.deaf > heard.deaf + round && one.store.stats().counts.deaf > round
            })
            .await?;
            scene.recovered(&format!("cut, round {round}")).await?;
        }
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "Redis can only cost speed");
        let log = scene.redis.log_tail();
        assert!(log.contains("output buffer limits"), "it was cut for another reason: {log}");
        Ok(())
    })
}

/// The network swallows what Redis sends, on all connections: answers and messages.
#[test]
fn a_network_that_loses_what_redis_sends() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let proxy = Proxy::start(redis.address()).await?;
        let one = Instance::new(over(&cluster).redis(proxy.redis_url()), Rows::default(), true).await?;
        let two = Instance::sharing(over(&cluster), &redis).await?;
        one.until_bus(BusState::Live).await?;
        let traffic = Traffic::over(&[&one, &two]);
        sleep(Duration::from_millis(500)).await;
        proxy.blackhole_to_client();
        one.until_bus(BusState::Deaf).await?;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(two.store.stats().bus, BusState::Live, "the other one's way to Redis is its own");
        proxy.heal().await?;
        let took = one.until_bus(BusState::Live).await?;
        println!("one direction lost: live {took:?} after the network healed");
        assert!(took <= BACK_TIME_MAX);
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "Redis can only cost speed");
        Ok(())
    })
}
