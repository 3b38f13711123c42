//! What an enemy sends, and what is put together wrongly.

use crate::app::{app, routes, send};
use crate::support::{Instance, cluster};
use axum::body::Body;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderValue, Request, StatusCode};
use highwater::http::{Cookie, HEADER, TokenLayer};
use std::sync::Arc;
use tower::ServiceExt;

#[tokio::test(start_paused = true)]
async fn a_handler_without_the_layer_says_so_and_makes_up_no_session() {
    let instance = Arc::new(Instance::over(&cluster()).await);
    let answer = send(&routes(instance), "GET", "/name", &[]).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.body.contains("TokenLayer"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_tokens_a_few_are_looked_at() {
    let instance = Arc::new(Instance::over(&cluster()).await);
    let mut request = Request::builder().uri("/name");
    for number in 0..1_000 {
        request = request
            .header(HEADER, format!("{number}"))
            .header(COOKIE, "__Host-highwater-00000000=A; __Host-highwater-00000001=B");
    }
    // Not even text.
    request = request.header(HEADER, HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    let answer = app(&instance).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let stats = instance.gate.stats();
    assert_eq!((stats.malformed, stats.careful), (8, 1));
}

#[tokio::test(start_paused = true)]
async fn a_planted_cookie_does_not_hide_the_genuine_one() {
    let instance = Arc::new(Instance::over(&cluster()).await);
    let app = app(&instance);
    let token = send(&app, "POST", "/rename/grace", &[]).await.token().unwrap();
    let planted = format!("__Host-highwater-AAAAAAAA=AgFqsTuAAGVOz1KsWgABAQEA; __Host-highwater-BBBBBBBB={token}");
    let answer = send(&app, "GET", "/name", &[(COOKIE, &planted)]).await;
    assert_eq!(answer.body, "grace");
    assert_eq!((instance.gate.stats().forged, instance.gate.stats().valid), (1, 1));
    let set: Vec<_> = answer.headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
    assert_eq!(set.len(), 3, "the browser holds one again: {set:?}");
    assert!(set[1].starts_with("__Host-highwater-AAAAAAAA=; ") && set[1].contains("Max-Age=0"), "{set:?}");
}

#[test]
fn a_cookie_that_browsers_refuse_is_refused_at_once() {
    use highwater::wire::{Gate, Keyring};
    let gate = Gate::builder(Keyring::new(crate::support::key(1))).build();
    let insecure = Cookie { secure: false, ..Cookie::default() };
    assert!(TokenLayer::new(gate).cookie(insecure).unwrap_err().is_configuration());
}
