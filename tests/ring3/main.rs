//! Real faults: PostgreSQL with two replicas, Redis, instances in processes of their own that a seed's faults strike, and
//! the checker over everything that their clients were told. `docs/testing.md` says how to run it.
#![cfg(feature = "testkit")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod client;
mod crew;
mod fault;
mod judge;
mod messages;
mod office;
mod plan;
mod results;
mod round;
#[path = "../common/rows.rs"]
mod rows;
mod scene;
mod strike;
mod worker;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[test]
fn the_promise_is_kept_under_real_faults() -> Result {
    let plan = plan::Plan::from_environment()?;
    println!("{plan}");
    // All histories are judged on one thread, which keeps what memory they need for the next.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).thread_keep_alive(std::time::Duration::from_secs(600)).enable_all();
    let runtime = runtime.build()?;
    let outcome = runtime.block_on(Box::pin(round::all(&plan)));
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    // As a test's error it would be told in one long line.
    outcome.map_err(|error| {
        println!("{}\n{plan}", told(&*error));
        "it failed, as told above".into()
    })
}

/// One process of the ring. Run by itself it has nobody to work for, and ends.
#[test]
#[ignore = "the test above starts it"]
fn worker() -> Result {
    worker::run()
}

/// An error with all its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
