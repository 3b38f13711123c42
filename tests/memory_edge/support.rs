//! Short words for what the tests do.

use highwater::memory::{Cluster, Source};
use highwater::source::{Ask, Committed, Fault, FaultKind, Lease as _, Probe, Role, Source as _, Transaction as _};
use highwater::{Lsn, Position, Stamp};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) fn soon() -> Instant {
    Instant::now() + 10_000 * MS
}

pub(crate) fn ask(primary: bool) -> Ask {
    Ask { primary, floor: Lsn::ZERO, upper: true, quiesce: false, deadline: soon() }
}

/// Reads row `1` of table `t` on a node, which must be the primary or a standby.
pub(crate) async fn read_with(source: &Source, node: usize, ask: Ask) -> Result<(Option<u64>, Stamp), Fault> {
    let lease = source.lease(node, ask).await?;
    let value = lease.conn().get::<u64>("t", 1).await?;
    Ok((value.map(|value| *value), lease.finish().await?))
}

pub(crate) async fn on_primary(source: &Source) -> (Option<u64>, Stamp) {
    read_with(source, 0, ask(true)).await.unwrap()
}

pub(crate) async fn on_standby(source: &Source, node: usize) -> (Option<u64>, Stamp) {
    read_with(source, node, ask(false)).await.unwrap()
}

/// Writes `value` to the row, and commits.
pub(crate) async fn write_on(source: &Source, node: usize, value: u64) -> Committed {
    let tx = source.begin(node, soon()).await.unwrap();
    tx.conn().put("t", 1, value).await.unwrap();
    tx.commit(soon()).await
}

pub(crate) async fn write(source: &Source, value: u64) -> Position {
    done(write_on(source, 0, value).await)
}

pub(crate) fn done(committed: Committed) -> Position {
    match committed {
        Committed::Done { token, .. } => token,
        other => panic!("not done: {other:?}"),
    }
}

pub(crate) fn unknown(committed: Committed) -> u64 {
    match committed {
        Committed::Unknown { xid: Some(xid), .. } => xid,
        other => panic!("not unknown: {other:?}"),
    }
}

/// A cluster whose row is 1 everywhere.
pub(crate) fn cluster(standbys: usize) -> (Cluster, Source) {
    let cluster = Cluster::new(standbys);
    cluster.put("t", 1, 1_u64);
    let source = cluster.source();
    (cluster, source)
}

/// What a server shows.
pub(crate) fn shown(cluster: &Cluster, server: usize) -> Option<u64> {
    cluster.peek::<u64>(server, "t", 1).map(|value| *value)
}

pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) async fn probe(source: &Source, node: usize) -> Probe {
    source.probe(node).await.unwrap()
}

pub(crate) async fn flushed(source: &Source, node: usize) -> Lsn {
    match probe(source, node).await.role {
        Role::Primary { flush, .. } => flush,
        other => panic!("not a primary: {other:?}"),
    }
}

pub(crate) fn kind<T>(result: Result<T, Fault>) -> FaultKind {
    match result {
        Ok(_) => panic!("no fault"),
        Err(fault) => fault.kind,
    }
}
