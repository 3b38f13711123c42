//! Caches that ask only for what a session wrote of the key that is read. No instance here hears of another's writes, so
//! that an entry is kept from being served by nothing but what the session holds.

use crate::support::{Instance, UserCache, Users, cluster};
use highwater::memory::Cluster;
use highwater::{Freshness, ReadOptions, Retraction, Rung, Session, Strategy, Token};
use std::sync::Arc;

fn scoped(on: &Instance) -> UserCache {
    let users = Users { loads: Arc::clone(&on.loads), ..Users::default() };
    on.store.cache("users", users).scoped().build().unwrap()
}

/// An instance whose cache is scoped.
async fn instance(cluster: &Cluster) -> Instance {
    let mut on = Instance::over(cluster).await;
    on.users = scoped(&on);
    on
}

/// A cluster of users 1 to 12, and two instances that hold all of them.
async fn pair() -> (Cluster, Instance, Instance) {
    let cluster = cluster(0);
    (1..=12).for_each(|id| cluster.put("users", id, "ada".to_owned()));
    let (one, two) = (instance(&cluster).await, instance(&cluster).await);
    for id in 1..=12 {
        one.get(&Session::new(), id).await;
        two.get(&Session::new(), id).await;
    }
    (cluster, one, two)
}

async fn rung(on: &Instance, session: &Session, id: u64) -> Rung {
    on.get(session, id).await.rung
}

/// What a client carries, in text.
fn carried(session: &Session) -> Token {
    serde_json::from_str(&serde_json::to_string(&session.token()).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_write_costs_its_session_nothing_on_other_keys() {
    let (_cluster, one, two) = pair().await;
    let session = Session::new();
    one.write(&session, 1, "grace").await;
    assert_eq!(rung(&one, &session, 2).await, Rung::Local);
    assert_eq!(one.name(&session, 1).await.as_deref(), Some("grace"));
    let elsewhere = Session::from_token(carried(&session));
    assert_eq!(rung(&two, &elsewhere, 2).await, Rung::Local);
    assert_eq!(two.name(&elsewhere, 1).await.as_deref(), Some("grace"));
    assert_eq!(rung(&two, &elsewhere, 1).await, Rung::Local, "it was kept");

    one.write(&session, 3, "grace").await;
    let many =
        two.users.get_many(&Session::from_token(carried(&session)), &[3, 4], &ReadOptions::default()).await.unwrap();
    let [three, four] = &many[..] else { panic!("{many:?}") };
    assert_eq!((three.value.as_ref().unwrap().as_str(), four.rung), ("grace", Rung::Local));
}

#[tokio::test(start_paused = true)]
async fn the_default_asks_for_all_that_the_session_wrote() {
    let (cluster, one, _two) = pair().await;
    let strict = Instance::over(&cluster).await;
    strict.get(&Session::new(), 2).await;
    let session = Session::new();
    one.write(&session, 1, "grace").await;
    assert_ne!(rung(&strict, &session, 2).await, Rung::Local);
    // Nor does it say of what it writes which keys that were, if nobody there asks.
    let session = Session::new();
    strict.write(&session, 1, "joan").await;
    assert_ne!(rung(&one, &session, 2).await, Rung::Local);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_by_key_is_demanded_of_every_key() {
    let (cluster, one, two) = pair().await;
    let all = |session: &Session| ReadOptions::fresh(Freshness::AtLeast(session.token()));
    let session = Session::new();
    one.write(&session, 1, "grace").await;
    let asked = two.users.get_with(&session, &2, &all(&session)).await.unwrap();
    assert_ne!(asked.rung, Rung::Local, "who asks for everything");
    cluster.put("users", 3, "joan".to_owned());
    one.store.capture(&session, Retraction::new()).await.unwrap();
    assert_eq!(two.name(&session, 3).await.as_deref(), Some("joan"), "what was captured");
    let mut tx = one.begin(&session).await;
    tx.put("users", 4, "joan".to_owned()).await.unwrap();
    tx.retract_cache(&one.users);
    tx.commit().await.unwrap();
    assert_eq!(two.name(&session, 4).await.as_deref(), Some("joan"), "what named a cache");
    let mut tx = one.begin(&session).await;
    for id in 4..=12 {
        tx.put("users", id, "mary".to_owned()).await.unwrap();
        tx.retract(&one.users, &id);
    }
    tx.commit().await.unwrap();
    assert_eq!(two.name(&session, 12).await.as_deref(), Some("mary"), "what named more keys than there is room for");
}

/// The last eight keys are known; what was written before is demanded of every key.
#[tokio::test(start_paused = true)]
async fn of_more_keys_than_a_token_has_room_for_none_is_missed() {
    let (_cluster, one, two) = pair().await;
    let session = Session::new();
    for id in 1..=10 {
        one.write(&session, id, "grace").await;
    }
    let session = Session::from_token(carried(&session));
    for id in 1..=10 {
        assert_eq!(two.name(&session, id).await.as_deref(), Some("grace"), "user {id}");
    }
    assert_ne!(rung(&two, &session, 11).await, Rung::Local, "it is not known which were the first two");
}

/// Why a group is not remembered like a key: the entry was filled while its row was in another group, and was retracted
/// when that changed, of which this instance has not heard. By its own groups it would answer.
#[tokio::test(start_paused = true)]
async fn a_row_that_came_into_a_group_is_not_missed_when_the_group_is_written() {
    let cluster = cluster(0);
    cluster.put("users", 1, "a/ada".to_owned());
    let (one, two) = (instance(&cluster).await, instance(&cluster).await);
    two.get(&Session::new(), 1).await;
    one.write(&Session::new(), 1, "b/ada").await;
    let session = Session::new();
    let mut tx = one.begin(&session).await;
    tx.put("users", 1, "b/grace".to_owned()).await.unwrap();
    tx.retract_group("b");
    tx.commit().await.unwrap();
    assert_eq!(two.name(&session, 1).await.as_deref(), Some("b/grace"));
}

#[tokio::test(start_paused = true)]
async fn what_a_monotonic_session_saw_is_demanded_of_every_key() {
    let (_cluster, one, two) = pair().await;
    let session = Session::monotonic();
    one.write(&Session::new(), 1, "grace").await;
    one.get(&session, 1).await;
    assert_ne!(rung(&two, &session, 2).await, Rung::Local);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_go_by_position_cannot_be_scoped() {
    let on = Instance::over(&cluster(0)).await;
    let refused =
        on.store.cache("other", Users::default()).scoped().strategy(Strategy::TimeToLive).build().unwrap_err();
    assert!(refused.is_configuration() && refused.to_string().contains("scoped"), "{refused}");
    let by_tags = on.store.cache("other", Users::default()).scoped().strategy(Strategy::PositionByTags);
    assert!(by_tags.build().is_ok());
}
