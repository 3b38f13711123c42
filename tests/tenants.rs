//! Two tenants on one Redis: the same keys, the same users, databases of one identity, and the same secrets. What keeps them
//! apart is the namespace of each and the audience of the tokens. `HIGHWATER_TENANT_OPERATIONS` sets how many operations
//! are tried (20,000).
#![cfg(feature = "testkit")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

use highwater::devices::{Devices, RedisDevices, Remembered};
use highwater::ledger::RedisLedger;
use highwater::memory::{Cluster, Source, View};
use highwater::source::Fault;
use highwater::testkit::RedisServer;
use highwater::tier::RedisTier;
use highwater::wire::{Gate, Key, Keyring, Outcome};
use highwater::{BusState, Cache, Highwater, Lsn, RedisLink, RedisSettings, Repository, Rung, Session};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const TASKS: u64 = 16;
const KEYS: u64 = 320;
const USERS: u64 = 40;

/// The log of the second tenant's database begins here, so that its positions are told from the first one's.
const FAR: u64 = 1 << 40;

struct Rows;

impl Repository<View> for Rows {
    type Key = u64;
    type Value = String;
    type Error = Fault;

    async fn load(&self, on: &View, key: &u64) -> Result<Option<String>, Fault> {
        Ok(on.get::<String>("rows", key).await?.map(|row| String::clone(&row)))
    }

    fn groups(&self, key: &u64, _: Option<&String>) -> impl IntoIterator<Item = Cow<'static, str>> {
        [format!("tenth:{}", key % 10).into()]
    }
}

struct Instance {
    store: Highwater<Source>,
    rows: Cache<Rows, Source>,
    devices: Devices,
    gate: Gate,
}

struct Tenant {
    name: &'static str,
    instances: [Instance; 2],
}

#[derive(Default)]
struct Tally {
    reads: [AtomicU64; 4],
    forged: AtomicU64,
    writes: AtomicU64,
}

impl Tenant {
    async fn start(name: &'static str, redis: &RedisServer, begins_at: u64) -> Self {
        let cluster = Cluster::new(1);
        if begins_at > 0 {
            cluster.write_unflushed(0, begins_at);
            cluster.flush(0);
        }
        for key in 0..KEYS {
            cluster.put("rows", key, format!("{name}:{key}:0"));
        }
        let instances = [Instance::start(name, redis, &cluster).await, Instance::start(name, redis, &cluster).await];
        Self { name, instances }
    }

    fn instance(&self, chance: u64) -> &Instance {
        &self.instances[(chance % 2) as usize]
    }

    /// What is read must be the tenant's own, of that key, and not below `least`.
    async fn read(&self, on: &Instance, session: &Session, key: u64, least: u64, tally: &Tally) {
        let read = on.rows.get(session, &key).await.unwrap();
        tally.reads[read.rung as usize].fetch_add(1, Ordering::Relaxed);
        let value = read.value.unwrap();
        let parts: Vec<&str> = value.split(':').collect();
        assert_eq!((parts[0], parts[1]), (self.name, key.to_string().as_str()), "another's value");
        let number: u64 = parts[2].parse().unwrap();
        assert!(number >= least, "{number} and not {least}");
    }

    /// No position of the other's log is in it.
    fn check(&self, session: &Session, on: &Instance) {
        for position in session.token().positions(on.store.history().system_identifier()) {
            assert_eq!(position.lsn >= Lsn::new(FAR), self.name == "b", "another's token: {position}");
        }
    }
}

impl Instance {
    async fn start(name: &str, redis: &RedisServer, cluster: &Cluster) -> Self {
        let link = RedisLink::connect(RedisSettings::new(redis.url()).namespace(name)).await.unwrap();
        let store = Highwater::over(cluster.source())
            .shared_tier(RedisTier::open(link.clone()).await.unwrap())
            .ledger(RedisLedger::open(link.clone()).await.unwrap())
            .start()
            .await
            .unwrap();
        // Small, so that much is read from the shared tier.
        let rows = store.cache("rows", Rows).shared().max_capacity(KEYS / 4).build().unwrap();
        let devices = Devices::builder(RedisDevices::open(link).await.unwrap()).store(&store).build().unwrap();
        let gate = Gate::builder(Keyring::new(Key::new(1, &[7; 32]).unwrap())).store(&store).build();
        let begun = Instant::now();
        while store.stats().bus != BusState::Live {
            assert!(begun.elapsed() < Duration::from_secs(20));
            sleep(Duration::from_millis(10)).await;
        }
        Self { store, rows, devices, gate }
    }

    async fn write(&self, session: &Session, key: u64, value: String, chance: u64) {
        let mut tx = self.store.begin(session).await.unwrap();
        tx.put("rows", key, value).await.unwrap();
        if chance.is_multiple_of(3) {
            tx.retract_group(&format!("tenth:{}", key % 10));
        } else {
            tx.retract(&self.rows, &key);
        }
        tx.commit().await.unwrap();
    }
}

