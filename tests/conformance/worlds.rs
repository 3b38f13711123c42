//! One PostgreSQL cluster of either kind: a table whose row 1 holds a number.

use crate::{Result, soon};
use highwater::memory;
use highwater::source::{Ask, Committed, Fault, Lease, Source, Transaction};
use highwater::testkit;
use highwater::{Lsn, Position, Postgres, PostgresNode, Stamp};
use tokio_postgres::types::PgLsn;

pub(crate) type Tx<W> = <<W as World>::Source as Source>::Tx;
type Conn<W> = <<W as World>::Source as Source>::Conn;
type TxConn<W> = <Tx<W> as Transaction>::Conn;

/// What can be done with a cluster. Node 0 is the first primary, and node n its n-th standby.
pub(crate) trait World: Sized {
    type Source: Source;

    async fn start(standbys: usize) -> Result<Self>;
    fn source(&self) -> &Self::Source;
    async fn get(conn: &Conn<Self>) -> Result<i64>;
    async fn put(conn: &TxConn<Self>, value: i64) -> Result;

    async fn pause(&self, standby: usize, paused: bool) -> Result;
    /// While stalled, a commit is in the log and not visible.
    async fn stall(&self, stalled: bool) -> Result;
    /// Log of an open transaction, which a crash will take: more than what recovery itself writes.
    async fn write_unflushed(&mut self) -> Result;
    /// The primary crashes and is back when this returns.
    async fn crash(&mut self) -> Result;
    async fn restart_standby(&self, standby: usize) -> Result;
    /// The primary is killed, and a standby takes its place.
    async fn promote(&self, standby: usize) -> Result;
    async fn start_the_old_primary(&self) -> Result;
    /// A standby receives nothing any more.
    async fn cut_off(&self, standby: usize) -> Result;
    /// A commit that ends exactly at a page end.
    async fn write_to_a_page_end(&self, value: i64) -> Result<Position>;

    /// One load of the row. An upper bound is asked for.
    async fn load(&self, node: usize, primary: bool) -> Result<(i64, Stamp)> {
        let ask = Ask { primary, floor: Lsn::MAX, upper: true, quiesce: false, deadline: soon() };
        let lease = self.source().lease(node, ask).await?;
        let value = Self::get(lease.conn()).await?;
        Ok((value, lease.finish().await?))
    }

    async fn begin(&self, node: usize, value: i64) -> Result<Tx<Self>> {
        let tx = self.source().begin(node, soon()).await?;
        Self::put(tx.conn(), value).await?;
        Ok(tx)
    }

    async fn write_on(&self, node: usize, value: i64) -> Result<Position> {
        token(self.begin(node, value).await?.commit(soon()).await)
    }

    async fn write(&self, value: i64) -> Result<Position> {
        self.write_on(0, value).await
    }
}

pub(crate) fn token(committed: Committed) -> Result<Position> {
    match committed {
        Committed::Done { token, .. } => Ok(token),
        other => Err(format!("not committed: {other:?}").into()),
    }
}

pub(crate) struct InMemory {
    cluster: memory::Cluster,
    source: memory::Source,
}

impl World for InMemory {
    type Source = memory::Source;

    async fn start(standbys: usize) -> Result<Self> {
        let cluster = memory::Cluster::new(standbys);
        cluster.put("t", 1, 1_i64);
        let source = cluster.source();
        Ok(Self { cluster, source })
    }

    fn source(&self) -> &memory::Source {
        &self.source
    }

    async fn get(conn: &memory::View) -> Result<i64> {
        Ok(*conn.get::<i64>("t", 1).await?.expect("row 1"))
    }

    async fn put(conn: &memory::Writer, value: i64) -> Result {
        Ok(conn.put("t", 1, value).await?)
    }

    async fn pause(&self, standby: usize, paused: bool) -> Result {
        self.cluster.pause(standby, paused);
        Ok(())
    }

    async fn stall(&self, stalled: bool) -> Result {
        self.cluster.stall(0, stalled);
        Ok(())
    }

    async fn write_unflushed(&mut self) -> Result {
        self.cluster.write_unflushed(0, 180_000);
        Ok(())
    }

    async fn crash(&mut self) -> Result {
        self.cluster.crash(0);
        Ok(())
    }

    async fn restart_standby(&self, standby: usize) -> Result {
        self.cluster.kill(standby);
        self.cluster.start(standby);
        Ok(())
    }

    async fn promote(&self, standby: usize) -> Result {
        self.cluster.kill(0);
        assert!(self.cluster.promote(standby));
        Ok(())
    }

    async fn start_the_old_primary(&self) -> Result {
        self.cluster.start(0);
        Ok(())
    }

    async fn cut_off(&self, standby: usize) -> Result {
        self.cluster.set_transit(standby, std::time::Duration::from_secs(3_600));
        Ok(())
    }

