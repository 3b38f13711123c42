//! One instance of the library: how it is started, and how it dies.

use crate::world::World;
use highwater::memory::{self, View};
use highwater::source::Fault;
use highwater::testkit::history::InstanceId;
use highwater::{Cache, Highwater, Repository, Settings};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) const TABLE: &str = "rows";

/// A row: its version, and the operation that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) version: u64,
    pub(crate) write: u64,
}

/// How rows are loaded.
pub(crate) struct Rows;

impl Repository<View> for Rows {
    type Key = u64;
    type Value = Row;
    type Error = Fault;

    async fn load(&self, on: &View, key: &u64) -> Result<Option<Row>, Fault> {
        Ok(on.get::<Row>(TABLE, key).await?.map(|row| *row))
    }

    fn groups(&self, key: &u64, _: Option<&Row>) -> impl IntoIterator<Item = Cow<'static, str>> {
        [Cow::Owned(group(*key))]
    }
}

/// The group of a key.
pub(crate) fn group(key: u64) -> String {
    format!("group:{}", key % 3)
}

#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) number: usize,
    pub(crate) store: Highwater<memory::Source>,
    pub(crate) cache: Cache<Rows, memory::Source>,
    /// The history that it was in when anybody looked last.
    history: Arc<AtomicU64>,
    /// Cancelled when it dies.
    pub(crate) death: CancellationToken,
}

impl Instance {
    /// Starts one; without an answer where the servers do not let it.
    pub(crate) async fn start(world: &Arc<World>) -> Option<Self> {
        let number = world.started.fetch_add(1, Ordering::Relaxed) as usize;
        let (plan, ms) = (&world.plan, Duration::from_millis);
        let settings = Settings {
            wait_budget: ms(plan.wait_budget_ms),
            watermark_wait: ms(plan.watermark_wait_ms),
            probe_interval: ms(plan.probe_interval_ms),
            deaf_age_max: ms(plan.deaf_age_ms_max),
            floor_slots: plan.floor_slots as usize,
            ..Settings::default()
        };
        // Each instance is ahead by its own part of the skew, told by the seed.
        let skew = (plan.seed.rotate_left(number as u32 * 7) ^ number as u64) % (plan.clock_skew_ms_max + 1);
        let now_ms = 1_700_000_000_000 + world.at() / 1_000 + skew;
        let source = world.source(number as u64, Some(number));
        let mut builder = Highwater::over(source).settings(settings).world(plan.seed ^ number as u64, now_ms);
        let shared = world.shared.client(number);
        if plan.shared == 1 {
            builder = builder.shared_tier(shared.clone());
        }
        if plan.ledger == 1 {
            builder = builder.ledger(shared);
        }
        let store = builder.start().await.ok()?;
        let life = ms(plan.time_to_live_ms);
        let cache = store.cache("rows", Rows).time_to_live(life).absent_time_to_live(life);
        let cache = if plan.shared == 1 { cache.shared() } else { cache };
        let scoped = plan.scoped == 1 || plan.scoped == 2 && number.is_multiple_of(2);
        let cache = if scoped { cache.scoped() } else { cache };
        let history = Arc::new(AtomicU64::new(store.history().fingerprint()));
        Some(Self { number, history, cache: cache.build().unwrap(), store, death: CancellationToken::new() })
    }

    pub(crate) fn id(&self) -> InstanceId {
        InstanceId(self.number as u64)
    }

    /// The same instance, as those see it who ask for nothing and so rely on what it hears of the others.
    pub(crate) fn id_of_hearing(&self) -> InstanceId {
        InstanceId(1_000_000 + self.number as u64)
    }

    /// Whether it is in another history than when this was asked last.
    pub(crate) fn is_renewed(&self) -> bool {
        let now = self.store.history().fingerprint();
        self.history.swap(now, Ordering::Relaxed) != now
    }

    /// Kills it between any two steps: nothing that it does from now on reaches anybody, and nobody waits for it.
    pub(crate) fn die(&self, world: &World) {
        world.bury(self.number);
        self.death.cancel();
        let store = self.store.clone();
        tokio::spawn(async move { store.close().await });
    }
}
