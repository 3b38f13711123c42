//! The stage in memory: virtual time, and the same again for the same seed.

use crate::lag::Turn;
use crate::stage::{Edge, Instance, Reads, Result, Row, Rows, Setup, Stage};
use highwater::devices::Devices;
use highwater::memory::{Call, Cluster, Delivery, Fate, Line, Network, Shared, Source, Step, View, Way};
use highwater::source::Fault;
use highwater::{Highwater, Tx};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// A round trip to any server. Finer than a millisecond tokio's clock cannot be.
const WAY: Duration = Duration::from_millis(1);

/// Until the bus is live and knows from where on it hears.
const SETTLING: Duration = Duration::from_millis(600);

pub(crate) struct Memory {
    cluster: Cluster,
    shared: Shared,
    commands: Arc<AtomicU64>,
}

impl Memory {
    pub(crate) fn new(replicas: usize, seed: u64) -> Self {
        let (cluster, shared) = (Cluster::new(replicas), Shared::new(seed));
        let commands = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&commands);
        shared.set_line(Line::new(move |_, call, way| {
            if way == Way::Back {
                return Fate::Pass(Duration::ZERO);
            }
            counted.fetch_add(1, Ordering::Relaxed);
            Fate::Pass(if matches!(call, Call::Fetch | Call::Admit | Call::Retract | Call::Exchange) {
                WAY
            } else {
                Duration::ZERO
            })
        }));
        shared.set_delivery(Delivery::new(|_, _| vec![WAY]));
        Self { cluster, shared, commands }
    }
}

/// A statement takes a millisecond, a commit another.
fn network() -> Network {
    Network::new(|_, step| {
        Fate::Pass(if matches!(step, Step::Statement | Step::Commit) { WAY } else { Duration::ZERO })
    })
}

impl Reads for View {
    type Error = Fault;

    async fn row(&self, table: &str, key: u64) -> Result<Option<Row>, Fault> {
        Ok(self.get::<Row>(table, key).await?.map(|row| Row::clone(&row)))
    }
}

impl Edge for Source {
    async fn raise(tx: &Tx<Self>, table: &str, key: u64, write: u64, body: &str) -> Result<u64> {
        let version = tx.lock::<Row>(table, key).await?.map_or(0, |row| row.version) + 1;
        tx.put(table, key, Row { version, write, body: body.to_owned() }).await?;
        Ok(version)
    }
}

impl Stage for Memory {
    type Source = Source;

    async fn set(&self, setup: &Setup) -> Result<(Vec<Instance<Source>>, Rows)> {
        let rows = Rows { table: "rows".to_owned(), ..Rows::default() };
        for key in 0..setup.rows {
            self.cluster.put(&rows.table, key, Row { version: 1, write: key, body: String::new() });
        }
        let mut instances = Vec::new();
        for number in 0..setup.instances {
            let shared = self.shared.client(number);
            let builder = Highwater::over(self.cluster.source_over(network()))
                .world(setup.seed.rotate_left(8) ^ number as u64, 1_700_000_000_000)
                .ledger(shared.clone());
            let store = if setup.shared { builder.shared_tier(shared.clone()) } else { builder }.start().await?;
            let devices = setup.devices.then(|| Devices::builder(shared).store(&store).build()).transpose()?;
            let cache = store
                .cache("rows", rows.clone())
                .max_capacity(setup.capacity)
                .time_to_live(setup.time_to_live)
                .absent_time_to_live(setup.time_to_live)
                .strategy(setup.strategy);
            let cache = if setup.scoped { cache.scoped() } else { cache };
            let cache = if setup.shared { cache.shared() } else { cache }.build()?;
            instances.push(Instance { store, cache, devices });
        }
        sleep(SETTLING).await;
        Ok((instances, rows))
    }

    async fn turn(&self, replica: usize, turn: Turn) -> Result {
        match turn {
            Turn::Delay(delay) => self.cluster.set_lag(replica + 1, delay),
            Turn::Pause(paused) => self.cluster.pause(replica + 1, paused),
        }
        Ok(())
    }

    async fn redis_down(&self, down: bool) -> Result {
        self.shared.set_down(down);
        Ok(())
    }

    async fn redis_commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }
}
