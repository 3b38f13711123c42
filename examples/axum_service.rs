//! A web service: two instances behind a round-robin, a replica that lags, and a person with two devices.
//!
//! ```sh
//! cargo run --example axum_service --features axum,testkit              # and open the address that it prints
//! cargo run --example axum_service --features axum,testkit -- --check   # tries it by itself, and ends
//! cargo run --example axum_service --features axum,testkit -- --memory  # without servers
//! ```
//!
//! The person posts, reloads from any instance and from the other device, and sees the post; with tokens turned off, posts
//! come and go as the round-robin has it. The token travels in a cookie, and from one device to the other through the
//! device store. Nothing else connects the two instances here: if they told each other what was written, as a real service
//! would have them do, that would hide the bug most of the time, and only most.

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode, header};
use axum::routing::get;
use axum::{Extension, Router};
use highwater::devices::{DeviceStore, Devices, RedisDevices};
use highwater::http::{Cookie, TokenLayer};
use highwater::memory::{self, Shared, View};
use highwater::source::Fault;
use highwater::source::postgres::QueryError;
use highwater::testkit::{Cluster, RedisServer, TestkitError};
use highwater::wire::{Gate, Key, Keyring};
use highwater::{Cache, Highwater, Postgres, Read, RedisLink, Repository, Routed, Rung, Session, Tx};
use serde::Serialize;
use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How far the replica lags, in time.
const LAG: Duration = Duration::from_secs(4);

/// The longest post, in bytes.
const POST_BYTES_MAX: usize = 200;

// What the service reads and writes, once over PostgreSQL and once over the in-memory source.

/// The posts of a person, oldest first.
struct Posts;

impl Repository<Routed> for Posts {
    type Key = String;
    type Value = Vec<String>;
    type Error = QueryError;

    async fn load(&self, on: &Routed, person: &String) -> Result<Option<Vec<String>>, QueryError> {
        let rows = on.query("SELECT body FROM posts WHERE person = $1 ORDER BY id DESC LIMIT 5", &[person]).await?;
        Ok(Some(rows.iter().rev().map(|row| row.get("body")).collect()))
    }
}

impl Repository<View> for Posts {
    type Key = String;
    type Value = Vec<String>;
    type Error = Fault;

    async fn load(&self, on: &View, person: &String) -> Result<Option<Vec<String>>, Fault> {
        let posts = on.get::<Vec<String>>("posts", person).await?;
        Ok(Some(posts.map(|posts| Vec::clone(&posts)).unwrap_or_default()))
    }
}

/// A system of record that posts can be added to.
trait Board: highwater::source::Source + Sized
where
    Posts: Repository<Self::Conn, Key = String, Value = Vec<String>>,
{
    fn add(tx: &Tx<Self>, person: &str, post: &str) -> impl Future<Output = Result> + Send;
}

impl Board for Postgres {
    async fn add(tx: &Tx, person: &str, post: &str) -> Result {
        tx.execute("INSERT INTO posts (person, body) VALUES ($1, $2)", &[&person, &post]).await?;
        Ok(())
    }
}

impl Board for memory::Source {
    async fn add(tx: &Tx<Self>, person: &str, post: &str) -> Result {
        let posts = tx.get::<Vec<String>>("posts", person).await?;
        let mut posts = posts.map(|posts| Vec::clone(&posts)).unwrap_or_default();
        posts.push(post.to_owned());
        let last = posts.len().saturating_sub(5);
        Ok(tx.put("posts", person, posts.split_off(last)).await?)
    }
}

// The service.

