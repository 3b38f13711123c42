//! What happens to PostgreSQL.

use super::Target;
use crate::Result;
use crate::messages::now;
use highwater::testkit::Node;
use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What is under way when a server dies has been told, or never will be, this long after.
const TOLD: Duration = Duration::from_millis(500);

impl Target<'_> {
    pub(super) fn any_replica(&self, chance: &mut StdRng) -> &Node {
        let replicas = self.scene.replicas();
        replicas[chance.random_range(0..replicas.len())].1
    }

    fn any_node(&self, chance: &mut StdRng) -> &Node {
        self.scene.nodes()[chance.random_range(0..3)]
    }

    pub(super) async fn kill_replica(&self, chance: &mut StdRng) -> Result {
        let replica = self.any_replica(chance);
        replica.kill().await?;
        self.last(chance).await;
        replica.start().await?;
        Ok(replica.wait_until_streaming().await?)
    }

    pub(super) async fn kill_primary(&self, chance: &mut StdRng) -> Result {
        let primary = self.scene.primary();
        primary.kill().await?;
        sleep(Duration::from_millis(chance.random_range(0..1_500))).await;
        Ok(primary.start().await?)
    }

    /// The time from which on nothing is promised.
    pub(super) async fn crash_unflushed(&self) -> Result<u64> {
        let primary = self.scene.primary();
        primary.configure("wal_writer_delay", "10s").await?;
        primary.configure("synchronous_commit", "off").await?;
        sleep(Duration::from_millis(1_500)).await;
        let at = now();
        primary.kill().await?;
        primary.configure("wal_writer_delay", "200ms").await?;
        primary.configure("synchronous_commit", "on").await?;
        primary.start().await?;
        Ok(at)
    }

    pub(super) async fn freeze(&self, node: &Node, chance: &mut StdRng) -> Result {
        node.freeze().await?;
        self.last(chance).await;
        Ok(node.thaw().await?)
    }

    pub(super) async fn freeze_backends(&self, chance: &mut StdRng) -> Result {
        let node = self.any_node(chance);
        let backends = "select string_agg(pid::text, ' ') from (select pid from pg_stat_activity \
             where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 3) as chosen";
        let found = node.value(backends).await?.unwrap_or_default();
        signal(&found, Signal::STOP);
        self.last(chance).await;
        signal(&found, Signal::CONT);
        Ok(())
    }

    pub(super) async fn pause_replay(&self, chance: &mut StdRng) -> Result {
        let both = chance.random_range(0..3) == 0;
        let chosen = self.any_replica(chance).name().to_owned();
        let replicas: Vec<_> = self.scene.replicas().into_iter().map(|(_, replica)| replica).collect();
        let paused: Vec<_> = replicas.into_iter().filter(|replica| both || replica.name() == chosen).collect();
        for replica in &paused {
            replica.pause_replay().await?;
        }
        self.last(chance).await;
        for replica in &paused {
            replica.resume_replay().await?;
        }
        Ok(())
    }

    pub(super) async fn apply_delay(&self, chance: &mut StdRng) -> Result {
        let replica = self.any_replica(chance);
        replica.apply_delay(Duration::from_millis([100, 1_000, 2_000][chance.random_range(0..3)])).await?;
        self.last(chance).await;
        Ok(replica.apply_delay(Duration::ZERO).await?)
    }

    pub(super) async fn conflict_storm(&self, chance: &mut StdRng) -> Result {
        for (_, replica) in self.scene.replicas() {
            insist(replica, "max_standby_streaming_delay", "0").await?;
        }
        let client = self.scene.primary().connect().await?;
        let until = Instant::now() + Duration::from_millis(chance.random_range(1_000..3_000));
        while Instant::now() < until {
            client.batch_execute("delete from other; insert into other select generate_series(1, 300)").await?;
            client.batch_execute("vacuum other").await?;
            client.batch_execute("vacuum rows").await?;
            client.batch_execute("begin; lock table rows in access exclusive mode; commit").await?;
            client.batch_execute("truncate other").await?;
            sleep(Duration::from_millis(15)).await;
        }
        for (_, replica) in self.scene.replicas() {
            insist(replica, "max_standby_streaming_delay", "30s").await?;
        }
        Ok(())
    }

    pub(super) async fn terminate_backends(&self, chance: &mut StdRng) -> Result {
        let node = self.any_node(chance);
        for _ in 0..chance.random_range(5..25) {
            node.terminate_backends().await?;
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The time at which history was replaced.
    pub(super) async fn promote(&self, chance: &mut StdRng) -> Result<u64> {
        let (old, replicas) = (self.scene.primary(), self.scene.replicas());
        let ((number, winner), (_, other)) =
            if chance.random() { (replicas[0], replicas[1]) } else { (replicas[1], replicas[0]) };
        winner.execute("alter system set primary_conninfo = ''").await?;
        winner.reload().await?;
        let cut_off = "select not exists (select from pg_stat_wal_receiver where status = 'streaming')";
        winner.poll_query_until(cut_off).await?;
        sleep(Duration::from_millis(chance.random_range(50..500))).await;
        old.kill().await?;
        let at = now();
        sleep(TOLD).await;
        winner.promote().await?;
        self.scene.promoted(number);
        winner.execute("alter system reset primary_conninfo").await?;
        sleep(Duration::from_millis(chance.random_range(0..1_000))).await;
        other.rebuild_from(winner).await?;
        old.rebuild_from(winner).await?;
        Ok(at)
    }

    pub(super) async fn alter_table(&self, chance: &mut StdRng) -> Result {
        let primary = self.scene.primary();
        primary.execute("alter table rows add column added int not null default 0").await?;
        self.last(chance).await;
        Ok(primary.execute("alter table rows drop column added").await?)
    }
}

/// Changes a setting in the midst of conflicts, which cancel the question whether it was taken, too.
async fn insist(node: &Node, key: &str, value: &str) -> Result {
    for _ in 0..20 {
        if node.configure(key, value).await.is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(node.configure(key, value).await?)
}

/// A process that has ended meanwhile needs no signal.
fn signal(pids: &str, signal: Signal) {
    for pid in pids.split(' ').filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        let _ = kill_process(pid, signal);
    }
}
