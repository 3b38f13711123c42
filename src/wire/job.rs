//! A token that a job carries: run it when the replicas have what it is about, and not much later.

use crate::source::Source;
use crate::{Highwater, Token};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A token as a job's payload carries it, with how often the job was put off.
///
/// Reads of the job are right whenever it runs: a session from the token is never served below it. Running the job only
/// once a replica has come so far spares the primary.
///
/// ```
/// use highwater::memory::Cluster;
/// use highwater::wire::{JobToken, Patience, Turn};
/// use highwater::{Highwater, Session};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = Cluster::new(1);
/// # let store = Highwater::over(cluster.source()).start().await?;
/// # let session = Session::new();
/// # store.capture(&session, highwater::Retraction::new()).await?;
/// let payload = JobToken::new(session.token()); // serialized with the job
///
/// let mut job = payload; // and deserialized by a worker
/// if let Turn::Again(pause) = job.turn(&store, &Patience::default()) {
///     // Put it back with this payload, to be run after the pause.
/// } else {
///     let session = Session::from_token(job.token().clone());
///     // Run it. Where no replica is there even now, its reads ask the primary.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobToken {
    token: Token,
    put_off: u32,
}

/// How long a job is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often at most. Defaults to 3.
    pub put_off_max: u32,
    /// The shortest pause. Defaults to 50 ms.
    pub pause_min: Duration,
    /// The longest pause. Defaults to 10 s.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { put_off_max: 3, pause_min: Duration::from_millis(50), pause_max: Duration::from_secs(10) }
    }
}

/// Whether a job is to run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Turn {
    /// A replica is believed to have what the token covers, or it makes no sense to wait for one.
    Run,
    /// Not yet here: run it again after this.
    Again(Duration),
    /// It was put off as often as it may be: run it, and let the fallback of its reads decide.
    RunAnyway,
}

impl JobToken {
    /// A payload for a job that must see what `token` covers.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token, put_off: 0 }
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Whether the job is to run now, by what is believed of the servers: this asks nobody and does not wait. Where the
    /// answer is [`Turn::Again`], this payload has counted it.
    pub fn turn<S: Source>(&mut self, store: &Highwater<S>, patience: &Patience) -> Turn {
        let Some(lag) = store.replicas_lag(&self.token) else { return Turn::Run };
        if self.put_off >= patience.put_off_max {
            return Turn::RunAnyway;
        }
        // Doubled each time: what a server says of its lag is a guess, and there may be none.
        let guess = lag.max(patience.pause_min).saturating_mul(1 << self.put_off.min(16));
        self.put_off += 1;
        Turn::Again(guess.min(patience.pause_max))
    }
}
