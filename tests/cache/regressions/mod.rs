//! Schedules that broke a promise, a bound or a deadline once. Each stays here.

mod forks;
mod hearing;
mod histories;
mod readers;
mod stores;

use crate::support::Users;
use highwater::memory::{Cluster, Delivery, Shared, Source};
use highwater::{Cache, Highwater, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// From when what this returns is set, everything that is published comes to this client 400 ms later.
fn hears_late(shared: &Shared, who: usize) -> Arc<AtomicBool> {
    let late = Arc::new(AtomicBool::new(false));
    let is_late = Arc::clone(&late);
    shared.set_delivery(Delivery::new(move |client, _| match client == who && is_late.load(Ordering::SeqCst) {
        true => vec![Duration::from_millis(400)],
        false => vec![Duration::ZERO],
    }));
    late
}
