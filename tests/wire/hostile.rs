//! What is logged: nothing that an enemy could use, and what a deployment has to know.

use crate::log::Log;
use crate::support::{Instance, cluster, key};
use highwater::Session;
use highwater::devices::Devices;
use highwater::memory::Shared;
use highwater::wire::{Keyring, Policy};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn no_token_and_no_secret_is_logged_at_any_level() {
    let (log, _logging) = Log::begin();
    let instance = Instance::over(&cluster()).await;
    let text = instance.rename("grace").await;
    let forged = format!("{}AAAA", &text[..text.len() - 4]);
    for text in [&text, &forged] {
        instance.gate.take_in(&Session::new(), text.as_bytes(), Some(b"tenant:secret"));
        instance.gate.take_in(&Session::new(), text.as_bytes(), None);
    }
    let logged = log.text();
    assert!(logged.contains("token_unusable"), "the events are there: {logged}");
    for secret in [&text[..], &text[8..24], &forged, "tenant:secret", &"\u{1}".repeat(8), "01010101"] {
        assert!(!logged.contains(secret), "{secret}");
    }
}

/// Entries live for a minute.
const LIVES: [(u64, usize); 2] = [(60, 1), (61, 0)];

#[tokio::test(start_paused = true)]
async fn tokens_that_do_not_outlive_entries_are_told_of_once() {
    let cluster = cluster();
    for (seconds, told) in LIVES {
        let (log, _logging) = Log::begin();
        let keyring = Keyring::new(key(1)).life(Duration::from_secs(seconds));
        let instance = Instance::with(&cluster, keyring, Policy::default()).await;
        instance.rename("grace").await;
        instance.rename("ada").await;
        assert_eq!(log.text().matches("token_life_short").count(), told, "tokens of {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn devices_that_do_not_outlive_entries_are_told_of_once() {
    let instance = Instance::over(&cluster()).await;
    for (seconds, told) in LIVES {
        let (log, _logging) = Log::begin();
        let life = Duration::from_secs(seconds);
        let devices = Devices::builder(Shared::default()).store(&instance.store).life(life).build().unwrap();
        for user in ["grace", "ada"] {
            let session = Session::new();
            let visit = devices.visit(&session, user);
            instance.rename_for(&session, user).await;
            visit.remember().await;
        }
        assert_eq!(log.text().matches("token_life_short").count(), told, "records of {seconds} s");
    }
}
