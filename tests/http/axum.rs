//! A service of axum, two instances over one cluster whose replica stands still.

use crate::app::{Answer, app, routes, send};
use crate::support::{Instance, cluster};
use axum::http::header::{CACHE_CONTROL, COOKIE, TE, TRAILER};
use axum::http::{HeaderName, StatusCode};
use axum::{Router, middleware};
use highwater::Session;
use highwater::http::{Audience, HEADER, TokenLayer};
use highwater::memory::Cluster;
use std::sync::Arc;

/// The instance that is written to, the one that is read from, and their apps.
struct Pair {
    cluster: Cluster,
    reader: Arc<Instance>,
    write: Router,
    read: Router,
}

impl Pair {
    async fn new() -> Self {
        let cluster = cluster();
        let (writer, reader) = (Arc::new(Instance::over(&cluster).await), Arc::new(Instance::over(&cluster).await));
        cluster.pause(1, true);
        Self { cluster, write: app(&writer), read: app(&reader), reader }
    }

    async fn name(&self, headers: &[(HeaderName, &str)]) -> String {
        send(&self.read, "GET", "/name", headers).await.body
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_instance_wrote_another_shows_by_header_and_by_cookie() {
    let pair = Pair::new().await;
    let written = send(&pair.write, "POST", "/rename/grace", &[]).await;
    let (token, cookie) = (written.token().unwrap(), written.set_cookie().unwrap());
    let name = format!("__Host-highwater-{}", &token[token.len() - 8..]);
    assert_eq!(cookie, format!("{name}={token}; Path=/; Max-Age=86400; SameSite=Lax; Secure; HttpOnly"));
    assert_eq!(written.headers[CACHE_CONTROL], "private");
    assert!(written.headers[HEADER].is_sensitive(), "so that it is not shown where headers are");
    assert!(!format!("{written:?}").contains(&token));

    assert_eq!(pair.name(&[]).await, "ada", "without a token, the replica that stands still");
    assert_eq!(pair.name(&[(HEADER, &token)]).await, "grace");
    let sent_back = format!("theme=dark; {}", cookie.split(';').next().unwrap());
    assert_eq!(pair.name(&[(COOKIE, &sent_back)]).await, "grace");
    assert_eq!(pair.reader.gate.stats().valid, 2);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_raised_nothing_carries_nothing() {
    let pair = Pair::new().await;
    let token = send(&pair.write, "POST", "/rename/grace", &[]).await.token().unwrap();
    for headers in [&[][..], &[(HEADER, &token[..])]] {
        let read = send(&pair.read, "GET", "/name", headers).await;
        assert_eq!((read.token(), read.set_cookie(), read.headers.get(CACHE_CONTROL)), (None, None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_after_a_write_carries_its_token() {
    let pair = Pair::new().await;
    let failed = send(&pair.write, "POST", "/rename-and-fail/grace", &[]).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(pair.name(&[(HEADER, &failed.token().unwrap())]).await, "grace");
}

#[tokio::test(start_paused = true)]
async fn a_write_during_the_body_is_told_behind_it_to_those_who_take_trailers() {
    let pair = Pair::new().await;
    let deaf: Answer = send(&pair.write, "POST", "/rename-and-stream/grace", &[]).await;
    assert_eq!((&deaf.body[..], deaf.token(), deaf.late_token()), ("step 0;step 1;step 2;", None, None));
    let told = send(&pair.write, "POST", "/rename-and-stream/hedy", &[(TE, "gzip;q=0.5, Trailers")]).await;
    assert_eq!((&told.body[..], told.token()), ("step 0;step 1;step 2;", None));
    assert_eq!(told.headers[TRAILER], HEADER.as_str());
    assert_eq!(pair.name(&[(HEADER, &told.late_token().unwrap())]).await, "hedy");
}

#[tokio::test(start_paused = true)]
async fn care_ends_with_a_token_that_can_be_used() {
    let pair = Pair::new().await;
    let token = send(&pair.write, "POST", "/rename/grace", &[]).await.token().unwrap();
    pair.reader.wall.forward(std::time::Duration::from_secs(2 * 24 * 3600));
    let careful = send(&pair.read, "GET", "/name", &[(HEADER, &token)]).await;
    assert_eq!(careful.body, "grace");
    let fresh = careful.token().expect("the primary had answered by the end of the read");
    assert_eq!(pair.name(&[(HEADER, &fresh)]).await, "grace");
    assert_eq!(pair.reader.gate.stats().careful, 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_for_one_tenant_is_forged_for_another() {
    let pair = Pair::new().await;
    let of_tenant = |instance: &Arc<Instance>| {
        let tenant = |parts: &http::request::Parts| Some(parts.headers.get("tenant")?.as_bytes().to_vec());
        routes(Arc::clone(instance)).layer(TokenLayer::new(instance.gate.clone()).audience(tenant))
    };
    let app = of_tenant(&pair.reader);
    let tenant = HeaderName::from_static("tenant");
    let token = send(&app, "POST", "/rename/grace", &[(tenant.clone(), "1")]).await.token().unwrap();
    for (other, forged) in [(Some("1"), 0), (Some("2"), 1), (None, 2)] {
        let mut headers = vec![(HEADER, &token[..])];
        headers.extend(other.map(|other| (tenant.clone(), other)));
        send(&app, "GET", "/name", &headers).await;
        assert_eq!(pair.reader.gate.stats().forged, forged, "{other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_logs_in_takes_along_what_they_wrote_before() {
    let pair = Pair::new().await;
    let writer = Arc::new(Instance::over(&pair.cluster).await);
    let of_login = |instance: &Arc<Instance>, next: Option<Audience>| {
        let login = |parts: &http::request::Parts| Some(parts.headers.get("login")?.as_bytes().to_vec());
        let changes = move |mut response: axum::response::Response| {
            if let Some(next) = next.clone() {
                response.extensions_mut().insert(next);
            }
            async { response }
        };
        let layer = TokenLayer::new(instance.gate.clone()).audience(login);
        let inner = layer.clone().header(HeaderName::from_static("of-an-inner-layer"));
        routes(Arc::clone(instance)).layer(middleware::map_response(changes)).layer(inner).layer(layer)
    };
    let login = (HeaderName::from_static("login"), "7");
    let before = send(&of_login(&writer, None), "POST", "/rename/grace", &[]).await.token().unwrap();
    let entering = of_login(&writer, Some(Audience::of("7")));
    // The same where the request of the log-in writes nothing: what its client holds is forged from now on.
    let within = send(&entering, "GET", "/health", &[(HEADER, &before)]).await.token().unwrap();
    let inside = of_login(&pair.reader, None);
    assert_eq!(send(&inside, "GET", "/name", &[(HEADER, &within), login.clone()]).await.body, "grace");
    assert_eq!(pair.reader.gate.stats().forged, 0);
    let leaving = of_login(&writer, Some(Audience::nobody()));
    let after = send(&leaving, "POST", "/rename/hedy", &[(HEADER, &within), login]).await.token().unwrap();
    assert_eq!(send(&inside, "GET", "/name", &[(HEADER, &after)]).await.body, "hedy");
    assert_eq!((pair.reader.gate.stats().forged, writer.gate.stats().forged), (0, 0));
    assert_eq!(format!("{:?}", Audience::of("secret")), "Audience { .. }");
}

#[tokio::test(start_paused = true)]
async fn an_inner_layer_uses_the_session_of_an_outer_one() {
    let pair = Pair::new().await;
    let token = send(&pair.write, "POST", "/rename/grace", &[]).await.token().unwrap();
    let other = TokenLayer::new(pair.reader.gate.clone()).header(HeaderName::from_static("other-token"));
    let nested = routes(Arc::clone(&pair.reader)).layer(other).layer(TokenLayer::new(pair.reader.gate.clone()));
    assert_eq!(send(&nested, "GET", "/name", &[(HEADER, &token)]).await.body, "grace");
}

/// What was written before the token came in is news to the client, though it brought one.
#[tokio::test(start_paused = true)]
async fn what_an_outer_layer_wrote_is_told_to_who_brings_a_token() {
    let pair = Pair::new().await;
    let token = send(&pair.write, "POST", "/rename/grace", &[]).await.token().unwrap();
    let session = Session::new();
    pair.reader.rename_for(&session, "hedy").await;
    let outer = middleware::map_request(move |mut request: axum::extract::Request| {
        request.extensions_mut().insert(session.clone());
        async { request }
    });
    let app = routes(Arc::clone(&pair.reader)).layer(TokenLayer::new(pair.reader.gate.clone())).layer(outer);
    let answer = send(&app, "GET", "/health", &[(HEADER, &token)]).await;
    let fresh = answer.token().expect("the session holds more than the client does");
    assert_eq!(send(&pair.write, "GET", "/name", &[(HEADER, &fresh)]).await.body, "hedy");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_says_how_it_is_cached_has_its_way() {
    let pair = Pair::new().await;
    let cached = |response: axum::response::Response| async { ([(CACHE_CONTROL, "no-store")], response) };
    let app = routes(Arc::clone(&pair.reader)).layer(middleware::map_response(cached));
    let app = app.layer(TokenLayer::new(pair.reader.gate.clone()));
    let written = send(&app, "POST", "/rename/grace", &[]).await;
    assert!(written.token().is_some());
    assert_eq!(written.headers[CACHE_CONTROL], "no-store");
    pair.cluster.pause(1, false);
}