/// One operation of a random kind, for the one tenant, with the other at hand.
async fn operate(own: &Tenant, other: &Tenant, task: u64, written: &mut [u64], tally: &Tally) {
    let chance: u64 = rand::random();
    let (here, there) = (own.instance(chance), own.instance(chance >> 1));
    let user = (chance >> 8) % USERS;
    // A key that no other task writes.
    let key = task + TASKS * ((chance >> 16) % (KEYS / TASKS));
    match (chance >> 32) % 10 {
        0..=2 => {
            let least = &mut written[key as usize];
            *least += 1;
            let (session, device) = (Session::new(), Session::new());
            let visit = here.devices.visit(&session, user.to_be_bytes());
            here.write(&session, key, format!("{}:{key}:{least}", own.name), chance).await;
            let outcome = visit.remember().await;
            tally.writes.fetch_add(1, Ordering::Relaxed);
            there.devices.visit(&device, user.to_be_bytes());
            // On a machine that is busy enough Redis answers too late.
            let least = if outcome == Remembered::Deferred { 0 } else { *least };
            own.read(there, &device, key, least, tally).await;
            own.check(&session, here);
            own.check(&device, there);
        }
        3 => {
            // A token of the other tenant, stolen and brought here.
            let (victim, thief) = (Session::new(), Session::new());
            let theirs = other.instance(chance);
            theirs.devices.visit(&victim, user.to_be_bytes());
            victim.gathered().await;
            if let Some(text) = theirs.gate.write(&victim, Some(other.name.as_bytes())) {
                let outcome = here.gate.take_in(&thief, text.as_bytes(), Some(own.name.as_bytes()));
                assert_eq!((outcome, thief.token().is_empty()), (Outcome::Forged, true));
                tally.forged.fetch_add(1, Ordering::Relaxed);
                let mine = here.gate.take_in(&thief, text.as_bytes(), None);
                assert_eq!((mine, thief.token().is_empty()), (Outcome::Forged, true));
            }
        }
        4 => {
            let session = Session::new();
            here.devices.visit(&session, user.to_be_bytes());
            session.gathered().await;
            own.check(&session, here);
            if let Some(text) = here.gate.write(&session, Some(own.name.as_bytes())) {
                let arrived = Session::new();
                let outcome = there.gate.take_in(&arrived, text.as_bytes(), Some(own.name.as_bytes()));
                assert_eq!((outcome, arrived.token()), (Outcome::Valid, session.token()));
            }
        }
        _ => own.read(here, &Session::new(), (chance >> 40) % KEYS, 0, tally).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_ever_meets_what_is_the_others() {
    let operations = std::env::var("HIGHWATER_TENANT_OPERATIONS").map_or(20_000, |text| text.parse().unwrap());
    let redis = RedisServer::start().await.unwrap();
    let tenants = Arc::new([Tenant::start("a", &redis, 0).await, Tenant::start("b", &redis, FAR).await]);
    let tally = Arc::new(Tally::default());
    let begun = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (tenants, tally) = (Arc::clone(&tenants), Arc::clone(&tally));
            tokio::spawn(async move {
                let mut written = [vec![0; KEYS as usize], vec![0; KEYS as usize]];
                for number in 0..operations / TASKS {
                    let at = (number % 2) as usize;
                    operate(&tenants[at], &tenants[1 - at], task, &mut written[at], &tally).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("{operations} operations in {:?}", begun.elapsed());
    let read = |rung: Rung| tally.reads[rung as usize].load(Ordering::Relaxed);
    let rungs = [Rung::Local, Rung::Shared, Rung::Replica, Rung::Primary].map(read);
    let (writes, forged) = (tally.writes.load(Ordering::Relaxed), tally.forged.load(Ordering::Relaxed));
    println!("reads by rung {rungs:?}, {writes} writes, {forged} stolen tokens forged");
    let [local, shared, replica, _] = rungs;
    assert!(local.min(shared).min(replica) > 0 && forged > operations / 100);
    sleep(Duration::from_millis(500)).await;
    for tenant in tenants.iter() {
        let told: u64 = tenant.instances.iter().map(|one| one.store.stats().counts.retractions_told).sum();
        for one in &tenant.instances {
            let counts = one.store.stats().counts;
            let (heard, devices) = (counts.retractions_heard, one.devices.stats());
            println!("{}: told {told} retractions, heard {heard}; {devices:?}", tenant.name);
            let calm = counts.retractions_deferred + counts.deaf + counts.gaps + devices.away == 0;
            assert!(!calm || heard == told, "of both instances of the tenant, and of no other");
            assert!(heard < told + told / 2, "as many as if the other's were heard too");
            assert_eq!((counts.tokens_clamped, one.gate.stats().valid > 0), (0, true));
            assert_eq!((devices.unreadable, devices.eras), (0, 0));
        }
    }
}
