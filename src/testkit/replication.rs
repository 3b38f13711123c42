//! Who follows whom, and how far along each node is.

use std::fs;
use std::path::Path;

use tokio_postgres::types::PgLsn;

use crate::testkit::process;
use crate::testkit::recipe::Recipe;
use crate::testkit::{Node, Proxy, TestkitError};

impl Node {
    /// Makes a replica a primary, and returns when it takes writes.
    ///
    /// The old primary is not told: stop or kill it first, or have two.
    ///
    /// # Errors
    ///
    /// If the node is down, is a primary already, or does not get there in time.
    ///
    /// # Cancellation
    ///
    /// The promotion may go on.
    pub async fn promote(&self) -> Result<(), TestkitError> {
        self.execute("select pg_promote(false)").await?;
        self.wait_until("the promotion", "select not pg_is_in_recovery()").await?;
        // PostgreSQL removed standby.signal; a later start must not bring it back.
        self.set_upstream(None)
    }

    /// Has this node follow `upstream` from now on, and returns when it streams from there.
    ///
    /// A running replica needs no restart. A former primary becomes a standby through one, which
    /// works only if it wrote nothing that `upstream` lacks; otherwise use
    /// [`rebuild_from`](Self::rebuild_from).
    ///
    /// # Errors
    ///
    /// If it does not stream in time, as when the histories of the two have parted.
    ///
    /// # Cancellation
    ///
    /// The node may or may not follow, and a former primary may be left down.
    pub async fn follow(&self, upstream: &Self) -> Result<(), TestkitError> {
        self.follow_port(upstream.port()).await
    }

    /// The same through a proxy in front of the upstream, so that the stream itself can be delayed,
    /// stalled or cut.
    ///
    /// # Errors
    ///
    /// As [`follow`](Self::follow).
    ///
    /// # Cancellation
    ///
    /// As [`follow`](Self::follow).
    pub async fn follow_via(&self, proxy: &Proxy) -> Result<(), TestkitError> {
        self.follow_port(proxy.port()).await
    }

    async fn follow_port(&self, port: u16) -> Result<(), TestkitError> {
        let was_standby = self.data().join("standby.signal").exists();
        self.set_upstream(Some(port))?;
        if self.pid().is_none() {
            self.start().await?;
        } else if was_standby {
            self.reload().await?;
        } else {
            self.restart().await?;
        }
        self.wait_until(
            &format!("streaming from port {port}"),
            &format!(
                "select exists (select from pg_stat_wal_receiver \
                 where status = 'streaming' and sender_port = {port})"
            ),
        )
        .await
    }

    /// Throws this node's data away and makes it a replica of `upstream` from a base backup.
    ///
    /// # Errors
    ///
    /// If `upstream` is down, or the backup or the start fails.
    ///
    /// # Cancellation
    ///
    /// The node is left down with half its data; rebuilding again mends it.
    pub async fn rebuild_from(&self, upstream: &Self) -> Result<(), TestkitError> {
        self.stop().await?;
        empty(self.data())?;
        let log = self.data().with_extension("backup.log");
        let recipe = Recipe::new(self.bin().join("pg_basebackup"), self.user(), log)
            .arg("-D")
            .arg(self.data())
            .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream"])
            .arg(format!("--dbname={}", upstream.url()));
        process::run(&recipe, self.patience()).await?;
        self.set_upstream(Some(upstream.port()))?;
        self.start().await?;
        self.wait_until_streaming().await
    }

    /// The node is a standby, promoted or not by then.
    ///
    /// # Errors
    ///
    /// If the node is down.
    ///
    /// # Cancellation
    ///
    /// Safe: it only asks.
    pub async fn is_in_recovery(&self) -> Result<bool, TestkitError> {
        let answer = self.value("select pg_is_in_recovery()").await?;
        Ok(answer.as_deref() == Some("t"))
    }

    /// The end of what a primary has written into its log buffers.
    ///
    /// # Errors
    ///
    /// If the node is down or a standby.
    ///
    /// # Cancellation
    ///
    /// Safe: it only asks.
    pub async fn insert_lsn(&self) -> Result<PgLsn, TestkitError> {
        self.lsn("select pg_current_wal_insert_lsn()").await
    }

    /// The end of what a primary has flushed to its disk.
    ///
    /// # Errors
    ///
    /// If the node is down or a standby.
    ///
    /// # Cancellation
    ///
    /// Safe: it only asks.
    pub async fn flush_lsn(&self) -> Result<PgLsn, TestkitError> {
        self.lsn("select pg_current_wal_flush_lsn()").await
    }

    /// The end of what a standby has applied, so that its readers see it.
    ///
    /// # Errors
    ///
    /// If the node is down, or was never a standby since its start.
    ///
    /// # Cancellation
    ///
    /// Safe: it only asks.
    pub async fn replay_lsn(&self) -> Result<PgLsn, TestkitError> {
        self.lsn("select pg_last_wal_replay_lsn()").await
    }

    /// The end of what a standby has received and written, applied or not.
    ///
    /// # Errors
    ///
    /// If the node is down, or never streamed.
    ///
    /// # Cancellation
    ///
    /// Safe: it only asks.
    pub async fn receive_lsn(&self) -> Result<PgLsn, TestkitError> {
        self.lsn("select pg_last_wal_receive_lsn()").await
    }

    /// Waits until this standby has applied all that `primary` has written by now.
    ///
    /// # Errors
    ///
    /// If it does not get there in time, or one of the two is down.
    ///
    /// # Cancellation
    ///
    /// Safe: it only waits.
    pub async fn wait_for_catchup(&self, primary: &Self) -> Result<(), TestkitError> {
        // The insert position of an idle primary can point behind a page header that no replica
        // will reach before the next record, so a record is written to aim at.
        let target =
            primary.value("select pg_logical_emit_message(true, 'testkit', 'catch up')").await?.unwrap_or_default();
        self.wait_until(
            &format!("replay to reach {target}"),
            &format!("select coalesce(pg_last_wal_replay_lsn() >= '{target}'::pg_lsn, false)"),
        )
        .await
    }

    /// Waits until this standby receives from its upstream.
    ///
    /// # Errors
    ///
    /// If it does not in time, or is down.
    ///
    /// # Cancellation
    ///
    /// Safe: it only waits.
    pub async fn wait_until_streaming(&self) -> Result<(), TestkitError> {
        let streaming = "select exists (select from pg_stat_wal_receiver where status = 'streaming')";
        self.wait_until("streaming to begin", streaming).await
    }

    async fn lsn(&self, sql: &str) -> Result<PgLsn, TestkitError> {
        let text = self.value(sql).await?;
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| TestkitError::Unsuitable { message: format!("{} has no answer to `{sql}`", self.name()) })
    }
}

pub(super) fn empty(data: &Path) -> Result<(), TestkitError> {
    let entries = fs::read_dir(data).map_err(TestkitError::folder("read", data))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(TestkitError::folder("remove", &path))?;
    }
    Ok(())
}
