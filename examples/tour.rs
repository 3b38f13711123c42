//! A guided tour: a miss, a hit, a write, a replica that lags, a refill, and a second instance that is told.
//!
//! Where PostgreSQL and Redis are installed it starts real ones for itself; elsewhere it runs over the in-memory edges.
//! Every sentence that it prints is checked, and it fails where one does not hold.

use highwater::memory::{self, Shared, View};
use highwater::source::postgres::{Postgres, QueryError};
use highwater::source::{Fault, Role, Source};
use highwater::testkit::{Cluster, RedisServer, TestkitError};
use highwater::{BusState, Cache, CacheStats, Highwater, Position, Read, Repository, Routed, Rung, Session, Tx};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The article that the tour is about.
const ARTICLE: i64 = 1;
const TITLE: &str = "How tides work";
const NEW_TITLE: &str = "How tides really work";

/// The node that is the replica: nodes are numbered in the order in which they are given.
const REPLICA: usize = 1;

#[tokio::main]
async fn main() -> ExitCode {
    let in_memory = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--memory") => true,
        Some(_) => {
            eprintln!("usage: cargo run --example tour --features testkit [-- --memory]");
            return ExitCode::from(2);
        }
    };
    match run(in_memory).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe tour ends here: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(in_memory: bool) -> Result {
    if in_memory {
        return over_memory("because you asked for it").await;
    }
    match servers().await {
        Ok((cluster, redis)) => over_servers(&cluster, &redis).await,
        Err(error) if error.is_missing_binary() => over_memory(&format!("because {error}")).await,
        Err(error) => Err(error.into()),
    }
}

// What a service brings: its repository, once over PostgreSQL and once over the in-memory source.

/// Titles of articles.
struct Articles;

impl Repository<Routed> for Articles {
    type Key = i64;
    type Value = String;
    type Error = QueryError;

    async fn load(&self, on: &Routed, id: &i64) -> Result<Option<String>, QueryError> {
        let row = on.query_opt("SELECT title FROM articles WHERE id = $1", &[id]).await?;
        Ok(row.map(|row| row.get("title")))
    }
}

impl Repository<View> for Articles {
    type Key = i64;
    type Value = String;
    type Error = Fault;

    async fn load(&self, on: &View, id: &i64) -> Result<Option<String>, Fault> {
        Ok(on.get::<String>("articles", id).await?.map(|title| String::clone(&title)))
    }
}

// The two worlds.

async fn servers() -> Result<(Cluster, RedisServer), TestkitError> {
    Ok((Cluster::start(1).await?, RedisServer::start().await?))
}

async fn over_servers(cluster: &Cluster, redis: &RedisServer) -> Result {
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let version = primary.value("SHOW server_version").await?.unwrap_or_default();
    println!("REAL SERVERS: PostgreSQL {version}, a primary and a streaming replica, and a Redis,");
    println!("started for this tour in a temporary folder and gone when it ends.");
    primary.execute("CREATE TABLE articles (id bigint PRIMARY KEY, title text NOT NULL)").await?;
    primary.execute(&format!("INSERT INTO articles VALUES ({ARTICLE}, '{TITLE}')")).await?;
    cluster.wait_for_catchup().await?;

    let connect = async || {
        let nodes = cluster.nodes().map(|node| node.url());
        Highwater::builder().replicas(nodes).redis(redis.url()).connect().await
    };
    let onlooker = cluster.nodes().fold(Postgres::builder(), |builder, node| builder.node(node.url()));
    let tour = Tour {
        alpha: Instance::open(connect().await?)?,
        beta: Instance::open(connect().await?)?,
        onlooker: onlooker.build()?,
    };
    let write = async |tx: &Tx| {
        tx.execute("UPDATE articles SET title = $2 WHERE id = $1", &[&ARTICLE, &NEW_TITLE]).await?;
        Ok(())
    };
    let pause = async |paused| {
        match paused {
            true => replica.pause_replay().await?,
            false => replica.resume_replay().await?,
        }
        Ok(())
    };
    tour.tell(write, pause).await
}

async fn over_memory(why: &str) -> Result {
    println!("IN MEMORY, not on real servers: a primary, a replica and a Redis are simulated in this process,");
    println!("{why}.");
    let (cluster, shared) = (memory::Cluster::new(1), Shared::new(1));
    cluster.put("articles", ARTICLE, TITLE.to_owned());

    let connect = async |client| {
        let shared = shared.client(client);
        Highwater::over(cluster.source()).shared_tier(shared.clone()).ledger(shared).start().await
    };
    let tour = Tour {
        alpha: Instance::open(connect(1).await?)?,
        beta: Instance::open(connect(2).await?)?,
        onlooker: cluster.source(),
    };
    let write = async |tx: &Tx<memory::Source>| Ok(tx.put("articles", ARTICLE, NEW_TITLE.to_owned()).await?);
    let pause = async |paused| {
        cluster.pause(REPLICA, paused);
        Ok(())
    };
    tour.tell(write, pause).await
}

