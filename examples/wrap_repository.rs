//! How a service puts the cache around the repository layer that it has.
//!
//! Runs over the PostgreSQL at `DATABASE_URL`, in a schema of its own that it drops again, or without one over a primary
//! and a replica that it starts for itself.

use highwater::source::postgres::QueryError;
use highwater::testkit::Cluster;
use highwater::{
    Cache, Fallback, Freshness, Highwater, Read, ReadError, ReadOptions, Repository, Routed, Session, WriteError,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    id: i64,
    title: String,
    author: String,
    cents: i64,
}

/// Before: what many services have. Nothing below depends on it; it is here to be compared.
#[expect(dead_code, reason = "shown for comparison")]
mod before {
    use super::Book;
    use tokio_postgres::{Client, Error};

    pub(crate) struct Books {
        client: Client,
    }

    impl Books {
        pub(crate) async fn find(&self, id: i64) -> Result<Option<Book>, Error> {
            let sql = "SELECT id, title, author, cents FROM highwater_example.books WHERE id = $1";
            let row = self.client.query_opt(sql, &[&id]).await?;
            Ok(row.map(|row| Book { id: row.get(0), title: row.get(1), author: row.get(2), cents: row.get(3) }))
        }

        pub(crate) async fn reprice(&self, id: i64, cents: i64) -> Result<bool, Error> {
            let sql = "UPDATE highwater_example.books SET cents = $2 WHERE id = $1";
            Ok(self.client.execute(sql, &[&id, &cents]).await? == 1)
        }
    }
}

// After. First the loader: the same statements, run on the connection that the cache hands in, because the position that
// makes the answer trustworthy is read there too.

struct BookRows;

/// What can go wrong with a row. The cache hands it on untouched.
#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("book {0} has a negative price in the database")]
    NegativePrice(i64),
}

const COLUMNS: &str = "SELECT id, title, author, cents FROM highwater_example.books";

impl Repository for BookRows {
    type Key = i64;
    type Value = Book;
    type Error = RowError;

    async fn load(&self, on: &Routed, id: &i64) -> Result<Option<Book>, RowError> {
        let row = on.query_opt(&format!("{COLUMNS} WHERE id = $1"), &[id]).await?;
        row.map(|row| book(&row)).transpose()
    }

    /// One statement for what `get_many` did not find in the tiers.
    async fn load_many(&self, on: &Routed, ids: &[i64]) -> Result<Vec<Option<Book>>, RowError> {
        let rows = on.query(&format!("{COLUMNS} WHERE id = ANY($1)"), &[&ids]).await?;
        let books = rows.iter().map(book).collect::<Result<Vec<_>, _>>()?;
        Ok(ids.iter().map(|id| books.iter().find(|book| book.id == *id).cloned()).collect())
    }

    /// All books of an author can be retracted together.
    fn groups(&self, _: &i64, book: Option<&Book>) -> impl IntoIterator<Item = Cow<'static, str>> {
        book.map(|book| Cow::Owned(group_of(&book.author)))
    }
}

fn book(row: &highwater::source::postgres::Row) -> Result<Book, RowError> {
    let book = Book { id: row.get("id"), title: row.get("title"), author: row.get("author"), cents: row.get("cents") };
    if book.cents < 0 { Err(RowError::NegativePrice(book.id)) } else { Ok(book) }
}

fn group_of(author: &str) -> String {
    format!("author:{author}")
}

// Then the repository that the service calls. It takes the session of whoever it works for.

struct Books {
    store: Highwater,
    cache: Cache<BookRows>,
}

