//! Where the ancestors of a primary's timeline ended.

use super::super::Fault;
use super::link::Link;
use super::node::Node;
use crate::{Lsn, Switch, Timeline};
use tokio::time::Instant;
use tokio_postgres::types::{PgLsn, ToSql, Type};

/// Asked first: a statement that names a function which the role may not call fails, even where it is not called.
const MAY_READ: &str =
    "select has_function_privilege('pg_read_file(text,bigint,bigint,boolean)', 'execute'), pg_last_wal_replay_lsn()";
const HISTORY: &str = "select pg_read_file('pg_wal/' || $1::text || '.history', 0, 1048576, true)";

/// What can be learned of where the ancestors of `timeline` ended; empty where nothing is certain.
///
/// The history file tells all of it, to a role that may read it. Otherwise the position that the server had replayed
/// when it was promoted is where its parent ended, but only while the same run lasts: crash recovery, also that of a
/// postmaster that lives on, leaves its own end there, and a switch point too high would pass lost writes for kept.
/// So it counts only on a connection that saw the server as a standby, for a connection does not survive a crash. And
/// the parent must be certain: what was confirmed on this connection, with no number between it and `timeline`.
pub(super) async fn learn(
    node: &Node,
    link: &Link,
    timeline: Timeline,
    deadline: Instant,
) -> Result<Vec<Switch>, Fault> {
    let fault = |error| node.own_fault("asking where earlier timelines ended", error);
    let row = node.within(deadline, link.client.query_typed_one(MAY_READ, &[])).await?.map_err(fault)?;
    if row.try_get(0).map_err(fault)? {
        let name = format!("{:08X}", timeline.0);
        let params: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Type::TEXT)];
        let file = node.within(deadline, link.client.query_typed_one(HISTORY, &params)).await?.map_err(fault)?;
        let file: Option<&str> = file.try_get(0).map_err(fault)?;
        if let Some(switches) = file.and_then(parse) {
            return Ok(switches);
        }
    }
    let replayed: Option<PgLsn> = row.try_get(1).map_err(fault)?;
    let at = replayed.map(|lsn| link.layout.normalize(Lsn::new(u64::from(lsn))));
    Ok(parent(timeline, link.was_standby()).zip(at).map(|(from, at)| vec![Switch { from, at }]).unwrap_or_default())
}

/// The parent of `timeline`, where it is certain: `seen` is what was known of the server while it was a standby.
fn parent(timeline: Timeline, seen: Option<Option<Timeline>>) -> Option<Timeline> {
    let before = Timeline(timeline.0.checked_sub(1)?);
    match seen? {
        Some(confirmed) if confirmed == before => Some(before),
        // Timeline 1 has no sibling below 2.
        _ if before == Timeline(1) => Some(before),
        _ => None,
    }
}

/// The switches in a history file: lines of timeline, position and reason. `None` where any line is not understood.
fn parse(file: &str) -> Option<Vec<Switch>> {
    let lines = file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_ascii_whitespace();
            let from = Timeline(words.next()?.parse().ok()?);
            Some(Switch { from, at: words.next()?.parse().ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_file_as_the_server_writes_it() {
        let file = "1\t0/107AA1B0\tno recovery target specified\n\n2\t0/12000000\tbefore 2026-01-01\n";
        let switch = |from, at: &str| Switch { from: Timeline(from), at: at.parse().unwrap() };
        assert_eq!(parse(file), Some(vec![switch(1, "0/107AA1B0"), switch(2, "0/12000000")]));
        assert_eq!(parse("# nothing\n"), Some(Vec::new()));
        assert_eq!(parse("1\t0/107AA1B0\tx\ngarbage"), None);
    }

    #[test]
    fn a_parent_is_named_only_where_it_is_certain() {
        let one = Some(Timeline(1));
        assert_eq!(parent(Timeline(2), None), None, "never seen as a standby on this connection");
        assert_eq!(parent(Timeline(2), Some(None)), one);
        assert_eq!(parent(Timeline(2), Some(one)), one);
        assert_eq!(parent(Timeline(3), Some(one)), None, "2 may lie in between");
        assert_eq!(parent(Timeline(3), Some(None)), None);
        assert_eq!(parent(Timeline(3), Some(Some(Timeline(2)))), Some(Timeline(2)));
    }
}