/// One instance: its own cache, gate and devices. In real life it is a process of its own.
struct Instance<S: Board>
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
    fn apps(name: &'static str, store: Highwater<S>, devices: impl DeviceStore) -> Result<[Router; 2]> {
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
            Ok(read) => json(StatusCode::OK, &it.shown(&read)),
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

    fn shown(&self, read: &Read<Vec<String>>) -> Shown {
        let head = self.store.stats().nodes.into_iter().find(|node| node.state.starts_with("primary"));
        let head = head.and_then(|node| node.position).unwrap_or(read.position.lsn);
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
    /// How much log the primary is known to have beyond that position.
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
struct Person(String);

/// The user's id for the device store.
fn person_of(request: &Parts) -> Option<Vec<u8>> {
    request.extensions.get::<Person>().map(|person| person.0.clone().into_bytes())
}

// What stands before the instances.

/// Takes the instances in turn.
struct RoundRobin {
    /// Without tokens, and with.
    instances: [[Router; 2]; 2],
    turn: AtomicUsize,
    page: String,
}

impl RoundRobin {
    fn app(self) -> Router {
        let page = self.page.clone();
        let page = get(move || async move { ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page) });
        Router::new().route("/", page).fallback(Self::pass).with_state(Arc::new(self))
    }

    async fn pass(State(it): State<Arc<Self>>, mut request: Request<Body>) -> Response<Body> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let asked = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(own, _)| *own == name).map_or_else(String::new, |(_, value)| value.to_owned())
        };
        let (person, tokens) = (asked("person"), asked("tokens"));
        let [even, odd] = &it.instances;
        let instance = if it.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { even } else { odd };
        let [without, with] = instance;
        request.extensions_mut().insert(Person(person));
        let app = if tokens == "off" { without } else { with };
        match app.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

// The two worlds.

struct Servers {
    cluster: Cluster,
    redis: RedisServer,
}

impl Servers {
    async fn start() -> Result<Self, TestkitError> {
        let (cluster, redis) = (Cluster::start(1).await?, RedisServer::start().await?);
        let posts = "CREATE TABLE posts (id bigserial PRIMARY KEY, person text NOT NULL, body text NOT NULL)";
        cluster.primary().execute(posts).await?;
        cluster.wait_for_catchup().await?;
        cluster.replica(0).apply_delay(LAG).await?;
        Ok(Self { cluster, redis })
    }

    async fn instance(&self, name: &'static str) -> Result<[Router; 2]> {
        let store = Highwater::builder().replicas(self.cluster.nodes().map(|node| node.url())).connect().await?;
        let link = RedisLink::connect(self.redis.url().into()).await?;
        Instance::apps(name, store, RedisDevices::open(link).await?)
    }
}

/// The two instances, what is to be said of them, and what must live as long as they do.
async fn instances(in_memory: bool) -> Result<([[Router; 2]; 2], String, Option<Servers>)> {
    let why = if in_memory {
        "because you asked for it".to_owned()
    } else {
        match Servers::start().await {
            Ok(servers) => {
                let version = servers.cluster.primary().value("SHOW server_version").await?.unwrap_or_default();
                let version = version.split(' ').next().unwrap_or_default();
                let text = format!("Real servers: PostgreSQL {version} with a streaming replica, and Redis.");
                let both = [servers.instance("A").await?, servers.instance("B").await?];
                return Ok((both, text, Some(servers)));
            }
            Err(error) if error.is_missing_binary() => format!("because {error}"),
            Err(error) => return Err(error.into()),
        }
    };
    let (cluster, shared) = (memory::Cluster::new(1), Shared::new(1));
    cluster.set_lag(1, LAG);
    let open = async |name, number| {
        let store = Highwater::over(cluster.source()).start().await?;
        Instance::apps(name, store, shared.client(number))
    };
    Ok(([open("A", 1).await?, open("B", 2).await?], format!("In memory, not on real servers, {why}."), None))
}

// The same by itself.

/// A device: it keeps the cookies that it is given.
struct Device {
    address: std::net::SocketAddr,
    tokens: &'static str,
    cookies: Vec<(String, String)>,
}