// The story, which is the same in both.

/// One instance of the service: a process of its own in real life.
struct Instance<S: Source>
where
    Articles: Repository<S::Conn>,
{
    store: Highwater<S>,
    articles: Cache<Articles, S>,
}

struct Tour<S: Source>
where
    Articles: Repository<S::Conn>,
{
    alpha: Instance<S>,
    beta: Instance<S>,
    /// Looks at the servers past the library, to check what the tour says of them.
    onlooker: S,
}

impl<S: Source> Instance<S>
where
    Articles: Repository<S::Conn, Key = i64, Value = String>,
{
    fn open(store: Highwater<S>) -> Result<Self> {
        let articles = store.cache("articles", Articles).shared().build()?;
        Ok(Self { store, articles })
    }

    /// Reads the article and prints the answer.
    async fn read(&self, who: &str, session: &Session) -> Result<Read<String>> {
        let begun = Instant::now();
        let read = self.articles.get(session, &ARTICLE).await?;
        let took = begun.elapsed();
        let title = format!("{:?}", title(&read).unwrap_or("no such article"));
        let (rung, position) = (format!("{:?}", read.rung).to_lowercase(), read.position.lsn.to_string());
        println!("    {who:<15} reads {title:<24} rung: {rung:<8} position: {position:<11} in {took:.0?}");
        Ok(read)
    }
}

