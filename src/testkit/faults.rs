//! What can be done to a running node: lag, silence, severed sessions.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::testkit::node::LOOK;
use crate::testkit::{Node, TestkitError};

impl Node {
    /// Has a replica apply each commit only this long after it was made; zero ends the delay.
    ///
    /// Only commits wait: the record of a commit is held back until its time stamp plus `delay` by
    /// the replica's clock, and everything behind it waits too.
    ///
    /// # Errors
    ///
    /// If the node is down or does not take the setting in time.
    ///
    /// # Cancellation
    ///
    /// The delay may or may not be in force.
    pub async fn apply_delay(&self, delay: Duration) -> Result<(), TestkitError> {
        let delay = format!("{}ms", delay.as_millis());
        self.configure("recovery_min_apply_delay", &delay).await
    }

    /// Changes a parameter of `postgresql.conf`, and returns once it is in force.
    ///
    /// On a node that is down it is in force from the next start on.
    ///
    /// # Errors
    ///
    /// If the server refuses the value, or takes it only at a restart; it is in the file by then,
    /// so [`restart`](Self::restart) is all that is missing.
    ///
    /// # Cancellation
    ///
    /// The file may be written and not yet read.
    pub async fn configure(&self, key: &str, value: &str) -> Result<(), TestkitError> {
        self.set(key, value)?;
        if self.pid().is_none() {
            return Ok(());
        }
        self.reload().await?;
        let key = key.to_lowercase().replace('\'', "''");
        let refused = self
            .value(&format!(
                "select coalesce(error, 'refused') from pg_file_settings \
                 where name = '{key}' and not applied and sourcefile like '%testkit.conf'"
            ))
            .await?;
        match refused {
            None => Ok(()),
            Some(reason) => Err(TestkitError::Unsuitable {
                message: format!("{key} = {value}: {reason}; if it needs a restart, call restart"),
            }),
        }
    }

    /// Has the server read its configuration files again, and returns once it has.
    ///
    /// # Errors
    ///
    /// If the node is down or frozen.
    ///
    /// # Cancellation
    ///
    /// The server may read them or not.
    pub async fn reload(&self) -> Result<(), TestkitError> {
        // Only a session begun after the postmaster's reload inherits the new time, and by then
        // the postmaster has told everybody: so each look is a connection of its own.
        let loaded = "select pg_conf_load_time()";
        let before = self.value(loaded).await?;
        self.server().signal(Signal::HUP)?;
        let deadline = Instant::now() + self.patience();
        while self.value(loaded).await? == before {
            if Instant::now() > deadline {
                return Err(self.too_late("to reload its configuration"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Holds a replica's replay where it is, while it goes on receiving.
    ///
    /// Returns when replay really stands: PostgreSQL may apply one more record after agreeing.
    ///
    /// # Errors
    ///
    /// If the node is down or not in recovery.
    ///
    /// # Cancellation
    ///
    /// Replay may or may not be paused.
    pub async fn pause_replay(&self) -> Result<(), TestkitError> {
        self.execute("select pg_wal_replay_pause()").await?;
        let paused = "select pg_get_wal_replay_pause_state() = 'paused'";
        self.wait_until("replay to pause", paused).await
    }

    /// Lets replay go on.
    ///
    /// # Errors
    ///
    /// If the node is down or not in recovery.
    ///
    /// # Cancellation
    ///
    /// Replay may or may not have resumed.
    pub async fn resume_replay(&self) -> Result<(), TestkitError> {
        self.execute("select pg_wal_replay_resume()").await
    }

    /// Stops the postmaster and every backend where they are: sockets stay open, nobody answers.
    ///
    /// # Errors
    ///
    /// If the node is down, or will not stand still.
    ///
    /// # Cancellation
    ///
    /// Safe: all is done at the first poll.
    pub async fn freeze(&self) -> Result<(), TestkitError> {
        self.server().freeze()
    }

    /// Ends a [`freeze`](Self::freeze).
    ///
    /// # Errors
    ///
    /// If the node is down.
    ///
    /// # Cancellation
    ///
    /// Safe: all is done at the first poll.
    pub async fn thaw(&self) -> Result<(), TestkitError> {
        self.server().thaw()
    }

    /// Ends every client session but the one that asks; returns how many there were.
    ///
    /// # Errors
    ///
    /// If the node is down.
    ///
    /// # Cancellation
    ///
    /// The sessions may or may not be ended.
    pub async fn terminate_backends(&self) -> Result<u64, TestkitError> {
        let count = self
            .value(
                "select count(*) from (select pg_terminate_backend(pid) as ended \
                 from pg_stat_activity where backend_type = 'client backend' \
                 and pid <> pg_backend_pid()) as sessions where ended",
            )
            .await?;
        Ok(count
            .and_then(|count| count.parse().ok())
            .unwrap_or_default())
    }
}
