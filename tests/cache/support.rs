//! An instance over the in-memory edges.

use highwater::memory::{Cluster, Shared, Source, View};
use highwater::source::Fault;
use highwater::{Cache, Highwater, Read, Repository, Session, Settings, Tx};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Rows of a table `users`: id to name. A name `team/name` puts the row into the group `team`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users {
    pub(crate) loads: Arc<AtomicUsize>,
    pub(crate) delay: Duration,
    /// What the repository says about every row's life.
    pub(crate) life: Option<Duration>,
}

impl Repository<View> for Users {
    type Key = u64;
    type Value = String;
    type Error = Fault;

    async fn load(&self, on: &View, key: &u64) -> Result<Option<String>, Fault> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let row = on.get::<String>("users", key).await?;
        tokio::time::sleep(self.delay).await;
        assert!(row.as_deref().is_none_or(|name| name != "panic"), "a row that the loader cannot bear");
        Ok(row.map(|name| String::clone(&name)))
    }

    fn time_to_live(&self, _: &u64, _: Option<&String>) -> Option<Duration> {
        self.life
    }

    fn groups(&self, _: &u64, value: Option<&String>) -> impl IntoIterator<Item = Cow<'static, str>> {
        value.and_then(|name| name.split_once('/')).map(|(team, _)| Cow::Owned(team.to_owned()))
    }
}

pub(crate) type Store = Highwater<Source>;
pub(crate) type UserCache = Cache<Users, Source>;

/// One instance: a store and its cache.
pub(crate) struct Instance {
    pub(crate) store: Store,
    pub(crate) users: UserCache,
    pub(crate) loads: Arc<AtomicUsize>,
}

impl Instance {
    pub(crate) async fn over(cluster: &Cluster) -> Self {
        Self::with(cluster, None, Settings::default(), Users::default()).await
    }

    pub(crate) async fn sharing(cluster: &Cluster, shared: &Shared) -> Self {
        Self::with(cluster, Some(shared.clone()), Settings::default(), Users::default()).await
    }

    pub(crate) async fn with(cluster: &Cluster, shared: Option<Shared>, settings: Settings, repository: Users) -> Self {
        let mut builder = Highwater::over(cluster.source()).settings(settings).world(seed(), 1_700_000_000_000);
        if let Some(shared) = &shared {
            builder = builder.shared_tier(shared.clone()).ledger(shared.clone());
        }
        let store = builder.start().await.unwrap();
        let loads = Arc::clone(&repository.loads);
        let mut cache = store.cache("users", repository).time_to_live(Duration::from_secs(60));
        if shared.is_some() {
            cache = cache.shared();
        }
        let users = cache.build().unwrap();
        // Until the bus is live and knows from where on it hears.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Self { store, users, loads }
    }

    pub(crate) async fn get(&self, session: &Session, id: u64) -> Read<String> {
        self.users.get(session, &id).await.unwrap()
    }

    /// The name that a session reads.
    pub(crate) async fn name(&self, session: &Session, id: u64) -> Option<String> {
        self.get(session, id).await.value.map(|name| String::clone(&name))
    }

    pub(crate) async fn begin(&self, session: &Session) -> Tx<Source> {
        self.store.begin(session).await.unwrap()
    }

    /// Writes a name and retracts its key.
    pub(crate) async fn write(&self, session: &Session, id: u64, name: &str) {
        let mut tx = self.begin(session).await;
        tx.put("users", id, name.to_owned()).await.unwrap();
        tx.retract(&self.users, &id);
        tx.commit().await.unwrap();
    }

    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

/// Another one for each instance of a test: no two draw the same numbers.
fn seed() -> u64 {
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    LAST.set(LAST.get() + 1);
    LAST.get()
}

/// A cluster that holds user 1, `ada`.
pub(crate) fn cluster(standbys: usize) -> Cluster {
    let cluster = Cluster::new(standbys);
    cluster.put("users", 1, "ada".to_owned());
    cluster
}
