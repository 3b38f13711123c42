//! A person with two devices, and no token from one to the other.

use crate::app::{Answer, routes, send};
use crate::log::Log;
use crate::support::{Instance, cluster};
use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, Request};
use highwater::devices::Devices;
use highwater::http::{HEADER, TokenLayer};
use highwater::memory::{Call, Cluster, Fate, Line, Shared};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

const USER: HeaderName = HeaderName::from_static("x-user");
const LIFE: Duration = Duration::from_secs(30);

/// One instance; who asks is in a header that an outer layer has made.
struct Served {
    app: Router,
    devices: Devices,
}

async fn serve(cluster: &Cluster, shared: &Shared) -> Served {
    let instance = Arc::new(Instance::over(cluster).await);
    let devices = Devices::builder(shared.clone()).store(&instance.store).life(LIFE).build().unwrap();
    let user = |request: &Parts| Some(request.headers.get(USER)?.as_bytes().to_vec());
    let layer = TokenLayer::new(instance.gate.clone()).devices(&devices, user);
    Served { app: routes(instance).layer(layer), devices }
}

impl Served {
    async fn post(&self, path: &str) -> Answer {
        send(&self.app, "POST", path, &[(USER, "7")]).await
    }

    async fn name(&self) -> String {
        send(&self.app, "GET", "/name", &[(USER, "7")]).await.body
    }
}

/// Two instances over a store that is known to have lost nothing, and a replica that stands still.
async fn two() -> (Served, Served, Shared) {
    let (cluster, shared) = (cluster(), Shared::default());
    let (one, other) = (serve(&cluster, &shared).await, serve(&cluster, &shared).await);
    one.name().await;
    sleep(LIFE).await;
    cluster.pause(1, true);
    (one, other, shared)
}

#[tokio::test(start_paused = true)]
async fn the_laptop_sees_what_the_phone_wrote() {
    for path in ["/rename/grace", "/rename-and-fail/grace", "/rename-and-stream/grace"] {
        let (phone, laptop, _) = two().await;
        phone.post(path).await;
        assert_eq!(send(&laptop.app, "GET", "/name", &[(USER, "8")]).await.body, "ada", "somebody else");
        assert_eq!(send(&laptop.app, "GET", "/name", &[]).await.body, "ada", "nobody");
        assert_eq!(laptop.name().await, "grace", "{path}");
        assert_eq!((laptop.devices.stats().recalled, phone.devices.stats().remembered), (2, 1), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_write_waits_for_the_store_and_an_answer_to_a_read_does_not() {
    let (phone, laptop, shared) = two().await;
    phone.name().await;
    let slow = |_, call, _| Fate::Pass(Duration::from_millis(if call == Call::Exchange { 20 } else { 0 }));
    shared.set_line(Line::new(slow));
    let begun = Instant::now();
    let read = send(&phone.app, "GET", "/name", &[(USER, "7")]).await;
    assert_eq!(read.body, "ada");
    assert!((40..50).contains(&begun.elapsed().as_millis()), "the question alone: {:?}", begun.elapsed());
    let begun = Instant::now();
    phone.post("/rename/grace").await;
    assert!((80..90).contains(&begun.elapsed().as_millis()), "both: {:?}", begun.elapsed());
    let begun = Instant::now();
    phone.post("/rename-and-stream/hedy").await;
    assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
    assert_eq!(laptop.name().await, "hedy");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_fails_no_request() {
    let (phone, laptop, shared) = two().await;
    shared.set_down(true);
    let answer = phone.post("/rename/grace").await;
    assert!(answer.status.is_success() && answer.token().is_some());
    assert_eq!(laptop.name().await, "grace");
    assert_eq!((phone.devices.stats().deferred, laptop.devices.stats().away), (1, 1));
    shared.set_down(false);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(phone.devices.stats().remembered, 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_told_of_a_write_in_the_middle_of_a_body_sees_it_everywhere() {
    let (phone, laptop, shared) = two().await;
    shared.set_line(Line::new(|_, call, _| {
        Fate::Pass(Duration::from_millis(if call == Call::Exchange { 20 } else { 0 }))
    }));
    let request = Request::post("/rename-and-stay/grace").header(USER, "7").body(Body::empty()).unwrap();
    let mut body = phone.app.clone().oneshot(request).await.unwrap().into_body();
    let mut told = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(told().await, "begun");
    assert_eq!(phone.devices.stats().remembered, 0);
    assert_eq!(told().await, "renamed");
    assert_eq!(laptop.name().await, "grace", "while the stream is still open");
    assert_eq!(phone.devices.stats().remembered, 1);
}

/// Whose request it is, and what it brought, is nobody's business who reads the log, also where the store fails.
#[tokio::test(start_paused = true)]
async fn no_user_and_no_token_is_logged_at_any_level() {
    let (log, _logging) = Log::begin();
    let (phone, laptop, shared) = two().await;
    laptop.name().await;
    let token = send(&phone.app, "POST", "/rename/grace", &[(USER, "user-who-is-secret")]).await.token().unwrap();
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    let troubles: [fn(&Shared); 4] = [
        Shared::wipe,
        |shared| shared.tamper_users(|bytes| bytes.truncate(9)),
        |shared| shared.set_full(true),
        |shared| shared.set_down(true),
    ];
    for trouble in troubles {
        trouble(&shared);
        for token in [&token, &forged] {
            send(&laptop.app, "POST", "/rename/hedy", &[(HEADER, token), (USER, "user-who-is-secret")]).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
    laptop.devices.close().await;
    let logged = log.text();
    for event in ["token_unusable", "devices_deferred", "devices_may_have_lost"] {
        assert!(logged.contains(event), "{event}: {logged}");
    }
    for secret in ["user-who-is-secret", &token, &token[8..24], &forged, "hedy", "01010101"] {
        assert!(!logged.contains(secret), "{secret}");
    }
}
