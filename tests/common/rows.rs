//! The table `rows`, and how it is loaded.

use highwater::source::postgres::QueryError;
use highwater::source::postgres::types::Type;
use highwater::{Repository, Routed};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) const TABLE: &str = "create table rows (id bigint primary key, version bigint not null, op bigint not null, \
     name text not null)";

/// One row as loaders read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) version: u64,
    /// The operation that made this version, where a history is recorded.
    pub(crate) op: u64,
    pub(crate) name: String,
}

/// The table `rows`, by id. A name `team/name` puts the row into the group `team`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) loads: Arc<AtomicUsize>,
    /// Whether a pooler stands in between, behind which nothing can be prepared.
    pub(crate) typed: bool,
    /// How long the server takes for one row.
    pub(crate) delay: Duration,
}

impl Repository for Rows {
    type Key = i64;
    type Value = Row;
    type Error = QueryError;

    async fn load(&self, on: &Routed, id: &i64) -> Result<Option<Row>, QueryError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let delay = self.delay.as_secs_f64();
        let rows = match (self.typed, delay > 0.0) {
            (true, _) => on.query_typed(ONE, &[(id, Type::INT8)]).await?,
            (false, false) => on.query(ONE, &[id]).await?,
            (false, true) => on.query(SLOW, &[id, &delay]).await?,
        };
        Ok(rows.first().map(|row| read(row).1))
    }

    async fn load_many(&self, on: &Routed, ids: &[i64]) -> Result<Vec<Option<Row>>, QueryError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let rows = on.query_typed(MANY, &[(&ids, Type::INT8_ARRAY)]).await?;
        let found: std::collections::BTreeMap<i64, Row> = rows.iter().map(read).collect();
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    fn groups(&self, _: &i64, row: Option<&Row>) -> impl IntoIterator<Item = Cow<'static, str>> {
        row.and_then(|row| row.name.split_once('/')).map(|(team, _)| Cow::Owned(team.to_owned()))
    }
}

/// All columns, so that a prepared statement notices when one is added.
const ONE: &str = "select * from rows where id = $1";
const MANY: &str = "select id, version, op, name from rows where id = any($1)";
const SLOW: &str = "select id, version, op, name, pg_sleep($2) from rows where id = $1";

fn read(row: &tokio_postgres::Row) -> (i64, Row) {
    let number = |at| row.get::<_, i64>(at).cast_unsigned();
    (row.get(0), Row { version: number(1), op: number(2), name: row.get(3) })
}
