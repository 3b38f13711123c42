//! What becomes of tokens that cannot be used, or not as they are.

use crate::support::{Instance, cluster, key, told};
use highwater::memory::{Fate, Network, Step};
use highwater::wire::{Gate, Key, Keyring, Outcome, Policy, Treatment};
use highwater::{Highwater, History, Lsn, Position, Rung, Session, Timeline, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn ada(rung: Rung) -> (String, Rung) {
    ("ada".to_owned(), rung)
}

fn grace(rung: Rung) -> (String, Rung) {
    ("grace".to_owned(), rung)
}

#[tokio::test(start_paused = true)]
async fn a_token_from_one_instance_is_honoured_by_another() {
    let cluster = cluster();
    let (one, other) = (Instance::over(&cluster).await, Instance::over(&cluster).await);
    cluster.pause(1, true);
    let text = one.rename("grace").await;
    assert_eq!(other.request("").await, ada(Rung::Replica), "without it, the lagging replica");
    assert_eq!(other.request(&text).await, grace(Rung::Primary));
    assert_eq!((other.gate.stats().valid, other.gate.stats().malformed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_brings_an_expired_token_is_treated_as_one_who_may_have_just_written() {
    let cluster = cluster();
    let instance = Instance::over(&cluster).await;
    cluster.pause(1, true);
    let text = instance.rename("grace").await;
    instance.wall.forward(DAY + Duration::from_secs(1));
    let session = Session::new();
    assert_eq!(instance.gate.take_in(&session, text.as_bytes(), None), Outcome::Expired);
    assert_eq!(told(&instance.users.get(&session, &1).await.unwrap()), grace(Rung::Primary));
    // From then on it holds a position of its own, and the next request comes with a token that can be used.
    sleep(Duration::from_secs(1)).await;
    assert!(!session.token().is_empty());
    let fresh = instance.gate.write(&session, None).unwrap();
    assert_eq!(instance.gate.take_in(&Session::new(), fresh.as_bytes(), None), Outcome::Valid);
    let stats = instance.gate.stats();
    assert_eq!((stats.expired, stats.careful, stats.valid), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_policy_can_treat_it_as_none_at_the_price_of_the_promise() {
    let cluster = cluster();
    let lax = Policy { expired: Treatment::NoToken, ..Policy::default() };
    let instance = Instance::with(&cluster, Keyring::new(key(1)), lax).await;
    cluster.pause(1, true);
    let text = instance.rename("grace").await;
    let other = Instance::over(&cluster).await;
    instance.wall.forward(DAY + Duration::from_secs(1));
    other.wall.forward(DAY + Duration::from_secs(1));
    assert_eq!(instance.request(&text).await.0, "grace", "its own write was retracted here");
    let lax = Policy { expired: Treatment::NoToken, ..Policy::default() };
    let third = Instance::with(&cluster, Keyring::new(key(1)), lax).await;
    third.wall.forward(DAY + Duration::from_secs(1));
    assert_eq!(third.request(&text).await, ada(Rung::Replica));
    assert_eq!(other.request(&text).await, grace(Rung::Primary));
}

/// As an instance of a later release writes it while both are there.
#[tokio::test(start_paused = true)]
async fn who_brings_a_token_of_an_unknown_form_is_treated_as_the_policy_says() {
    let cluster = cluster();
    let later = "BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj";
    let writer = Instance::over(&cluster).await;
    let read = async |policy: Policy| {
        let instance = Instance::with(&cluster, Keyring::new(key(1)), policy).await;
        let session = Session::new();
        assert_eq!(instance.gate.take_in(&session, later.as_bytes(), None), Outcome::UnknownForm);
        let stats = instance.gate.stats();
        (told(&instance.users.get(&session, &1).await.unwrap()), stats.unknown_form, stats.careful)
    };
    cluster.pause(1, true);
    writer.rename("grace").await;
    assert_eq!(read(Policy::default()).await, (grace(Rung::Primary), 1, 1));
    let lax = Policy { unknown_form: Treatment::NoToken, ..Policy::default() };
    assert_eq!(read(lax).await, (ada(Rung::Replica), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn care_has_a_budget() {
    let cluster = cluster();
    let policy = Policy { careful_per_second_max: 3, ..Policy::default() };
    let instance = Instance::with(&cluster, Keyring::new(key(1)), policy).await;
    let unknown = Instance::with(&cluster, Keyring::new(key(2)), Policy::default()).await.rename("grace").await;
    for _ in 0..10 {
        instance.request(&unknown).await;
    }
    let stats = instance.gate.stats();
    assert_eq!((stats.unknown_key, stats.careful, stats.careful_refused), (10, 3, 7));
    instance.wall.forward(Duration::from_secs(1));
    instance.request(&unknown).await;
    assert_eq!(instance.gate.stats().careful, 4);
}

/// Who makes up key numbers must not take the care from those that bring tokens of ours.
#[tokio::test(start_paused = true)]
async fn made_up_tokens_do_not_spend_the_care_of_genuine_ones() {
    let cluster = cluster();
    let policy = Policy { careful_per_second_max: 3, ..Policy::default() };
    let instance = Instance::with(&cluster, Keyring::new(key(1)), policy).await;
    let unknown = Instance::with(&cluster, Keyring::new(key(2)), Policy::default()).await.rename("ada").await;
    cluster.pause(1, true);
    // What a service wrote down that knows nothing of our cluster, for a client that has written to many.
    let session = Session::new();
    instance.rename_for(&session, "grace").await;
    for number in 1..=15 {
        let history = History::new(number, Timeline(1), vec![]);
        session.observe(&Token::at(&history, Position::new(1, Lsn::new(1 << 34))));
    }
    let gateway = Gate::builder(Keyring::new(key(1))).clock(instance.wall.read()).build();
    let collapsed = gateway.write(&session, None).unwrap();
    for _ in 0..10 {
        instance.gate.take_in(&Session::new(), unknown.as_bytes(), None);
    }
    assert_eq!(instance.gate.stats().careful_refused, 7);
    let arrived = Session::new();
    assert_eq!(instance.gate.take_in(&arrived, collapsed.as_bytes(), None), Outcome::Collapsed);
    sleep(Duration::from_millis(100)).await;
    let cluster = instance.store.history().system_identifier();
    assert_eq!(arrived.token().positions(cluster).count(), 1, "the primary was asked");
    assert_eq!(instance.gate.stats().careful_refused, 7);
}

#[tokio::test(start_paused = true)]
async fn care_waits_for_nobody_and_many_share_one_question() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let network = Network::new(move |node, step| {
        counter.fetch_add(usize::from(node == 0 && !matches!(step, Step::Answer)), Ordering::SeqCst);
        Fate::Pass(Duration::from_millis(5))
    });
    let store = Highwater::over(cluster().source_over(network)).start().await.unwrap();
    let begun = Instant::now();
    let sessions: Vec<Session> = (0..40).map(|_| Session::new()).collect();
    let asked_before = asked.load(Ordering::SeqCst);
    sessions.iter().for_each(|session| store.be_careful(session));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    sleep(Duration::from_millis(100)).await;
    assert!(sessions.iter().all(|session| !session.token().is_empty()));
    let asked = asked.load(Ordering::SeqCst) - asked_before;
    assert!((1..=10).contains(&asked), "the primary was asked {asked} things");
}

#[tokio::test(start_paused = true)]
async fn while_the_primary_is_away_care_is_an_error_and_never_an_old_row() {
    let cluster = cluster();
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    assert_eq!(told(&instance.users.get(&session, &1).await.unwrap()).0, "ada");
    cluster.freeze(0, true);
    instance.store.be_careful(&session);
    let error = instance.users.get(&session, &1).await.unwrap_err();
    assert!(error.as_cache().is_some(), "{error}");
    assert_eq!(instance.request("").await.0, "ada", "others are served");
}

#[tokio::test(start_paused = true)]
async fn forged_tokens_send_no_read_to_the_primary() {
    let cluster = cluster();
    let instance = Instance::over(&cluster).await;
    let genuine = instance.rename("grace").await;
    sleep(Duration::from_secs(1)).await;
    instance.request(&genuine).await;
    let (reads, caches) = (instance.store.stats().counts, instance.users.stats());
    let thief = Keyring::new(Key::new(1, b"thirty-two bytes that somebody guessed").unwrap());
    let high = Token::at(&instance.store.history(), Position::new(1, Lsn::new(u64::MAX / 2)));
    let context = highwater::wire::Context { audience: None, now_unix_s: crate::support::NOW };
    let forged = thief.write(&high, &[], &context, [0; 12]);
    for _ in 0..1_000 {
        assert_eq!(instance.request(&genuine).await, grace(Rung::Local));
        assert_eq!(instance.request(&forged).await, grace(Rung::Local));
    }
    assert_eq!(instance.store.stats().counts, reads, "nothing but the in-process tier was asked");
    assert_eq!(instance.users.stats().hits_local, caches.hits_local + 2_000);
    let stats = instance.gate.stats();
    assert_eq!((stats.forged, stats.careful), (1_000, 0));
}

/// Not by default, since anybody can send them: then each takes from the budget, and no more.
#[tokio::test(start_paused = true)]
async fn a_policy_can_take_care_where_a_text_is_forged_or_malformed() {
    let cluster = cluster();
    let wary = Policy {
        forged: Treatment::Careful,
        malformed: Treatment::Careful,
        careful_per_second_max: 2,
        ..Policy::default()
    };
    let instance = Instance::with(&cluster, Keyring::new(key(1)), wary).await;
    let text = instance.rename("grace").await;
    cluster.pause(1, true);
    let forged = format!("{}AAAA", &text[..text.len() - 4]);
    for (text, outcome) in [(&forged[..], Outcome::Forged), ("nonsense", Outcome::Malformed)] {
        let session = Session::new();
        assert_eq!(instance.gate.take_in(&session, text.as_bytes(), None), outcome);
        assert_eq!(told(&instance.users.get(&session, &1).await.unwrap()).0, "grace");
        assert!(!session.token().is_empty(), "{outcome:?}: it was told how far the primary is");
    }
    instance.gate.take_in(&Session::new(), b"nonsense", None);
    let stats = instance.gate.stats();
    assert_eq!((stats.careful, stats.careful_refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_signed_token_above_the_primary_is_clamped_counted_and_never_waited_for() {
    let cluster = cluster();
    let instance = Instance::over(&cluster).await;
    let high = Token::at(&instance.store.history(), Position::new(1, Lsn::new(u64::MAX / 2)));
    let text = instance.gate.write(&Session::from_token(high), None).unwrap();
    let session = Session::new();
    assert_eq!(instance.gate.take_in(&session, text.as_bytes(), None), Outcome::Valid);
    assert!(!session.was_clamped(), "nobody was asked yet");
    let begun = Instant::now();
    assert_eq!(told(&instance.users.get(&session, &1).await.unwrap()).0, "ada");
    assert!(begun.elapsed() < Duration::from_millis(250), "{:?}", begun.elapsed());
    assert_eq!((instance.store.stats().counts.tokens_clamped, session.was_clamped()), (1, true));
    let lowered = session.token().positions(instance.store.history().system_identifier()).next().unwrap();
    assert!(lowered.lsn < Lsn::new(u64::MAX / 4), "{lowered}");
    // Pinned: only a tag covers it, and one that was filled now does.
    assert!(instance.users.get(&session, &1).await.unwrap().position.lsn >= lowered.lsn);
}

#[tokio::test(start_paused = true)]
async fn a_replayed_token_takes_nothing_back() {
    let cluster = cluster();
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    let old = instance.rename("grace").await;
    instance.rename_for(&session, "hedy").await;
    let held = session.token();
    assert_eq!(instance.gate.take_in(&session, old.as_bytes(), None), Outcome::Valid);
    assert_eq!(session.token(), held);
    for _ in 0..3 {
        assert_eq!(instance.request(&old).await.0, "hedy", "at least what it covers, never less");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_write_is_told_to_whoever_brings_its_token() {
    let cluster = cluster();
    let (one, other) = (Instance::over(&cluster).await, Instance::over(&cluster).await);
    cluster.set_transit(1, Duration::from_secs(60));
    let text = one.rename("grace").await;
    cluster.kill(0);
    assert!(cluster.promote(1));
    sleep(Duration::from_secs(5)).await;
    let session = Session::new();
    assert_eq!(other.gate.take_in(&session, text.as_bytes(), None), Outcome::Valid);
    let error = other.users.get(&session, &1).await.unwrap_err();
    assert!(error.as_cache().unwrap().is_write_lost(), "{error}");
}