impl Device {
    async fn send(&mut self, method: &str, body: &str) -> Result<(String, serde_json::Value)> {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let head = format!(
            "{method} /api/posts?person=ada&tokens={} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            self.tokens,
            cookies.join("; "),
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        for line in head.lines() {
            let Some(cookie) = line.strip_prefix("set-cookie: ") else { continue };
            let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).ok_or("no cookie")?;
            self.cookies.retain(|(own, _)| own != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let status = head.lines().next().unwrap_or_default().to_owned();
        Ok((status, serde_json::from_str(body)?))
    }

    async fn post(&mut self, text: &str) -> Result {
        let (status, body) = self.send("POST", text).await?;
        if status.contains("201") { Ok(()) } else { Err(format!("{status}: {body}").into()) }
    }

    /// Reloads, and returns whether the post is there and what is said of the answer.
    async fn sees(&mut self, text: &str) -> Result<(bool, String)> {
        let (status, body) = self.send("GET", "").await?;
        let posts = body.get("posts").and_then(|posts| posts.as_array()).ok_or_else(|| format!("{status}: {body}"))?;
        let of = |name| body.get(name).map(ToString::to_string).unwrap_or_default().replace('"', "");
        let told = format!("{} {} at {}, {} bytes behind", of("instance"), of("rung"), of("position"), of("lag_bytes"));
        Ok((posts.iter().any(|post| post == text), told))
    }
}

/// Posts and reloads, with tokens and without.
async fn check(address: std::net::SocketAddr) -> Result {
    let device = |tokens| Device { address, tokens, cookies: Vec::new() };
    let (mut phone, mut laptop) = (device("on"), device("on"));
    for round in 1..=3 {
        let post = format!("with tokens {round}");
        phone.post(&post).await?;
        for (name, device) in [("phone", &mut phone), ("laptop", &mut laptop)] {
            for _ in 0..4 {
                let (seen, told) = device.sees(&post).await?;
                println!("    with tokens, {name}: {told}: {}", if seen { "sees it" } else { "DOES NOT SEE IT" });
                if !seen {
                    return Err(format!("the {name} does not see what the phone wrote").into());
                }
            }
        }
        laptop.cookies.clear(); // as new again: what it knows is what the device store says
    }
    sleep(LAG + Duration::from_secs(1)).await;
    let (mut phone, mut laptop) = (device("off"), device("off"));
    let (mut missed, post) = (0, "without tokens");
    phone.post(post).await?;
    for (name, device) in [("phone", &mut phone), ("laptop", &mut laptop)] {
        for _ in 0..4 {
            let (seen, told) = device.sees(post).await?;
            println!("    without, {name}: {told}: {}", if seen { "sees it" } else { "does not see it" });
            missed += u32::from(!seen);
        }
    }
    if missed == 0 {
        return Err("without tokens everybody saw the post: the replica does not lag".into());
    }
    println!("With tokens 24 of 24 reloads saw the post; without, {missed} of 8 did not.");
    Ok(())
}

struct Arguments {
    in_memory: bool,
    check: bool,
    port: u16,
}

fn arguments() -> Result<Arguments> {
    let mut found = Arguments { in_memory: false, check: false, port: 8080 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--memory" => found.in_memory = true,
            "--check" => found.check = true,
            "--port" => found.port = words.next().ok_or("--port needs a number")?.parse()?,
            _ => return Err("usage: axum_service [--check] [--memory] [--port 8080]".into()),
        }
    }
    Ok(found)
}

async fn run() -> Result {
    let Arguments { in_memory, check: is_check, port } = arguments()?;
    let begun = Instant::now();
    let (instances, world, _servers) = instances(in_memory).await?;
    println!("{world} The replica lags by {LAG:?}. Ready after {:.1?}.", begun.elapsed());
    let page = include_str!("axum_service/page.html");
    let page = page.replace("{{world}}", &escaped(&world)).replace("{{lag}}", &LAG.as_secs().to_string());
    let listener = TcpListener::bind(("127.0.0.1", if is_check { 0 } else { port })).await?;
    let address = listener.local_addr()?;
    let app = RoundRobin { instances, turn: AtomicUsize::new(0), page }.app();
    if is_check {
        let serving = tokio::spawn(axum::serve(listener, app).into_future());
        let checked = check(address).await;
        serving.abort();
        return checked;
    }
    println!("Open http://{address}/ and end it with Ctrl-C.");
    axum::serve(listener, app).with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
