//! Jobs that carry a token.

use crate::support::{Instance, cluster, told};
use highwater::wire::{JobToken, Patience, Turn};
use highwater::{Rung, Session};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_job_is_put_off_until_a_replica_is_there_and_not_for_ever() {
    let cluster = cluster();
    let instance = Instance::over(&cluster).await;
    cluster.pause(1, true);
    let session = Session::new();
    instance.rename_for(&session, "grace").await;
    let payload = serde_json::to_string(&JobToken::new(session.token())).unwrap();
    let patience = Patience::default();

    let mut job: JobToken = serde_json::from_str(&payload).unwrap();
    let mut pauses = Vec::new();
    while let Turn::Again(pause) = job.turn(&instance.store, &patience) {
        pauses.push(pause);
        sleep(pause).await;
        job = serde_json::from_str(&serde_json::to_string(&job).unwrap()).unwrap();
    }
    assert_eq!(pauses.len(), 3);
    assert!(pauses.iter().all(|pause| (patience.pause_min..=patience.pause_max).contains(pause)), "{pauses:?}");
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
    assert_eq!(job.turn(&instance.store, &patience), Turn::RunAnyway);
    let late = Session::from_token(job.token().clone());
    assert_eq!(told(&instance.users.get(&late, &1).await.unwrap()), ("grace".to_owned(), Rung::Primary));

    let mut job: JobToken = serde_json::from_str(&payload).unwrap();
    assert!(matches!(job.turn(&instance.store, &patience), Turn::Again(_)));
    cluster.pause(1, false);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(job.turn(&instance.store, &patience), Turn::Run);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_not_put_off_where_that_would_not_help() {
    let cluster = cluster();
    let instance = Instance::over(&cluster).await;
    let patience = Patience::default();
    assert_eq!(JobToken::new(Session::new().token()).turn(&instance.store, &patience), Turn::Run);
    cluster.pause(1, true);
    let session = Session::new();
    instance.rename_for(&session, "grace").await;
    cluster.kill(1);
    sleep(Duration::from_secs(3)).await;
    let mut job = JobToken::new(session.token());
    assert_eq!(job.turn(&instance.store, &patience), Turn::Run, "there is no replica to wait for");
    // What a payload says about itself is not believed beyond the bound.
    cluster.start(1);
    cluster.pause(1, true);
    instance.rename_for(&session, "hedy").await;
    sleep(Duration::from_secs(3)).await;
    let worst = serde_json::json!({ "token": session.token(), "put_off": u32::MAX });
    let mut worst: JobToken = serde_json::from_value(worst).unwrap();
    assert_eq!(worst.turn(&instance.store, &patience), Turn::RunAnyway);
}
