//! Instances with a gate each.

use highwater::memory::{Cluster, Source, View};
use highwater::source::Fault;
use highwater::wire::{Gate, Key, Keyring, Policy};
use highwater::{Cache, Highwater, Read, Repository, Rung, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const NOW: u64 = 1_790_000_000;

#[derive(Debug)]
pub(crate) struct Users;

impl Repository<View> for Users {
    type Key = u64;
    type Value = String;
    type Error = Fault;

    async fn load(&self, on: &View, key: &u64) -> Result<Option<String>, Fault> {
        Ok(on.get::<String>("users", key).await?.map(|name| String::clone(&name)))
    }
}

pub(crate) fn key(id: u8) -> Key {
    Key::new(id, &[id; 32]).unwrap()
}

/// A wall clock that a test moves.
#[derive(Clone, Debug)]
pub(crate) struct Wall(Arc<AtomicU64>);

impl Wall {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOW)))
    }

    pub(crate) fn forward(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    pub(crate) fn read(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let wall = Arc::clone(&self.0);
        move || wall.load(Ordering::SeqCst)
    }
}

/// One instance of a service.
pub(crate) struct Instance {
    pub(crate) store: Highwater<Source>,
    pub(crate) users: Cache<Users, Source>,
    pub(crate) gate: Gate,
    pub(crate) wall: Wall,
}

impl Instance {
    pub(crate) async fn over(cluster: &Cluster) -> Self {
        Self::with(cluster, Keyring::new(key(1)), Policy::default()).await
    }

    pub(crate) async fn with(cluster: &Cluster, keyring: Keyring, policy: Policy) -> Self {
        let store = Highwater::over(cluster.source()).world(1, 1_700_000_000_000).start().await.unwrap();
        let users = store.cache("users", Users).time_to_live(Duration::from_secs(60)).build().unwrap();
        let wall = Wall::new();
        let gate = Gate::builder(keyring).policy(policy).store(&store).clock(wall.read()).build();
        Self { store, users, gate, wall }
    }

    /// Renames user 1 and returns the token's text, as a response carries it.
    pub(crate) async fn rename(&self, name: &str) -> String {
        let session = Session::new();
        self.rename_for(&session, name).await;
        self.gate.write(&session, None).unwrap()
    }

    pub(crate) async fn rename_for(&self, session: &Session, name: &str) {
        let mut tx = self.store.begin(session).await.unwrap();
        tx.put("users", 1, name.to_owned()).await.unwrap();
        tx.retract(&self.users, &1);
        tx.commit().await.unwrap();
    }

    /// Reads user 1 for a request that brought this text.
    pub(crate) async fn request(&self, text: &str) -> (String, Rung) {
        let session = Session::new();
        self.gate.take_in(&session, text.as_bytes(), None);
        told(&self.users.get(&session, &1).await.unwrap())
    }
}

pub(crate) fn told(read: &Read<String>) -> (String, Rung) {
    (String::clone(read.value.as_ref().unwrap()), read.rung)
}

/// A cluster with a standby and user 1, `ada`.
pub(crate) fn cluster() -> Cluster {
    let cluster = Cluster::new(1);
    cluster.put("users", 1, "ada".to_owned());
    cluster
}

/// Another cluster.
pub(crate) fn other_cluster() -> Cluster {
    let cluster = cluster();
    for server in 0..2 {
        cluster.set_system_identifier(server, 7_400_000_000_000_000_002);
    }
    cluster
}
