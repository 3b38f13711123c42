//! A writer that does not use the library, and tells nobody.

use super::{REST_MS_MAX, UNKNOWN, place};
use crate::instance::{Row, TABLE};
use crate::world::World;
use highwater::memory::Tx;
use highwater::source::{Committed, Source as _, Transaction as _};
use highwater::testkit::history::{KeyId, OpId, Outcome, SessionId};
use rand::RngExt;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) async fn stranger(world: Arc<World>, id: u64, mut dice: StdRng) {
    let source = world.source(100 + id, None);
    while !world.is_over() {
        let resting = world.is_calm() || world.is_enough();
        let think = if resting { REST_MS_MAX } else { 4 * world.plan.think_ms_max };
        sleep(Duration::from_millis(dice.random_range(0..=think))).await;
        world.count();
        let key = dice.random_range(0..world.plan.keys);
        let at = world.at();
        let op = world.recorder.record(|history| history.write(at, SessionId(id), KeyId(key)));
        let node = world.primary().await;
        let outcome = match source.begin(node, Instant::now() + Duration::from_secs(2)).await {
            Ok(tx) => write_raw(tx, key, op).await,
            Err(_) => Outcome::RolledBack,
        };
        let at = world.at();
        world.recorder.record(|history| history.finish(at, op, outcome));
    }
}

/// One write, and what its client is told of it.
pub(super) async fn write_raw(tx: Tx, key: u64, op: OpId) -> Outcome {
    let Ok(present) = tx.conn().lock::<Row>(TABLE, key).await else { return Outcome::RolledBack };
    let version = present.map_or(0, |row| row.version) + 1;
    if tx.conn().put(TABLE, key, Row { version, write: op.0 }).await.is_err() {
        return Outcome::RolledBack;
    }
    match tx.commit(Instant::now() + Duration::from_secs(2)).await {
        Committed::Done { token, .. } => Outcome::Committed { version, position: Some(place(token)) },
        Committed::RolledBack(_) => Outcome::RolledBack,
        _ => UNKNOWN,
    }
}
