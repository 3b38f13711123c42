//! Two instances of a service share a Redis, and the Redis dies and comes back.
//!
//! It starts its servers itself. All the while a customer writes on one instance and reads on the other, with the session's
//! token handed over as a request would carry it, and must never see anything older than the last write.

use highwater::source::postgres::QueryError;
use highwater::testkit::{Cluster, RedisServer};
use highwater::{BusState, Cache, Highwater, Repository, Routed, Rung, Session};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// How many pieces are in stock.
struct Stock;

impl Repository for Stock {
    type Key = String;
    type Value = i64;
    type Error = QueryError;

    async fn load(&self, on: &Routed, product: &String) -> Result<Option<i64>, QueryError> {
        let row = on.query_opt("SELECT pieces FROM stock WHERE product = $1", &[product]).await?;
        Ok(row.map(|row| row.get("pieces")))
    }
}

/// One instance: its own tiers, pools and subscription. In real life it is a process of its own.
struct Instance {
    store: Highwater,
    stock: Cache<Stock>,
}

impl Instance {
    async fn start(cluster: &Cluster, redis: &RedisServer) -> Result<Self> {
        let nodes = cluster.nodes().map(|node| node.url());
        let store = Highwater::builder().replicas(nodes).redis(redis.url()).connect().await?;
        let stock = store.cache("stock", Stock).shared().build()?;
        let instance = Self { store, stock };
        instance.wait_until_live(Duration::from_secs(10)).await?;
        Ok(instance)
    }

    /// Sets the stock, and returns whether the other instances were told at once.
    async fn set(&self, session: &Session, pieces: i64) -> Result<bool> {
        let mut tx = self.store.begin(session).await?;
        tx.retract(&self.stock, &PRODUCT.to_owned());
        tx.execute("UPDATE stock SET pieces = $2 WHERE product = $1", &[&PRODUCT, &pieces]).await?;
        Ok(tx.commit().await?.told)
    }

    async fn get(&self, session: &Session) -> Result<(i64, Rung)> {
        let read = self.stock.get(session, &PRODUCT.to_owned()).await?;
        let pieces = read.value.ok_or("the row is gone")?;
        Ok((*pieces, read.rung))
    }

    async fn wait_until_live(&self, longest: Duration) -> Result {
        let begun = Instant::now();
        while self.store.stats().bus != BusState::Live {
            if begun.elapsed() > longest {
                return Err(format!("the bus was not live after {longest:?}").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

const PRODUCT: &str = "teapot";

/// Writes on one instance and reads on the other, again and again.
struct Customer<'a> {
    writes_on: &'a Instance,
    reads_on: &'a Instance,
    pieces: i64,
}

impl Customer<'_> {
    async fn shop(&mut self, how_long: Duration) -> Result {
        let (begun, mut rounds, mut told, mut by_rung) = (Instant::now(), 0, 0, [0; 4]);
        while begun.elapsed() < how_long {
            self.pieces += 1;
            let session = Session::new();
            told += u32::from(self.writes_on.set(&session, self.pieces).await?);
            // What travels to the other instance is the token and nothing else.
            let there = Session::from_token(session.token());
            for _ in 0..5 {
                let (seen, rung) = self.reads_on.get(&there).await?;
                if seen < self.pieces {
                    return Err(format!("a session that wrote {} was shown {seen} from {rung:?}", self.pieces).into());
                }
                if let Some(count) = by_rung.get_mut(rung as usize) {
                    *count += 1;
                }
                sleep(Duration::from_millis(10)).await;
            }
            rounds += 1;
        }
        let [local, shared, replica, primary] = by_rung;
        println!("    {rounds} writes, {told} told at once; 5 reads after each, none older than the write");
        println!("    reads by rung: local {local}, shared {shared}, replica {replica}, primary {primary}");
        Ok(())
    }
}

async fn run() -> Result {
    println!("Starting a primary, a replica and a Redis ...");
    let (cluster, redis) = (Cluster::start(1).await?, RedisServer::start().await?);
    cluster.primary().execute("CREATE TABLE stock (product text PRIMARY KEY, pieces bigint NOT NULL)").await?;
    cluster.primary().execute("INSERT INTO stock VALUES ('teapot', 0)").await?;
    cluster.wait_for_catchup().await?;
    let (till, website) = (Instance::start(&cluster, &redis).await?, Instance::start(&cluster, &redis).await?);
    println!("Two instances, the till and the website, share the Redis (process {}).", redis.pid().unwrap_or_default());

    println!("\n1. One writes, the other is retracted");
    let passer_by = Session::new();
    website.get(&passer_by).await?;
    till.set(&Session::new(), 1).await?;
    let begun = Instant::now();
    while website.get(&passer_by).await?.0 != 1 {
        within(begun, Duration::from_secs(2), "the website was not told of a write")?;
        sleep(Duration::from_micros(200)).await;
    }
    println!("    the website shows the new stock to everybody {:.1?} after the commit returned", begun.elapsed());

    println!("\n2. Redis is up");
    let mut customer = Customer { writes_on: &till, reads_on: &website, pieces: 1 };
    customer.shop(Duration::from_secs(2)).await?;

    println!("\n3. Redis is killed");
    redis.kill().await?;
    customer.shop(Duration::from_secs(4)).await?;
    let bus = website.store.stats().bus;
    println!("    the website knows that it hears nothing: its bus is {bus:?}");
    if bus != BusState::Deaf {
        return Err("a dead Redis went unnoticed".into());
    }
    // Whoever has no token is bounded by age instead, as long as retractions cannot be heard.
    till.set(&Session::new(), 1_000_000).await?;
    let begun = Instant::now();
    while website.get(&passer_by).await?.0 != 1_000_000 {
        within(begun, Duration::from_secs(8), "a deaf instance served an entry for too long")?;
        sleep(Duration::from_millis(20)).await;
    }
    println!("    a passer-by without a token sees a write there after {:.1?} (the bound is 5 s)", begun.elapsed());
    customer.pieces = 1_000_000;

    println!("\n4. Redis is back, empty");
    redis.start_again().await?;
    let begun = Instant::now();
    website.wait_until_live(Duration::from_secs(10)).await?;
    till.wait_until_live(Duration::from_secs(10)).await?;
    println!("    both hear each other again {:.1?} after it answers", begun.elapsed());
    customer.shop(Duration::from_secs(2)).await?;

    let (wrote, read) = (till.store.stats().counts, website.store.stats());
    println!(
        "\nThe till told {} retractions, {} of them at the second try or later.",
        wrote.retractions_told, wrote.retractions_deferred
    );
    println!(
        "The website heard {}, was deaf for {:.1?}, and met {} errors of Redis. No reader noticed.",
        read.counts.retractions_heard, read.deaf_time, read.counts.shared_errors
    );
    till.store.close().await;
    website.store.close().await;
    Ok(())
}

fn within(begun: Instant, longest: Duration, what: &str) -> Result {
    if begun.elapsed() > longest { Err(format!("{what} within {longest:?}").into()) } else { Ok(()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
