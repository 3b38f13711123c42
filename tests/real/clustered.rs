//! Instances over a real Redis Cluster whose nodes are killed, come back empty, or are taken over by their replicas.

use crate::support::{Instance, Result, Rows, cluster, over, run, until};
use crate::traffic::Traffic;
use highwater::testkit::{Cluster, RedisCluster};
use highwater::{BusState, RedisSettings, Rung, Session};
use std::time::Duration;
use tokio::time::sleep;

struct Scene {
    _cluster: Cluster,
    redis: RedisCluster,
    one: Instance,
    two: Instance,
}

impl Scene {
    async fn over(redis: RedisCluster) -> Result<Self> {
        let cluster = cluster(1).await?;
        let shared = async || {
            let builder = over(&cluster).redis(RedisSettings::cluster(redis.urls()));
            Instance::new(builder, Rows::default(), true).await
        };
        let (one, two) = (shared().await?, shared().await?);
        let scene = Self { _cluster: cluster, redis, one, two };
        scene.hears().await?;
        Ok(scene)
    }

    async fn hears(&self) -> Result {
        self.one.until_bus(BusState::Live).await?;
        self.two.until_bus(BusState::Live).await.map(drop)
    }

    async fn owner_of_log(&self) -> Result<usize> {
        Ok(self.redis.owner_of("highwater:log").await?)
    }

    /// Both hear each other again, and what one fills the other finds.
    async fn shares_again(&self, row: i64) -> Result {
        self.hears().await?;
        let (writer, anybody) = (Session::new(), Session::new());
        let longest = Duration::from_secs(10);
        let told = async || self.one.write(&writer, row, "told").await.is_ok_and(|receipt| receipt.told);
        until("a write to be told", longest, told).await?;
        let heard = async || self.two.name(&anybody, row).await.is_ok_and(|name| name.as_deref() == Some("told"));
        until("a retraction to be heard", longest, heard).await?;
        for id in row + 1..row + 20 {
            let shared = async || {
                let (first, _) = (self.one.get(&anybody, id).await, sleep(Duration::from_millis(50)).await);
                first.is_ok() && self.two.get(&anybody, id).await.is_ok_and(|read| read.rung == Rung::Shared)
            };
            if shared().await {
                return Ok(());
            }
        }
        Err("nothing is shared any more".into())
    }
}

#[test]
fn two_instances_share_a_cluster_and_retract_one_another() -> Result {
    run(async {
        let scene = Scene::over(RedisCluster::start().await?).await?;
        let (one, two) = (&scene.one, &scene.two);
        let (writer, anybody) = (Session::new(), Session::new());
        for id in 1..=12 {
            one.get(&anybody, id).await?;
            sleep(Duration::from_millis(100)).await;
            assert_eq!(two.get(&anybody, id).await?.rung, Rung::Shared, "row {id}");
            assert!(two.write(&writer, id, "grace").await?.told);
            let elsewhere = Session::from_token(writer.token());
            assert_eq!(one.name(&elsewhere, id).await?.as_deref(), Some("grace"));
            let heard = async || one.name(&anybody, id).await.is_ok_and(|name| name.as_deref() == Some("grace"));
            until("the other instance to hear of it", Duration::from_secs(2), heard).await?;
        }
        let counts = one.store.stats().counts;
        assert_eq!((counts.retractions_heard, counts.gaps, counts.deaf, counts.unannounced), (12, 0, 0, 0));
        // What nothing has retracted answers the writer, too, once the watermark has come to its token.
        two.get(&anybody, 50).await?;
        two.write(&writer, 1, "joan").await?;
        let extended = async || two.get(&writer, 50).await.is_ok_and(|read| read.rung == Rung::Local);
        until("the watermark", Duration::from_secs(2), extended).await?;
        let traffic = Traffic::over(&[one, two]);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(traffic.end().await?.tally().reads_failed, 0);
        Ok(())
    })
}

#[test]
fn nodes_that_are_killed_and_come_back_empty() -> Result {
    run(async {
        for coverage in ["yes", "no"] {
            let redis = RedisCluster::builder().config("cluster-require-full-coverage", coverage).start().await?;
            let scene = Scene::over(redis).await?;
            let traffic = Traffic::over(&[&scene.one, &scene.two]);
            let log = scene.owner_of_log().await?;
            for node in [(log + 1) % 3, log] {
                sleep(Duration::from_secs(1)).await;
                let before = scene.one.store.stats().counts.deaf;
                scene.redis.servers()[node].kill().await?;
                sleep(Duration::from_millis(4_500)).await;
                // Where what is left goes on, only the log's node is listened to.
                if coverage == "no" {
                    assert_eq!(scene.one.store.stats().counts.deaf > before, node == log, "node {node}");
                }
                scene.redis.servers()[node].start_again().await?;
                scene.redis.wait_until_whole().await?;
                scene.shares_again(100 * (1 + node as i64)).await?;
            }
            traffic.end().await?;
        }
        Ok(())
    })
}

#[test]
fn nodes_whose_replicas_take_over() -> Result {
    run(async {
        let scene = Scene::over(RedisCluster::builder().with_replicas().start().await?).await?;
        let traffic = Traffic::over(&[&scene.one, &scene.two]);
        let log = scene.owner_of_log().await?;
        let before = scene.one.store.stats().counts.epochs;
        for node in [(log + 1) % 3, log] {
            sleep(Duration::from_secs(1)).await;
            // What it was told last may not have come to its replica.
            scene.redis.servers()[node].freeze().await?;
            sleep(Duration::from_secs(4)).await;
            scene.redis.servers()[node].thaw().await?;
            scene.redis.wait_until_whole().await?;
            scene.shares_again(100 * (1 + node as i64)).await?;
        }
        assert!(scene.owner_of_log().await? >= 3, "a replica has the log");
        assert!(scene.one.store.stats().counts.epochs > before, "and it is another one");
        traffic.end().await?;
        Ok(())
    })
}
