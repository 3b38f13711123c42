//! A store that is away, or has lost what it held.

use crate::support::{Instance, LIFE, USER, cluster};
use highwater::devices::Remembered;
use highwater::memory::{Cluster, Shared};
use highwater::wire::{Context, Key, Keyring};
use highwater::{History, Lsn, Position, Rung, Session, Timeline, Token};
use std::time::Duration;
use tokio::time::sleep;

struct Ready {
    cluster: Cluster,
    shared: Shared,
    phone: Instance,
}

impl Ready {
    /// A store that is known to have lost nothing, and a replica that stands still.
    async fn new() -> Self {
        let (cluster, shared) = (cluster(1), Shared::default());
        let phone = Instance::over(&cluster, shared.clone()).await;
        phone.look().await;
        sleep(LIFE).await;
        cluster.pause(1, true);
        Self { cluster, shared, phone }
    }

    async fn fresh(&self) -> Instance {
        Instance::over(&self.cluster, self.shared.clone()).await
    }
}

fn grace(rung: Rung) -> (String, Rung) {
    ("grace".to_owned(), rung)
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_each_user_costs_the_primary_one_question() {
    let losses: [(&str, fn(&Shared)); 4] = [
        ("wiped", Shared::wipe),
        ("evicted", Shared::evict_users),
        ("restarted", |shared| {
            shared.set_down(true);
            shared.set_down(false);
        }),
        ("failed over to an empty copy", |shared| shared.fall_back(&Shared::default().copy())),
    ];
    for (what, lose) in losses {
        let ready = Ready::new().await;
        assert_eq!(ready.phone.rename("grace").await, Remembered::Stored);
        let laptop = ready.fresh().await;
        assert_eq!(laptop.look().await, grace(Rung::Primary));
        assert_eq!((laptop.devices.stats().recalled, laptop.devices.stats().incomplete), (1, 0), "{what}");
        lose(&ready.shared);
        let tablet = ready.fresh().await;
        assert_eq!(tablet.look().await, grace(Rung::Primary), "{what}");
        sleep(Duration::from_secs(1)).await;
        let told = tablet.devices.stats();
        assert_eq!((told.recalled, told.incomplete, told.answered_for), (0, 1, 1), "{what}: {told:?}");
        for _ in 0..3 {
            let television = ready.fresh().await;
            assert_eq!(television.look().await, grace(Rung::Primary), "{what}");
            assert_eq!(television.devices.stats().recalled, 1, "{what}: the tablet answered for it");
        }
        assert_eq!(laptop.look().await, grace(Rung::Primary), "{what}: it holds an older answer");
        assert_eq!(laptop.devices.stats().eras, 1, "{what}: it was there before");
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_is_not_believed() {
    let ready = Ready::new().await;
    ready.phone.rename("hedy").await;
    let copy = ready.shared.copy();
    ready.phone.rename("grace").await;
    ready.shared.fall_back(&copy);
    let laptop = ready.fresh().await;
    assert_eq!(laptop.look().await, grace(Rung::Primary));
    assert_eq!(laptop.devices.stats().incomplete, 1);
}

/// The store fails over and is switched back to the server that was there before, which has lost nothing and lacks what was
/// written meanwhile.
#[tokio::test(start_paused = true)]
async fn who_has_seen_its_successor_does_not_believe_a_server_that_comes_back() {
    let ready = Ready::new().await;
    ready.phone.rename("grace").await;
    ready.cluster.pause(1, false);
    sleep(Duration::from_secs(1)).await;
    ready.cluster.pause(1, true);
    let laptop = Instance::over(&ready.cluster, ready.shared.client(2)).await;
    ready.shared.split([]);
    laptop.look().await;
    assert_eq!(ready.phone.rename("hedy").await, Remembered::Stored);
    let tablet = Instance::over(&ready.cluster, ready.shared.client(3)).await;
    ready.shared.lead_back([2, 3]);
    assert_eq!(tablet.look().await.0, "grace", "nobody told it of another server");
    assert_eq!(tablet.devices.stats().recalled, 1, "to which everything is there");
    assert_eq!(laptop.look().await, ("hedy".to_owned(), Rung::Primary));
    let believed = laptop.devices.stats().recalled;
    // It has the server begin another era, which is asked after like any.
    assert_eq!(laptop.look().await, ("hedy".to_owned(), Rung::Primary));
    assert_eq!((laptop.devices.stats().recalled, believed), (0, 0));
}

/// A text has room for few clusters, so what a device was told of ours may be left out of what it brings.
#[tokio::test(start_paused = true)]
async fn a_record_that_clusters_were_left_out_of_is_no_proof_of_nothing() {
    let ready = Ready::new().await;
    ready.phone.write(&Session::new(), "grace").await;
    let cluster = |number| History::new(number, Timeline(1), vec![]);
    let mut token = Token::default();
    (1..=16).for_each(|number| token.merge(&Token::at(&cluster(number), Position::new(1, Lsn::new(1 << 47)))));
    let keyring = Keyring::new(Key::new(1, &[7; 32]).unwrap());
    let context = Context { audience: None, now_unix_s: 1_790_000_000 };
    let text = keyring.write(&token, &[], &context, [0; 12]);
    let session = Session::from_token(keyring.open(text.as_bytes(), &context).unwrap().token);
    let visit = ready.phone.devices.visit(&session, USER);
    session.gathered().await;
    assert_eq!(visit.remember().await, Remembered::Stored);
    let laptop = ready.fresh().await;
    assert_eq!(laptop.look().await, grace(Rung::Primary));
    assert_eq!(laptop.devices.stats().incomplete, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_between_a_loss_and_its_discovery_is_not_taken_for_everything() {
    let ready = Ready::new().await;
    ready.phone.rename("grace").await;
    ready.shared.wipe();
    // A write to another row, by another device: its position lies above, so the record would do. A lower one would not.
    let other = Session::new();
    let visit = ready.phone.devices.visit(&other, USER);
    other.gathered().await;
    drop(visit);
    let laptop = ready.fresh().await;
    assert_eq!(laptop.look().await, grace(Rung::Primary));
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_one_era_counts_for_no_other() {
    let ready = Ready::new().await;
    ready.phone.rename("grace").await;
    for _ in 0..3 {
        ready.shared.wipe();
        let laptop = ready.fresh().await;
        assert_eq!(laptop.look().await, grace(Rung::Primary));
        assert_eq!(laptop.devices.stats().incomplete, 1);
        // Lost again, before the primary's answer has come back to it.
        ready.shared.wipe();
        sleep(Duration::from_secs(1)).await;
        let tablet = ready.fresh().await;
        tablet.look().await;
        assert_eq!(tablet.devices.stats().recalled, 0, "whoever answered for an era that is over");
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_is_away_or_frozen_everybody_asks_the_primary_and_nothing_piles_up() {
    let troubles: [(&str, fn(&Shared, bool)); 2] = [("away", Shared::set_down), ("frozen", Shared::freeze)];
    for (what, trouble) in troubles {
        let ready = Ready::new().await;
        ready.phone.rename("grace").await;
        trouble(&ready.shared, true);
        let laptop = ready.fresh().await;
        for _ in 0..5 {
            assert_eq!(laptop.look().await.0, "grace", "{what}");
        }
        let told = laptop.devices.stats();
        assert_eq!((told.away, told.deferred), (5, 0), "{what}: who wrote nothing leaves nothing");
        trouble(&ready.shared, false);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_store_does_not_take_is_told_until_it_does() {
    let ready = Ready::new().await;
    ready.shared.set_full(true);
    assert_eq!(ready.phone.rename("grace").await, Remembered::Deferred);
    let before = ready.fresh().await;
    assert_eq!(before.look().await.0, "ada", "other instances cannot know: this is what Deferred says");
    assert_eq!(ready.phone.look().await.0, "grace", "its own does");
    ready.shared.set_full(false);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ready.fresh().await.look().await, grace(Rung::Primary));
    let told = ready.phone.devices.stats();
    assert_eq!((told.deferred, told.remembered, told.dropped), (2, 1, 0), "by two requests, of one user");
    // What is not taken by the end is counted.
    ready.shared.set_full(true);
    ready.phone.rename("hedy").await;
    ready.phone.devices.close().await;
    assert_eq!(ready.phone.devices.stats().dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_replaced_and_not_trusted_again() {
    let ready = Ready::new().await;
    ready.phone.rename("grace").await;
    ready.shared.tamper_users(|bytes| bytes.truncate(9));
    let session = Session::new();
    // A device that writes to another cluster only would not cover what was there.
    let laptop = ready.fresh().await;
    laptop.devices.visit(&session, USER);
    assert_eq!(laptop.read(&session).await.unwrap().value.unwrap().as_str(), "grace");
    assert_eq!((laptop.devices.stats().unreadable, laptop.devices.stats().incomplete), (1, 1));
    sleep(Duration::from_secs(1)).await;
    let tablet = ready.fresh().await;
    assert_eq!(tablet.look().await, grace(Rung::Primary));
    assert_eq!(tablet.devices.stats().recalled, 1, "the laptop answered for it");
}

#[tokio::test(start_paused = true)]
async fn a_lost_write_is_told_to_the_user_once() {
    let ready = Ready::new().await;
    ready.cluster.set_transit(1, Duration::from_secs(60));
    ready.phone.rename("grace").await;
    ready.cluster.kill(0);
    assert!(ready.cluster.promote(1));
    sleep(Duration::from_secs(5)).await;
    let laptop = ready.fresh().await;
    let session = Session::new();
    let visit = laptop.devices.visit(&session, USER);
    let error = laptop.read(&session).await.unwrap_err();
    assert!(error.as_cache().unwrap().is_write_lost(), "{error}");
    laptop.store.accept_loss(&session);
    assert_eq!(laptop.read(&session).await.unwrap().value.unwrap().as_str(), "ada");
    assert_eq!(visit.remember().await, Remembered::Stored);
    assert_eq!(ready.fresh().await.look().await.0, "ada", "their tablet is not told again");
}

#[tokio::test(start_paused = true)]
async fn a_position_that_a_crash_undid_does_not_stay() {
    let ready = Ready::new().await;
    // A token from far beyond the log's end, as before a restore.
    let history = ready.phone.store.history();
    let far = Token::at(&history, Position::new(1, Lsn::new(1 << 50)));
    let session = Session::from_token(far);
    assert_eq!(ready.phone.devices.visit(&session, USER).remember().await, Remembered::Unchanged, "nothing was added");
    let visit = ready.phone.devices.visit(&session, USER);
    session.gathered().await;
    assert_eq!(visit.remember().await, Remembered::Stored);
    let laptop = ready.fresh().await;
    laptop.look().await;
    laptop.look().await;
    assert_eq!(laptop.store.stats().counts.tokens_clamped, 1, "the first to read has put it right");
}
