//! How each fault strikes, and how it is healed.

mod network;
mod postgres;
mod redis;

use crate::Result;
use crate::crew::Crew;
use crate::fault::Fault;
use crate::scene::Scene;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

/// What a strike may touch.
pub(crate) struct Target<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) crew: &'a Crew,
    /// Faults last longer.
    pub(crate) soak: bool,
}

/// What a fault does to the history besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aftermath {
    None,
    /// History was replaced at this time.
    Replaced(u64),
    /// Nothing is promised from this time on.
    Void(u64),
}

impl Target<'_> {
    /// Strikes, lasts a while, and heals.
    pub(crate) async fn strike(&self, fault: Fault, chance: &mut StdRng) -> Result<Aftermath> {
        use Fault::{
            AlterTable, ApplyDelay, ConflictStorm, CrashUnflushed, CutPostgres, CutRedis, EvictAnyLfu, EvictAnyLru,
            EvictVolatileLru, EvictVolatileTtl, ForgetScripts, FreezeBackends, FreezePrimary, FreezeRedis,
            FreezeReplica, HalfOpenPostgres, HalfOpenRedis, KillPrimary, KillRedis, KillRedisLong, KillReplica,
            KillWorker, LoseCommitReplies, PauseReplay, Promote, RedisFull, RefuseSubscription, SmallOutputBuffer,
            TerminateBackends, WipeRedis,
        };
        match fault {
            KillReplica => self.kill_replica(chance).await?,
            KillPrimary => self.kill_primary(chance).await?,
            CrashUnflushed => return Ok(Aftermath::Void(self.crash_unflushed().await?)),
            FreezePrimary => self.freeze(self.scene.primary(), chance).await?,
            FreezeReplica => self.freeze(self.any_replica(chance), chance).await?,
            FreezeBackends => self.freeze_backends(chance).await?,
            PauseReplay => self.pause_replay(chance).await?,
            ApplyDelay => self.apply_delay(chance).await?,
            ConflictStorm => self.conflict_storm(chance).await?,
            TerminateBackends => self.terminate_backends(chance).await?,
            Promote => return Ok(Aftermath::Replaced(self.promote(chance).await?)),
            AlterTable => self.alter_table(chance).await?,
            CutPostgres => self.cut_postgres(chance).await?,
            HalfOpenPostgres => self.half_open_postgres(chance).await?,
            LoseCommitReplies => self.lose_commit_replies(chance).await?,
            CutRedis => self.cut_redis(chance).await?,
            HalfOpenRedis => self.half_open_redis(chance).await?,
            KillRedis => self.kill_redis(Duration::from_secs(1)).await?,
            KillRedisLong => self.kill_redis(Duration::from_secs(20)).await?,
            FreezeRedis => self.freeze_redis(chance).await?,
            WipeRedis => self.wipe_redis(chance).await?,
            ForgetScripts => self.forget_scripts(chance).await?,
            RefuseSubscription => self.refuse_subscription(chance).await?,
            SmallOutputBuffer => self.small_output_buffer(chance).await?,
            EvictAnyLru => self.small_memory("allkeys-lru", chance).await?,
            EvictAnyLfu => self.small_memory("allkeys-lfu", chance).await?,
            EvictVolatileLru => self.small_memory("volatile-lru", chance).await?,
            EvictVolatileTtl => self.small_memory("volatile-ttl", chance).await?,
            RedisFull => self.small_memory("noeviction", chance).await?,
            KillWorker => self.kill_worker(chance).await?,
        }
        Ok(Aftermath::None)
    }

    /// How long a fault lasts.
    async fn last(&self, chance: &mut StdRng) {
        let longest = if self.soak && chance.random_range(0..10) == 0 { 10_000 } else { 3_000 };
        tokio::time::sleep(Duration::from_millis(chance.random_range(500..longest))).await;
    }

    async fn kill_worker(&self, chance: &mut StdRng) -> Result {
        let number = chance.random_range(0..self.crew.size());
        self.crew.kill(number)?;
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..1_000))).await;
        self.crew.hire(number)
    }
}
