//! What cannot work is refused where it is first known, in words that name the thing and the remedy.

use crate::support::{Instance, Users, cluster};
use highwater::memory::Shared;
use highwater::{
    Error, Highwater, KEY_BYTES_MAX, KEYS_MAX, NAMES_MAX, ReadOptions, Retraction, Session, Settings, WriteError,
};
use std::time::Duration;

const ZERO: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(24 * 3_600 + 1);

async fn refused(settings: Settings) -> String {
    let error = Highwater::over(cluster(0).source()).settings(settings).start().await.unwrap_err();
    assert!(error.is_configuration(), "{error:?}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn settings() {
    let usual = Settings::default;
    for (settings, name) in [
        (Settings { load_time_max: ZERO, ..usual() }, "load_time_max"),
        (Settings { probe_interval: ZERO, ..usual() }, "probe_interval"),
        (Settings { wait_interval: ZERO, ..usual() }, "wait_interval"),
        (Settings { resolve_time_max: ZERO, ..usual() }, "resolve_time_max"),
    ] {
        let text = format!("settings.{name} is zero; give it a positive duration");
        assert_eq!(refused(settings).await, text);
    }
    for (settings, name) in [
        (Settings { load_time_max: LONG, ..usual() }, "load_time_max"),
        (Settings { probe_interval: LONG, ..usual() }, "probe_interval"),
        (Settings { wait_interval: LONG, ..usual() }, "wait_interval"),
        (Settings { resolve_time_max: LONG, ..usual() }, "resolve_time_max"),
        (Settings { wait_budget: LONG, ..usual() }, "wait_budget"),
        (Settings { deaf_age_max: LONG, ..usual() }, "deaf_age_max"),
    ] {
        assert_eq!(refused(settings).await, format!("settings.{name} is 86401s; the limit is one day"));
    }
    for (settings, name) in [
        (Settings { primary_loads_max: 0, ..usual() }, "primary_loads_max"),
        (Settings { loads_max: 0, ..usual() }, "loads_max"),
        (Settings { floor_slots: 0, ..usual() }, "floor_slots"),
        (Settings { retry_queue_max: 0, ..usual() }, "retry_queue_max"),
    ] {
        assert_eq!(refused(settings).await, format!("settings.{name} is zero; it must be at least 1"));
    }
    let text = "settings.floor_slots is 268435457, which would take 2048 MB; the limit is 2^28";
    assert_eq!(refused(Settings { floor_slots: (1 << 28) + 1, ..usual() }).await, text);
    // What zero means is told for these, and works.
    let none = Settings { wait_budget: ZERO, deaf_age_max: ZERO, ..usual() };
    Highwater::over(cluster(0).source()).settings(none).start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_that_nobody_could_retract_in() {
    let error = Highwater::over(cluster(0).source()).shared_tier(Shared::new(1)).start().await.unwrap_err();
    let text = "a shared tier needs a ledger: without it nobody would hear what was retracted in it";
    assert_eq!((error.is_configuration(), error.to_string().as_str()), (true, text));
}

#[tokio::test(start_paused = true)]
async fn caches() {
    let instance = Instance::over(&cluster(0)).await;
    let cache = |name: &str| instance.store.cache(name, Users::default());
    let (long, life) = (Duration::from_secs(30 * 24 * 3_600 + 1), "it must lie between 1 ms and 30 days");
    let name_is = |name: &str| format!("cache {name:?}: a name has 1 to {KEY_BYTES_MAX} bytes");
    let overlong = "x".repeat(KEY_BYTES_MAX + 1);
    for (built, text) in [
        (cache("").build(), name_is("")),
        (cache(&overlong).build(), name_is(&overlong)),
        (
            cache("users").max_capacity(0).build(),
            "cache \"users\": max_capacity is zero; give it room for at least one entry".to_owned(),
        ),
        (cache("users").time_to_live(ZERO).build(), format!("cache \"users\": time_to_live is 0ns; {life}")),
        (cache("users").time_to_live(long).build(), format!("cache \"users\": time_to_live is 2592001s; {life}")),
        (
            cache("users").absent_time_to_live(ZERO).build(),
            format!("cache \"users\": absent_time_to_live is 0ns; {life}"),
        ),
        (
            cache("users").absent_time_to_live(long).build(),
            format!("cache \"users\": absent_time_to_live is 2592001s; {life}"),
        ),
        (
            cache("users").time_to_idle(ZERO).build(),
            "cache \"users\": time_to_idle is zero; give it a positive duration".to_owned(),
        ),
        (
            cache("users").shared().build(),
            "cache \"users\": it is to be shared, but the store has no shared tier; give the store a Redis URL"
                .to_owned(),
        ),
    ] {
        let error = built.unwrap_err();
        assert_eq!((error.is_configuration(), error.to_string()), (true, text));
    }
    assert!(cache(&"x".repeat(KEY_BYTES_MAX)).time_to_live(Duration::from_millis(10)).build().is_ok());
}

/// A life of which a tenth is below the least: the absent one need not be said.
#[tokio::test(start_paused = true)]
async fn a_short_life_without_a_word_on_absent_rows() {
    let instance = Instance::over(&cluster(0)).await;
    let built = instance.store.cache("users", Users::default()).time_to_live(Duration::from_millis(5)).build();
    assert!(built.is_ok(), "{:?}", built.err());
}

#[tokio::test(start_paused = true)]
async fn names_and_numbers_of_names() {
    let instance = Instance::over(&cluster(0)).await;
    let (session, store) = (Session::new(), &instance.store);
    let many: Vec<u64> = (0..=KEYS_MAX as u64).collect();
    let error = instance.users.get_many(&session, &many, &ReadOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("get_many was asked for {} keys; the limit is {KEYS_MAX}", KEYS_MAX + 1));
    let mut group = Retraction::new();
    group.group(&"x".repeat(KEY_BYTES_MAX + 1));
    let error = store.capture(&session, group).await.unwrap_err();
    assert_eq!(error.to_string(), "a group's name has 1025 bytes, and the limit is 1024");
    let mut names = Retraction::new();
    for id in 0..=NAMES_MAX as u64 {
        names.key(&instance.users, &id);
    }
    let error = store.capture(&session, names).await.unwrap_err();
    assert_eq!(error.to_string(), "one write retracts more than 65536 names; retract a group or a whole cache");
    assert!(session.token().is_empty());
}

#[tokio::test(start_paused = true)]
async fn closed_handles() {
    let instance = Instance::over(&cluster(0)).await;
    let (session, store) = (Session::new(), &instance.store);
    instance.get(&session, 1).await;
    store.close().await;
    let closed =
        |error: &Error| assert_eq!((error.is_closed(), error.to_string().as_str()), (true, "the store is closed"));
    closed(&store.begin(&session).await.unwrap_err());
    closed(&store.token().await.unwrap_err());
    closed(&store.capture(&session, Retraction::new()).await.unwrap_err());
    closed(instance.users.get(&session, &1).await.unwrap_err().as_cache().unwrap());
    let options = ReadOptions::default();
    closed(instance.users.get_many(&session, &[1, 2], &options).await.unwrap_err().as_cache().unwrap());
    let written = store.write(&session, async |_| Ok::<_, std::convert::Infallible>(())).await;
    assert!(matches!(written, Err(WriteError::Store(error)) if error.is_closed()));
}
