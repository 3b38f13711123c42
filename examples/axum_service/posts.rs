//! What the service reads and writes, once over PostgreSQL and once over the in-memory source.

use crate::Result;
use highwater::memory::{self, View};
use highwater::source::Fault;
use highwater::source::postgres::QueryError;
use highwater::{Postgres, Repository, Routed, Tx};
use std::future::Future;

/// The posts of a person, oldest first.
pub(crate) struct Posts;

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
pub(crate) trait Board: highwater::source::Source + Sized
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
