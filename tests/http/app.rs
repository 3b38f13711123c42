//! A small service, as its author would write it.

use crate::support::{Instance, told};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use axum::routing::{get, post};
use highwater::Session;
use highwater::http::{Cookie, HEADER, TokenLayer};
use http_body_util::BodyExt;
use std::sync::Arc;
use tower::ServiceExt;

/// Reads and renames user 1.
pub(crate) fn routes(instance: Arc<Instance>) -> Router {
    Router::new()
        .route("/name", get(read))
        .route("/health", get(async || "well"))
        .route("/rename/{name}", post(rename))
        .route("/rename-and-fail/{name}", post(rename_and_fail))
        .route("/rename-and-stream/{name}", post(rename_and_stream))
        .route("/rename-and-stay/{name}", post(rename_and_stay))
        .with_state(instance)
}

/// The same with tokens in header and cookie.
pub(crate) fn app(instance: &Arc<Instance>) -> Router {
    let layer = TokenLayer::new(instance.gate.clone()).cookie(Cookie::default()).unwrap();
    routes(Arc::clone(instance)).layer(layer)
}

async fn read(State(instance): State<Arc<Instance>>, session: Session) -> String {
    told(&instance.users.get(&session, &1).await.unwrap()).0
}

async fn rename(State(instance): State<Arc<Instance>>, session: Session, Path(name): Path<String>) {
    instance.rename_for(&session, &name).await;
}

async fn rename_and_fail(
    State(instance): State<Arc<Instance>>,
    session: Session,
    Path(name): Path<String>,
) -> StatusCode {
    instance.rename_for(&session, &name).await;
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Begins to answer before it writes.
async fn rename_and_stream(State(instance): State<Arc<Instance>>, session: Session, Path(name): Path<String>) -> Body {
    let steps = futures_util::stream::unfold(0, move |step| {
        let (instance, session, name) = (Arc::clone(&instance), session.clone(), name.clone());
        async move {
            if step == 1 {
                instance.rename_for(&session, &name).await;
            }
            (step < 3).then(|| (Ok::<_, std::io::Error>(format!("step {step};")), step + 1))
        }
    });
    Body::from_stream(steps)
}

/// Tells of the write and goes on, as a stream of events does.
async fn rename_and_stay(State(instance): State<Arc<Instance>>, session: Session, Path(name): Path<String>) -> Body {
    let events = futures_util::stream::unfold(0, move |step| {
        let (instance, session, name) = (Arc::clone(&instance), session.clone(), name.clone());
        async move {
            match step {
                0 => Some((Ok::<_, std::io::Error>("begun"), 1)),
                1 => {
                    instance.rename_for(&session, &name).await;
                    Some((Ok("renamed"), 2))
                }
                _ => std::future::pending().await,
            }
        }
    });
    Body::from_stream(events)
}

/// What came back for a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn token(&self) -> Option<String> {
        text(&self.headers, &HEADER)
    }

    pub(crate) fn late_token(&self) -> Option<String> {
        text(&self.trailers, &HEADER)
    }

    pub(crate) fn set_cookie(&self) -> Option<String> {
        text(&self.headers, &header::SET_COOKIE)
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().unwrap().to_owned())
}

pub(crate) async fn send(app: &Router, method: &str, path: &str, headers: &[(HeaderName, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let response: Response<_> = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body, trailers }
}
