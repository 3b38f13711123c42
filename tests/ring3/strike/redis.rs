//! What happens to Redis.

use super::Target;
use crate::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use redis::{Cmd, cmd};
use std::time::Duration;
use tokio::time::sleep;

/// What fills a small memory.
const JUNK: usize = 600;

impl Target<'_> {
    pub(super) async fn kill_redis(&self, time: Duration) -> Result {
        self.scene.redis.kill().await?;
        sleep(time).await;
        Ok(self.scene.redis.start_again().await?)
    }

    pub(super) async fn freeze_redis(&self, chance: &mut StdRng) -> Result {
        self.scene.redis.freeze().await?;
        self.last(chance).await;
        Ok(self.scene.redis.thaw().await?)
    }

    pub(super) async fn wipe_redis(&self, chance: &mut StdRng) -> Result {
        for _ in 0..chance.random_range(1..4) {
            self.scene.redis.flush().await?;
            sleep(Duration::from_millis(chance.random_range(50..600))).await;
        }
        Ok(())
    }

    pub(super) async fn forget_scripts(&self, chance: &mut StdRng) -> Result {
        for _ in 0..chance.random_range(2..8) {
            self.say(cmd("SCRIPT").arg("FLUSH")).await?;
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    pub(super) async fn refuse_subscription(&self, chance: &mut StdRng) -> Result {
        let user = |rules: &str| cmd("ACL").arg("SETUSER").arg("default").arg(rules).to_owned();
        if chance.random() {
            // Nobody may publish either.
            self.say(&user("resetchannels")).await?;
        } else {
            // What is published is delivered to nobody.
            self.say(&user("-subscribe")).await?;
            self.say(cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"])).await?;
        }
        self.last(chance).await;
        self.say(&user("+subscribe")).await?;
        self.say(&user("allchannels")).await
    }

    pub(super) async fn small_output_buffer(&self, chance: &mut StdRng) -> Result {
        self.configure("client-output-buffer-limit", "pubsub 4kb 0 0").await?;
        self.crew.flood(chance.random_range(0..self.crew.size()));
        sleep(Duration::from_secs(2)).await;
        self.configure("client-output-buffer-limit", "pubsub 32mb 8mb 60").await
    }

    pub(super) async fn small_memory(&self, policy: &str, chance: &mut StdRng) -> Result {
        let mut connection = self.scene.redis.connect().await?;
        let memory: String = cmd("INFO").arg("memory").query_async(&mut connection).await?;
        let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok());
        let limit = used.ok_or("Redis does not say how much memory it uses")? + 300_000;
        self.configure("maxmemory-policy", policy).await?;
        self.configure("maxmemory", &limit.to_string()).await?;
        for number in 0..JUNK {
            let key = format!("junk:{number}");
            // Refused where it is full, which is the point.
            let _ = cmd("SET").arg(key).arg(vec![0_u8; 1_024]).arg("PX").arg(4_000).exec_async(&mut connection).await;
        }
        self.last(chance).await;
        self.configure("maxmemory", "0").await?;
        self.configure("maxmemory-policy", "noeviction").await
    }

    async fn configure(&self, key: &str, value: &str) -> Result {
        self.say(cmd("CONFIG").arg("SET").arg(key).arg(value)).await
    }

    async fn say(&self, command: &Cmd) -> Result {
        let mut connection = self.scene.redis.connect().await?;
        Ok(command.exec_async(&mut connection).await?)
    }
}