/// What the service's handlers deal with: which of them is a 404, which a 503 and which a page to somebody is decided
/// there.
#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("there is no book {0}")]
    NoSuchBook(i64),
    #[error("reading from the database failed")]
    Row(#[source] Arc<RowError>),
    #[error("writing to the database failed")]
    Write(#[from] QueryError),
    #[error("it is not known whether the write was committed")]
    Unknown(#[source] highwater::Unknown),
    #[error("the store could not keep its promise")]
    Store(#[source] Box<dyn Error + Send + Sync>),
}

impl From<ReadError<RowError>> for ShopError {
    fn from(error: ReadError<RowError>) -> Self {
        match error {
            ReadError::Load(error) => Self::Row(error),
            other => Self::Store(other.into()),
        }
    }
}

impl From<WriteError<Self>> for ShopError {
    fn from(error: WriteError<Self>) -> Self {
        match error {
            WriteError::Caller(error) => error,
            WriteError::Unknown(unknown) => Self::Unknown(unknown),
            other => Self::Store(other.into()),
        }
    }
}

impl Books {
    fn new(store: Highwater) -> Result<Self, highwater::Error> {
        let cache = store
            .cache("books", BookRows)
            .max_capacity(50_000)
            .time_to_live(Duration::from_secs(600))
            .absent_time_to_live(Duration::from_secs(30))
            .build()?;
        Ok(Self { store, cache })
    }

    /// Never older than what the session wrote.
    async fn find(&self, session: &Session, id: i64) -> Result<Read<Book>, ShopError> {
        Ok(self.cache.get(session, &id).await?)
    }

    /// For a page of search results: half a minute old is fine, and a lagging replica is no reason to be slow.
    async fn list(&self, session: &Session, ids: &[i64]) -> Result<Vec<Read<Book>>, ShopError> {
        let options = ReadOptions::fresh(Freshness::Within(Duration::from_secs(30))).or_else(Fallback::Stale);
        Ok(self.cache.get_many(session, ids, &options).await?)
    }

    /// For the till: what the primary says now.
    async fn price(&self, session: &Session, id: i64) -> Result<i64, ShopError> {
        let read = self.cache.get_with(session, &id, &ReadOptions::fresh(Freshness::Latest)).await?;
        read.value.map(|book| book.cents).ok_or(ShopError::NoSuchBook(id))
    }

    /// Changes one row and names its key.
    async fn reprice(&self, session: &Session, id: i64, cents: i64) -> Result<(), ShopError> {
        let sql = "UPDATE highwater_example.books SET cents = $2 WHERE id = $1";
        let work = async |tx: &mut highwater::Tx| {
            tx.retract(&self.cache, &id);
            match tx.execute(sql, &[&id, &cents]).await? {
                // An error rolls back, and nothing is retracted.
                0 => Err(ShopError::NoSuchBook(id)),
                _ => Ok(()),
            }
        };
        let ((), _receipt) = self.store.write(session, work).await?;
        Ok(())
    }

    /// Changes rows that nobody has counted and names their group.
    async fn discount(&self, session: &Session, author: &str) -> Result<u64, ShopError> {
        let sql = "UPDATE highwater_example.books SET cents = cents / 2 WHERE author = $1";
        let work = async |tx: &mut highwater::Tx| {
            tx.retract_group(&group_of(author));
            Ok::<_, ShopError>(tx.execute(sql, &[&author]).await?)
        };
        let (changed, _receipt) = self.store.write(session, work).await?;
        Ok(changed)
    }
}

// And a day in the life of it.

async fn day(books: &Books, clerk: Session) -> Result<(), Box<dyn Error>> {
    show("a miss", &books.find(&clerk, 1).await?);
    show("a hit", &books.find(&clerk, 1).await?);
    show("a row that is not there is remembered too", &books.find(&clerk, 99).await?);
    show("so it is a hit", &books.find(&clerk, 99).await?);

    books.reprice(&clerk, 1, 1_500).await?;
    let read = books.find(&clerk, 1).await?;
    show("repriced: the clerk sees it at once", &read);
    ensure(read.value.is_some_and(|book| book.cents == 1_500), "a session reads its own write")?;

    for read in books.list(&clerk, &[1, 2, 3]).await? {
        show("a page of results", &read);
    }
    let changed = books.discount(&clerk, "Ursula").await?;
    println!("  {changed} books of Ursula are discounted through their group");
    for read in books.list(&clerk, &[1, 2]).await? {
        show("the same page", &read);
        ensure(read.value.is_some_and(|book| [750, 600].contains(&book.cents)), "the group was retracted")?;
    }
    println!("  the till charges {} cents", books.price(&clerk, 2).await?);

    let refused = books.reprice(&clerk, 99, 1).await;
    ensure(matches!(refused, Err(ShopError::NoSuchBook(99))), "the closure's own error comes back")?;
    println!(
        "  repricing a book that does not exist: rolled back, {}",
        refused.err().map(|error| error.to_string()).unwrap_or_default()
    );
    println!("\n  {:#?}", books.cache.stats());
    Ok(())
}

fn show(what: &str, read: &Read<Book>) {
    let book =
        read.value.as_ref().map_or_else(|| "none".to_owned(), |book| format!("{} at {} cents", book.title, book.cents));
    let stale = if read.stale { ", labelled stale" } else { "" };
    println!("  {what:<43} {book:<36} {:?} at {}{stale}", read.rung, read.position.lsn);
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("this should have held, and did not: {what}")) }
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

async fn run() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL").ok();
    // Kept until the end: dropping it ends the servers.
    let started = if url.is_none() { Some(Cluster::start(1).await?) } else { None };
    let addresses: Vec<String> = match (&url, &started) {
        (Some(url), _) => vec![url.clone()],
        (None, Some(cluster)) => cluster.nodes().map(|node| node.url()).collect(),
        (None, None) => Vec::new(),
    };
    let place = if url.is_some() { "the server at DATABASE_URL" } else { "a primary and a replica of our own" };
    println!("Books, cached, over {place}:");
    let store = Highwater::builder().replicas(addresses).connect().await?;
    let admin = Session::new();
    for statement in [
        "DROP SCHEMA IF EXISTS highwater_example CASCADE",
        "CREATE SCHEMA highwater_example",
        "CREATE TABLE highwater_example.books (id bigint PRIMARY KEY, title text NOT NULL, author text NOT NULL, \
         cents bigint NOT NULL)",
        "INSERT INTO highwater_example.books VALUES (1, 'The Dispossessed', 'Ursula', 1200), \
         (2, 'The Lathe of Heaven', 'Ursula', 1200), (3, 'Kindred', 'Octavia', 1300)",
    ] {
        execute(&store, &admin, statement).await?;
    }
    // The clerk goes on from what was just written: a session that knows nothing of it may be sent to a replica that has
    // not heard of the table yet.
    let clerk = Session::from_token(admin.token());
    let told = day(&Books::new(store.clone())?, clerk).await;
    execute(&store, &admin, "DROP SCHEMA highwater_example CASCADE").await?;
    store.close().await;
    told
}

async fn execute(store: &Highwater, session: &Session, statement: &str) -> Result<(), Box<dyn Error>> {
    let tx = store.begin(session).await?;
    tx.execute(statement, &[]).await?;
    tx.commit().await?;
    Ok(())
}
