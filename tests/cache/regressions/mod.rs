//! Schedules that broke a promise, a bound or a deadline once. Each stays here.

mod forks;
mod histories;
mod readers;
mod stores;

use crate::support::Users;
use highwater::memory::{Cluster, Shared, Source};
use highwater::{Cache, Highwater, Read};
use std::time::Duration;

pub(crate) async fn instance(
    cluster: &Cluster,
    shared: Option<Shared>,
    unix_ms: u64,
) -> (Highwater<Source>, Cache<Users, Source>) {
    let mut builder = Highwater::over(cluster.source()).world(unix_ms, unix_ms);
    if let Some(shared) = &shared {
        builder = builder.shared_tier(shared.clone()).ledger(shared.clone());
    }
    let store = builder.start().await.unwrap();
    let mut cache = store.cache("users", Users::default()).time_to_live(Duration::from_secs(600));
    if shared.is_some() {
        cache = cache.shared();
    }
    let users = cache.build().unwrap();
    (store, users)
}

pub(crate) fn text(read: &Read<String>) -> Option<&str> {
    read.value.as_deref().map(String::as_str)
}
