//! What forged tokens cost a service on real servers: requests a second that clients with genuine tokens get answered while
//! as many others forge theirs, against the same while those bring none.
//!
//! Goal: 0.95 of them. The service is an axum router over PostgreSQL with a replica; its clients call it without sockets,
//! which would cost both sides the same. Against all clients genuine there would be nothing to see: who brings no token
//! that counts demands nothing, and gets more hits.

#![expect(clippy::expect_used, reason = "what is not as expected is not measured")]

#[expect(dead_code, reason = "not every benchmark looks at everything that is measured")]
mod paired;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Request, StatusCode};
use axum::routing::get;
use highwater::http::{HEADER, TokenLayer};
use highwater::testkit::Cluster;
use highwater::wire::{Context, Gate, Key, Keyring};
use highwater::{Cache, Highwater, Lsn, Position, QueryError, Repository, Routed, Session, Token};
use paired::{Effort, Sample, cpu, head, pairs, row};
use rustix::time::ClockId;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt;

const ROWS: u64 = 1_000;
const SCHEMA: &str = "create table t (id int8 primary key, v int8 not null) with (fillfactor = 50); \
    insert into t select n, 0 from generate_series(0, 999) n";
const CLIENTS: u64 = 16;
/// One request in so many writes.
const WRITES: u64 = 20;

struct Rows;

impl Repository for Rows {
    type Key = i64;
    type Value = i64;
    type Error = QueryError;

    async fn load(&self, on: &Routed, key: &i64) -> Result<Option<i64>, QueryError> {
        Ok(on.query_scalar("select v from t where id = $1", &[key]).await?.pop())
    }
}

struct Service {
    store: Highwater,
    rows: Cache<Rows>,
}

async fn show(State(it): State<Arc<Service>>, session: Session, Path(id): Path<i64>) -> String {
    let read = it.rows.get(&session, &id).await.expect("an answer");
    read.value.expect("a row").to_string()
}

async fn change(State(it): State<Arc<Service>>, session: Session, Path(id): Path<i64>) -> StatusCode {
    let mut tx = it.store.begin(&session).await.expect("a transaction");
    tx.retract(&it.rows, &id);
    tx.execute("update t set v = v + 1 where id = $1", &[&id]).await.expect("an update");
    tx.commit().await.expect("a commit");
    StatusCode::NO_CONTENT
}

/// What a client brings.
#[derive(Clone)]
enum Brings {
    /// The token that it was given last.
    Its,
    /// Always the same: one that is forged, or none.
    Always(Option<HeaderValue>),
}

/// One client's requests until `until`, and how many were answered.
async fn client(app: Router, number: u64, brings: Brings, until: Instant) -> u64 {
    let (mut token, keeps) = match brings {
        Brings::Its => (None, true),
        Brings::Always(token) => (token, false),
    };
    let mut answered = 0;
    while Instant::now() < until {
        let turn = answered * CLIENTS + number;
        let method = if (answered + number).is_multiple_of(WRITES) { "POST" } else { "GET" };
        let mut request = Request::builder().method(method).uri(format!("/rows/{}", turn * 7_919 % ROWS));
        if let Some(token) = &token {
            request = request.header(HEADER, token);
        }
        let response = app.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("a response");
        assert!(response.status().is_success(), "{}", response.status());
        if let (true, Some(given)) = (keeps, response.headers().get(HEADER)) {
            token = Some(given.clone());
        }
        answered += 1;
    }
    answered
}

/// A round: what every other client gets answered, while those between them bring this.
async fn requests(app: &Router, time: Duration, others: Option<&HeaderValue>) -> Sample {
    let (begun, ran) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    let (mut genuine, mut rest) = (JoinSet::new(), JoinSet::new());
    for number in (0..CLIENTS).step_by(2) {
        genuine.spawn(client(app.clone(), number, Brings::Its, begun + time));
        rest.spawn(client(app.clone(), number + 1, Brings::Always(others.cloned()), begun + time));
    }
    let answered: u64 = genuine.join_all().await.into_iter().sum();
    let sample = Sample { count: answered as f64, wall: begun.elapsed(), cpu: cpu(ClockId::ProcessCPUTime) - ran };
    rest.join_all().await;
    sample
}

fn keyring(id: u8, secret: u8) -> Keyring {
    Keyring::new(Key::new(id, &[secret; 32]).expect("a key"))
}

async fn run(effort: Effort) {
    let cluster = Cluster::start(1).await.expect("a cluster");
    cluster.primary().execute(SCHEMA).await.expect("a table");
    cluster.wait_for_catchup().await.expect("a replica");
    let urls = cluster.nodes().map(|node| node.url());
    let store = Highwater::builder().replicas(urls).connect().await.expect("a store");
    let rows = store.cache("t", Rows).build().expect("a cache");
    let service = Arc::new(Service { store: store.clone(), rows });
    let routes = Router::new().route("/rows/{id}", get(show).post(change)).with_state(service);
    let app = || {
        let gate = Gate::builder(keyring(1, 1)).store(&store).build();
        (routes.clone().layer(TokenLayer::new(gate.clone())), gate)
    };
    // What a forger would have demanded: more than there is.
    let high = Token::at(&store.history(), Position::new(1, Lsn::new(1 << 62)));
    let now_unix_s = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let context = Context { audience: None, now_unix_s };
    let written = |keyring: Keyring| keyring.write(&high, &[], &context, [0; 12]);
    let time = Duration::from_millis(effort.of(1_000, 200) as u64);
    head(
        "Thousands of requests a second with genuine tokens, on real servers, while as many others forge, against with none",
    );
    for (what, text) in [
        ("a wrong signature", written(keyring(1, 2))),
        ("a key that nobody has", written(keyring(9, 2))),
        ("nonsense", "x".repeat(90)),
    ] {
        let forged = HeaderValue::from_str(&text).expect("a header");
        let ((bare, _), (ours, gate)) = (app(), app());
        let pairs = pairs(
            effort.rounds(),
            async || requests(&bare, time, None).await,
            async || requests(&ours, time, Some(&forged)).await,
        );
        row(what, 0.95.., &pairs.await, Sample::rate);
        println!("{:?}", gate.stats());
    }
    println!("{:?}", store.stats().counts);
    store.close().await;
}

fn main() {
    let effort = Effort::asked_for();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run(effort));
}
