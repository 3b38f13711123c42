//! A handler that calls other services, many at a time.

use crate::app::{app, routes, send};
use crate::support::{Instance, cluster, other_cluster};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, Request, StatusCode};
use axum::routing::post;
use futures_util::future::join_all;
use highwater::Session;
use highwater::http::{ForwardLayer, HEADER, TokenLayer};
use std::sync::Arc;
use tower::{Layer, ServiceExt};

/// Renames user 1 at every service below, all at once, under the session of its own request.
async fn rename_everywhere(State(front): State<Arc<Front>>, session: Session) -> StatusCode {
    let calls = front.below.iter().enumerate().map(|(number, service)| {
        let forward = ForwardLayer::new(front.instance.gate.clone()).layer(service.clone());
        let mut request = Request::post(format!("/rename/name-{number}")).body(Body::empty()).unwrap();
        request.extensions_mut().insert(session.clone());
        forward.oneshot(request)
    });
    let all = join_all(calls).await;
    if all.into_iter().all(|answer| answer.unwrap().status() == StatusCode::OK) {
        StatusCode::OK
    } else {
        StatusCode::BAD_GATEWAY
    }
}

struct Front {
    instance: Arc<Instance>,
    below: Vec<Router>,
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_from_all_of_them_is_in_the_one_token() {
    let (here, there) = (cluster(), other_cluster());
    let front = Arc::new(Instance::over(&here).await);
    let (near, far) = (Arc::new(Instance::over(&here).await), Arc::new(Instance::over(&there).await));
    here.pause(1, true);
    there.pause(1, true);
    // The last to write to each cluster cannot be told beforehand; every one of them is in the token.
    let below = vec![app(&near), app(&far), app(&near), app(&far), app(&near)];
    let state = Arc::new(Front { instance: Arc::clone(&front), below });
    let layer = TokenLayer::new(front.gate.clone());
    let service = Router::new().route("/", post(rename_everywhere)).with_state(state).layer(layer);
    let answer = send(&service, "POST", "/", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let token = answer.token().unwrap();

    let (near, far) = (Arc::new(Instance::over(&here).await), Arc::new(Instance::over(&there).await));
    for (instance, cluster) in [(near, &here), (far, &there)] {
        let truth = cluster.peek::<String>(0, "users", 1).unwrap();
        let read = send(&app(&instance), "GET", "/name", &[(HEADER, &token)]).await;
        assert_eq!(read.body, *truth);
        assert_ne!(read.body, "ada");
        assert_eq!(instance.gate.stats().valid, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_the_callers_writes_along_and_one_without_a_session_takes_nothing() {
    let cluster = cluster();
    let (caller, called) = (Instance::over(&cluster).await, Arc::new(Instance::over(&cluster).await));
    cluster.pause(1, true);
    let session = Session::new();
    caller.rename_for(&session, "grace").await;
    let client = ForwardLayer::new(caller.gate.clone()).layer(app(&called));
    let call = async |session: Option<&Session>| {
        let mut request = Request::get("/name").body(Body::empty()).unwrap();
        if let Some(session) = session {
            request.extensions_mut().insert(session.clone());
        }
        let body = client.clone().oneshot(request).await.unwrap().into_body();
        axum::body::to_bytes(Body::new(body), 1_000).await.unwrap()
    };
    assert_eq!(call(None).await, "ada");
    assert_eq!(call(Some(&session)).await, "grace");
    assert_eq!(called.gate.stats().valid, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_in_the_header_and_for_the_audience_that_were_agreed() {
    let cluster = cluster();
    let (caller, called) = (Instance::over(&cluster).await, Arc::new(Instance::over(&cluster).await));
    cluster.pause(1, true);
    let session = Session::new();
    caller.rename_for(&session, "grace").await;
    let agreed = HeaderName::from_static("between-services");
    let layer = TokenLayer::new(called.gate.clone()).header(agreed.clone()).audience(|_| Some(b"mail".to_vec()));
    let service = routes(Arc::clone(&called)).layer(layer);
    for (audience, forged) in [("mail", 0), ("shop", 1)] {
        let client = ForwardLayer::new(caller.gate.clone()).header(agreed.clone()).audience(audience);
        let mut request = Request::post("/rename/hedy").body(Body::empty()).unwrap();
        request.extensions_mut().insert(session.clone());
        let back = client.layer(service.clone()).oneshot(request).await.unwrap();
        assert!(back.headers().contains_key(&agreed) && !back.headers().contains_key(HEADER));
        assert_eq!((called.gate.stats().forged, caller.gate.stats().forged), (forged, forged), "{audience}");
    }
    assert_eq!(caller.gate.stats().valid, 1, "what came back for the right audience is taken in");
}