    async fn write_to_a_page_end(&self, value: i64) -> Result<Position> {
        let tx = self.begin(0, value).await?;
        self.cluster.fill_page(0);
        token(tx.commit(soon()).await)
    }
}

pub(crate) struct Real {
    cluster: testkit::Cluster,
    source: Postgres,
    /// Its transaction is open.
    open: Option<tokio_postgres::Client>,
}

impl World for Real {
    type Source = Postgres;

    async fn start(standbys: usize) -> Result<Self> {
        // What an open transaction has written is flushed by nobody else.
        let cluster = testkit::Cluster::builder().replicas(standbys).config("wal_writer_delay", "10s").start().await?;
        cluster.primary().execute("create table t (id int primary key, v int8); insert into t values (1, 1)").await?;
        cluster.wait_for_catchup().await?;
        let builder =
            cluster.nodes().fold(Postgres::builder(), |builder, node| builder.node(PostgresNode::new(node.url())));
        let source = builder.build()?;
        for node in 0..=standbys {
            source.probe(node).await?;
        }
        Ok(Self { cluster, source, open: None })
    }

    fn source(&self) -> &Postgres {
        &self.source
    }

    async fn get(conn: &highwater::Routed) -> Result<i64> {
        Ok(conn.query_one("select v from t where id = 1", &[]).await?.get(0))
    }

    async fn put(conn: &highwater::Writer, value: i64) -> Result {
        conn.execute("update t set v = $1 where id = 1", &[&value]).await?;
        Ok(())
    }

    async fn pause(&self, standby: usize, paused: bool) -> Result {
        let standby = self.cluster.replica(standby - 1);
        if paused {
            standby.pause_replay().await?
        } else {
            standby.resume_replay().await?
        }
        Ok(())
    }

    async fn stall(&self, stalled: bool) -> Result {
        let names = if stalled { "nosuch" } else { "" };
        Ok(self.cluster.primary().configure("synchronous_standby_names", names).await?)
    }

    async fn write_unflushed(&mut self) -> Result {
        let open = self.cluster.primary().connect().await?;
        open.batch_execute(
            "begin; select pg_logical_emit_message(true, 'x', repeat('x', 3000)) from generate_series(1, 60)",
        )
        .await?;
        self.open = Some(open);
        Ok(())
    }

    async fn crash(&mut self) -> Result {
        self.cluster.primary().kill().await?;
        self.open = None;
        Ok(self.cluster.primary().start().await?)
    }

    async fn restart_standby(&self, standby: usize) -> Result {
        let standby = self.cluster.replica(standby - 1);
        standby.kill().await?;
        Ok(standby.start().await?)
    }

    async fn promote(&self, standby: usize) -> Result {
        self.cluster.primary().kill().await?;
        Ok(self.cluster.replica(standby - 1).promote().await?)
    }

    async fn start_the_old_primary(&self) -> Result {
        Ok(self.cluster.primary().start().await?)
    }

    async fn cut_off(&self, standby: usize) -> Result {
        let standby = self.cluster.replica(standby - 1);
        standby.execute("alter system set primary_conninfo = ''").await?;
        standby.reload().await?;
        Ok(standby
            .poll_query_until("select not exists (select from pg_stat_wal_receiver where status = 'streaming')")
            .await?)
    }

    async fn write_to_a_page_end(&self, value: i64) -> Result<Position> {
        let mut commit_bytes = 0;
        for _ in 0..200 {
            let tx = self.begin(0, value).await?;
            let mut at = emit(tx.conn(), 0).await?;
            if at < 7_000 {
                at = emit(tx.conn(), 7_200 - at).await?;
            }
            let after = emit(tx.conn(), 0).await?;
            let (empty, wanted) = (after - at, 8_192 - commit_bytes - after);
            // The header of a record with more than 255 bytes is longer, so the last step is a small one.
            let last =
                if wanted >= empty && wanted - empty < 200 { emit(tx.conn(), wanted - empty).await? } else { after };
            let token = token(tx.commit(soon()).await)?;
            let end = i64::try_from(token.lsn.offset() % 8_192)?;
            if end == 0 {
                return Ok(token);
            }
            if end > last {
                commit_bytes = end - last;
            }
        }
        Err("no commit ended at a page end".into())
    }
}

/// Writes log, and says how far into its page it reaches.
async fn emit(conn: &highwater::Writer, bytes: i64) -> Result<i64> {
    conn.query("select pg_logical_emit_message(true, 'x', repeat('x', $1::int8::int4))", &[&bytes]).await?;
    let at: PgLsn = conn.query_one("select pg_current_wal_insert_lsn()", &[]).await?.get(0);
    Ok(i64::try_from(u64::from(at) % 8_192)?)
}

/// The kind of trouble with a server, where there is some.
pub(crate) fn fault<T>(result: Result<T>) -> Option<Fault> {
    result.err().and_then(|error| error.downcast::<Fault>().ok()).map(|fault| *fault)
}
