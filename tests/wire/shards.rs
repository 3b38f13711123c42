//! One token for several clusters.

use crate::support::{Instance, cluster, key, other_cluster, told};
use highwater::wire::{Gate, Keyring, Outcome, Policy, Treatment};
use highwater::{History, Lsn, Position, Rung, Session, Timeline, Token};

#[tokio::test(start_paused = true)]
async fn a_token_covers_each_cluster_and_is_carried_through_those_it_does_not_name() {
    let (one, other) = (cluster(), other_cluster());
    let (here, there) = (Instance::over(&one).await, Instance::over(&other).await);
    one.pause(1, true);
    other.pause(1, true);
    let text = here.rename("grace").await;

    // A request that goes on to a service over another cluster, which writes there.
    let session = Session::new();
    assert_eq!(there.gate.take_in(&session, text.as_bytes(), None), Outcome::Foreign);
    assert_eq!(told(&there.users.get(&session, &1).await.unwrap()), ("ada".to_owned(), Rung::Replica));
    there.rename_for(&session, "hedy").await;
    let both = there.gate.write(&session, None).unwrap();
    assert_eq!(there.gate.stats().careful, 0);

    let (fresh_here, fresh_there) = (Instance::over(&one).await, Instance::over(&other).await);
    assert_eq!(fresh_here.request(&both).await, ("grace".to_owned(), Rung::Primary));
    assert_eq!(fresh_there.request(&both).await, ("hedy".to_owned(), Rung::Primary));
    assert_eq!(fresh_there.gate.stats().valid, 1);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_token_can_be_treated_with_care_while_a_cluster_is_replaced() {
    let (old, new) = (cluster(), other_cluster());
    let text = Instance::over(&old).await.rename("grace").await;
    let policy = Policy { foreign: Treatment::Careful, ..Policy::default() };
    let instance = Instance::with(&new, Keyring::new(key(1)), policy).await;
    new.pause(1, true);
    new.put("users", 1, "grace".to_owned()); // as the move brought it over
    assert_eq!(instance.request(&text).await, ("grace".to_owned(), Rung::Primary));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_left_out_is_read_with_care() {
    let cluster = cluster();
    let writer = Instance::over(&cluster).await;
    let session = Session::new();
    writer.rename_for(&session, "grace").await;
    // The client has written to fifteen others as well.
    for number in 1..=15 {
        let history = History::new(number, Timeline(1), vec![]);
        session.observe(&Token::at(&history, Position::new(1, Lsn::new(1 << 34))));
    }
    // A service that knows nothing of our cluster does not keep its part.
    let gateway = Gate::builder(Keyring::new(key(1))).clock(writer.wall.read()).build();
    let text = gateway.write(&session, None).unwrap();
    assert!(text.len() <= 256, "{}", text.len());

    let reader = Instance::over(&cluster).await;
    cluster.pause(1, true);
    writer.rename_for(&session, "hedy").await;
    let arrived = Session::new();
    assert_eq!(reader.gate.take_in(&arrived, text.as_bytes(), None), Outcome::Collapsed);
    assert_eq!(told(&reader.users.get(&arrived, &1).await.unwrap()), ("hedy".to_owned(), Rung::Primary));
    // A gate keeps its own cluster when it has to choose.
    let kept = writer.gate.write(&session, None).unwrap();
    assert_eq!(reader.gate.take_in(&Session::new(), kept.as_bytes(), None), Outcome::Valid);
}
