//! One instance of the service.

use crate::Result;
use crate::posts::{Board, Posts};
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode, header};
use axum::routing::get;
use axum::{Extension, Router};
use highwater::devices::{DeviceStore, Devices};
use highwater::http::{Cookie, TokenLayer};
use highwater::wire::{Gate, Key, Keyring};
use highwater::{Cache, Highwater, Read, Repository, Rung, Session};
use serde::Serialize;
use std::error::Error;
use std::sync::Arc;

/// The longest post, in bytes.
const POST_BYTES_MAX: usize = 200;

/// One instance: its own cache, gate and devices. In real life it is a process of its own.
pub(crate) struct Instance<S: Board>
where
    Posts: Repository<S::Conn, Key = String, Value = Vec<String>>,
{
    name: &'static str,
    store: Highwater<S>,
    posts: Cache<Posts, S>,
}

impl<S: Board> Instance<S>
where
    Posts: Repository<S::Conn, Key = String, Value = Vec<String>>,
{
    /// The instance as an app with tokens, and as one without.
    pub(crate) fn apps(name: &'static str, store: Highwater<S>, devices: impl DeviceStore) -> Result<[Router; 2]> {
        let posts = store.cache("posts", Posts).build()?;
        // The same on every instance. A real secret is random, and kept where secrets are.
        let keyring = Keyring::new(Key::new(1, b"only an example, and 32 bytes long")?);
        let gate = Gate::builder(keyring).store(&store).build();
        let devices = Devices::builder(devices).store(&store).build()?;
        // The default cookie wants TLS, which a page on localhost has not.
        let cookie = Cookie { name: "highwater".to_owned(), secure: false, ..Cookie::default() };
        let tokens = TokenLayer::new(gate).without_header().cookie(cookie)?.devices(&devices, person_of);
        let routes = Router::new().route("/api/posts", get(Self::show).post(Self::add));
        let routes = routes.with_state(Arc::new(Self { name, store, posts }));
        let with = routes.clone().layer(tokens);
        // A session that knows nothing of its client, anew for each request: as if there were no tokens.
        let without =
            routes.layer(axum::middleware::from_fn(|mut request: Request<Body>, next: axum::middleware::Next| {
                request.extensions_mut().insert(Session::new());
                next.run(request)
            }));
        Ok([without, with])
    }

    async fn show(
        State(it): State<Arc<Self>>,
        Extension(person): Extension<Person>,
        session: Session,
    ) -> Response<Body> {
        match it.posts.get(&session, &person.0).await {
            Ok(read) => json(StatusCode::OK, &it.shown(&read).await),
            Err(error) => failed(it.name, &error),
        }
    }

    async fn add(
        State(it): State<Arc<Self>>,
        Extension(person): Extension<Person>,
        session: Session,
        post: String,
    ) -> Response<Body> {
        let post = post.trim();
        if post.is_empty() || post.len() > POST_BYTES_MAX {
            return json(
                StatusCode::UNPROCESSABLE_ENTITY,
                &Refused { instance: it.name, error: "1 to 200 bytes, please" },
            );
        }
        match it.write(&session, &person.0, post).await {
            Ok(added) => json(StatusCode::CREATED, &added),
            Err(error) => failed(it.name, &*error),
        }
    }

    async fn write(&self, session: &Session, person: &str, post: &str) -> Result<Added> {
        let mut tx = self.store.begin(session).await?;
        S::add(&tx, person, post).await?;
        tx.retract(&self.posts, &person.to_owned());
        let receipt = tx.commit().await?;
        Ok(Added { instance: self.name, position: receipt.position.to_string() })
    }

    async fn shown(&self, read: &Read<Vec<String>>) -> Shown {
        // The primary is asked for the page's sake: what the instance has been told of it may be older than the answer is.
        let (head, cluster) = (self.store.token().await.ok(), self.store.history().system_identifier());
        let head = head.and_then(|token| token.positions(cluster).last()).map_or(read.position.lsn, |head| head.lsn);
        Shown {
            instance: self.name,
            posts: read.value.as_deref().cloned().unwrap_or_default(),
            rung: match read.rung {
                Rung::Local => "local",
                Rung::Shared => "shared",
                Rung::Replica => "replica",
                _ => "primary",
            },
            position: read.position.to_string(),
            lag_bytes: head.bytes_ahead_of(read.position.lsn),
            age_ms: read.age.as_millis() as u64,
        }
    }
}

#[derive(Serialize)]
struct Shown {
    instance: &'static str,
    posts: Vec<String>,
    rung: &'static str,
    position: String,
    /// How much log the primary has beyond that position.
    lag_bytes: u64,
    /// How long ago the posts were read from the database.
    age_ms: u64,
}

#[derive(Serialize)]
struct Added {
    instance: &'static str,
    position: String,
}

#[derive(Serialize)]
struct Refused<'a> {
    instance: &'static str,
    error: &'a str,
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_string(body).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn failed(instance: &'static str, error: &(dyn Error + 'static)) -> Response<Body> {
    eprintln!("instance {instance}: {error}");
    json(StatusCode::SERVICE_UNAVAILABLE, &Refused { instance, error: "the databases are busy; try again" })
}

/// Who asks. A real service has it from a log-in; this one believes what the request says.
#[derive(Clone)]
pub(crate) struct Person(pub(crate) String);

/// The user's id for the device store.
fn person_of(request: &Parts) -> Option<Vec<u8>> {
    request.extensions.get::<Person>().map(|person| person.0.clone().into_bytes())
}