impl<S: Source> Tour<S>
where
    Articles: Repository<S::Conn, Key = i64, Value = String>,
{
    async fn tell(&self, write: impl AsyncFn(&Tx<S>) -> Result, pause: impl AsyncFn(bool) -> Result) -> Result {
        println!("Two instances of a service, alpha and beta, share the Redis. Alice uses alpha.");
        let alice = Session::new();
        self.wait_until_ready().await?;
        self.miss_and_hit(&alice).await?;
        let token = self.write_past_a_lagging_replica(&alice, write, pause).await?;
        self.refill(&alice, token).await?;
        self.other_instance(token).await?;
        self.count();
        self.alpha.store.close().await;
        self.beta.store.close().await;
        println!("\nEverything above was checked while it was printed.");
        Ok(())
    }

    async fn wait_until_ready(&self) -> Result {
        let ready = |instance: &Instance<S>| {
            let stats = instance.store.stats();
            stats.bus == BusState::Live && stats.nodes.iter().any(|node| node.lag_bytes == Some(0))
        };
        eventually("both instances hear each other and see the replica", async || {
            Ok(ready(&self.alpha) && ready(&self.beta))
        })
        .await
    }

    async fn miss_and_hit(&self, alice: &Session) -> Result {
        chapter(1, "A miss, a hit, and a hit on the other instance");
        let miss = self.alpha.read("alice on alpha", alice).await?;
        claim(miss.rung == Rung::Replica, "the first read goes to the replica, not to the primary")?;
        let hit = self.alpha.read("alice on alpha", alice).await?;
        claim(hit.rung == Rung::Local, "the second is answered inside the process")?;
        // The fill is offered to Redis behind the reader's back.
        sleep(Duration::from_millis(500)).await;
        let shared = self.beta.read("bob on beta", &Session::new()).await?;
        claim(shared.rung == Rung::Shared, "beta has never loaded it and finds it in Redis")?;
        let kept = self.beta.read("bob on beta", &Session::new()).await?;
        claim(
            kept.rung == Rung::Local && kept.position == miss.position,
            "and keeps it, tagged with the position of alpha's fill",
        )
    }

    async fn write_past_a_lagging_replica(
        &self,
        alice: &Session,
        write: impl AsyncFn(&Tx<S>) -> Result,
        pause: impl AsyncFn(bool) -> Result,
    ) -> Result<Position> {
        chapter(2, "A write, while the replica lags");
        pause(true).await?;
        println!("    Replay on the replica is paused.");
        let mut tx = self.alpha.store.begin(alice).await?;
        write(&tx).await?;
        tx.retract(&self.alpha.articles, &ARTICLE);
        let receipt = tx.commit().await?;
        println!("    alice on alpha  writes {NEW_TITLE:?}; her token is now {}", receipt.position.lsn);
        claim(receipt.told, "Redis took the retraction")?;

        let replay = self.replay().await?;
        let short = receipt.position.lsn.bytes_ahead_of(replay);
        println!("    The replica stands at {replay}, {short} bytes short of the token.");
        claim(short > 0, "the replica still has the old title")?;
        let read = self.alpha.read("alice on alpha", alice).await?;
        claim(title(&read) == Some(NEW_TITLE), "alice reads her own write")?;
        claim(read.rung == Rung::Primary, "the replica was refused: it was given 100 ms, then the primary answered")?;

        pause(false).await?;
        eventually("the replica has caught up, and alpha knows", async || {
            let known = self.alpha.store.stats().nodes.iter().any(|node| node.lag_bytes == Some(0));
            Ok(known && self.replay().await? >= receipt.position.lsn)
        })
        .await?;
        Ok(receipt.position)
    }

    async fn refill(&self, alice: &Session, token: Position) -> Result {
        chapter(3, "The replica has caught up: refill");
        let refill = self.alpha.read("alice on alpha", alice).await?;
        claim(
            title(&refill) == Some(NEW_TITLE) && refill.position.lsn >= token.lsn,
            "the answer is proved to be at the token or above",
        )?;
        if refill.rung == Rung::Replica {
            claim(true, "and it came from the replica again")?;
        } else {
            // Some other record was logged just before the primary's answer, which could be kept for that reason.
            claim(refill.rung == Rung::Local, "the primary's answer could be kept, because the log had moved on")?;
        }
        let hit = self.alpha.read("alice on alpha", alice).await?;
        claim(hit.rung == Rung::Local && hit.position == refill.position, "hits are back, for alice too")?;
        sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    async fn other_instance(&self, token: Position) -> Result {
        chapter(4, "The other instance was told");
        eventually("beta hears of alice's write", async || Ok(self.beta.store.stats().counts.retractions_heard >= 1))
            .await?;
        let read = self.beta.read("bob on beta", &Session::new()).await?;
        claim(title(&read) == Some(NEW_TITLE), "bob carries no token, and still gets the new title")?;
        claim(self.beta.articles.stats().misses_retracted == 1, "beta's own copy had been retracted through Redis")?;
        claim(read.rung == Rung::Shared && read.position.lsn >= token.lsn, "and alpha's refill was in Redis already")
    }

    fn count(&self) {
        chapter(5, "The counters");
        println!("    {:32} {:>6} {:>6}", "", "alpha", "beta");
        let (alpha, beta) = (self.alpha.articles.stats(), self.beta.articles.stats());
        let row = |name: &str, alpha: u64, beta: u64| println!("    {name:32} {alpha:>6} {beta:>6}");
        let both = |name: &str, pick: fn(&CacheStats) -> u64| row(name, pick(&alpha), pick(&beta));
        both("answered by the local tier", |stats| stats.hits_local);
        both("answered by the shared tier", |stats| stats.hits_shared);
        both("answered by the replica", |stats| stats.loads_replica);
        both("answered by the primary", |stats| stats.loads_primary);
        both("misses: not there", |stats| stats.misses_absent);
        both("misses: retracted", |stats| stats.misses_retracted);
        let (alpha, beta) = (self.alpha.store.stats().counts, self.beta.store.stats().counts);
        row("waits for a replica", alpha.waits, beta.waits);
        row("fallbacks to the primary", alpha.fallbacks_primary, beta.fallbacks_primary);
        row("retractions told", alpha.retractions_told, beta.retractions_told);
        row("retractions heard", alpha.retractions_heard, beta.retractions_heard);
    }

    /// How far the replica has replayed, by its own word.
    async fn replay(&self) -> Result<highwater::Lsn> {
        match self.onlooker.probe(REPLICA).await?.role {
            Role::Standby { replay, .. } => Ok(replay),
            _ => Err("the replica is not in recovery".into()),
        }
    }
}

fn title(read: &Read<String>) -> Option<&str> {
    read.value.as_deref().map(String::as_str)
}

fn chapter(number: u32, heading: &str) {
    println!("\n{number}. {heading}");
}

/// Prints a sentence that is true, or ends the tour.
fn claim(holds: bool, sentence: &str) -> Result {
    if !holds {
        return Err(format!("this should have held, and did not: {sentence}").into());
    }
    println!("      - {sentence}");
    Ok(())
}

/// Waits until something holds, for ten seconds at most.
async fn eventually(what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result {
    let give_up = Instant::now() + Duration::from_secs(10);
    while !holds().await? {
        if Instant::now() > give_up {
            return Err(format!("waited ten seconds until {what}, in vain").into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
