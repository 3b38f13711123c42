//! One server: its pool, its connection for the monitor, and what is remembered about it.

use super::super::{Fault, FaultKind, NodeInfo};
use super::dial::{Dial, Dialer};
use super::held::Held;
use super::link::{Link, Own};
use super::lock;
use super::sqlstate::{self, Author};
use super::standing::{self, Confirmed, Place, Reading, Run};
use crate::{Switch, Timeline};
use deadpool::managed::{Pool, PoolError, TimeoutType, Timeouts};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Error, Row};

/// A connection outside the pool, for one user at a time.
pub(super) type Aside = tokio::sync::Mutex<Option<Link>>;

/// One configured server.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) info: NodeInfo,
    pub(super) dial: Arc<Dial>,
    pub(super) pool: Pool<Dialer>,
    /// The longest that one statement may take.
    pub(super) operation_timeout: Duration,
    /// The cluster that all servers must belong to: configured, or that of the first primary that answered.
    pub(super) cluster: Arc<OnceLock<u64>>,
    /// The position that was asked for last, by any connection.
    pub(super) known: Mutex<Option<Known>>,
    /// Up to where this server's replay was confirmed to lie on a timeline.
    pub(super) confirmed: Mutex<Option<Confirmed>>,
    /// The connection of the monitor: outside the pool, so that an exhausted pool does not blind it.
    pub(super) probes: Aside,
    /// The connection of small errands. These wait for the disk, which must not look as if the server were silent.
    pub(super) errands: Aside,
    /// Where the ancestors of this server's timelines ended, as far as was learned. One per promotion seen.
    pub(super) switches: Mutex<BTreeMap<Timeline, Vec<Switch>>>,
    /// In which run transactions were begun whose outcome is not known, by their ids.
    pub(super) doubts: Mutex<BTreeMap<u64, Run>>,
}

/// A position that was read a moment ago.
///
/// A server's position falls back only over a restart or the crash of a backend, and both end every connection. So it is a valid
/// tag for all later statements of all connections that were opened in the same run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    run: Run,
    place: Place,
    asked: Instant,
}

/// How long a position need not be read again. Reading it with every fill costs 25 to 40 % of a saturated server's
/// throughput, and an older one only makes a tag lower.
const KNOWN_LIFE: Duration = Duration::from_millis(5);

/// How many transactions of unknown outcome are remembered; beyond it, the outcome of the oldest is never told.
const DOUBTS_MAX: usize = 1024;

impl Node {
    pub(super) fn name(&self) -> &str {
        &self.info.name
    }

    pub(super) fn fault(&self, kind: FaultKind, text: impl Into<String>) -> Fault {
        Fault::new(kind, self.name(), text)
    }

    /// Remembers a transaction whose outcome is not known.
    pub(super) fn doubt(&self, xid: u64, run: Run) {
        let mut doubts = lock(&self.doubts);
        doubts.insert(xid, run);
        while doubts.len() > DOUBTS_MAX {
            doubts.pop_first();
        }
    }

    /// Whether an id still means the transaction that it was given to when its outcome came into doubt.
    pub(super) fn still_means(&self, xid: u64, run: &Run) -> bool {
        let doubts = lock(&self.doubts);
        doubts.get(&xid).is_some_and(|begun| begun.is_surely(run))
    }

    /// A fault of one of our own statements.
    pub(super) fn own_fault(&self, doing: &str, error: Error) -> Fault {
        sqlstate::fault(self.name(), Author::Us, doing, error)
    }

    /// When a statement that begins now must have ended.
    pub(super) fn limit(&self, deadline: Instant) -> Instant {
        deadline.min(self.bound())
    }

    /// The same for operations that bring no deadline.
    pub(super) fn bound(&self) -> Instant {
        Instant::now() + self.operation_timeout
    }

    /// Borrows a connection of the pool. Dropped, nothing is held.
    pub(super) async fn acquire(&self, deadline: Instant) -> Result<Held, Fault> {
        let left = Some(deadline.saturating_duration_since(Instant::now()));
        let timeouts = Timeouts { wait: left, create: left, recycle: left };
        // The inner limits tell an exhausted pool from a server that does not answer; the outer one covers their sum.
        let borrowed = timeout_at(deadline, self.pool.timeout_get(&timeouts)).await;
        let link = match borrowed {
            Ok(Ok(link)) => link,
            Ok(Err(PoolError::Backend(fault))) => return Err(fault),
            Ok(Err(PoolError::Timeout(TimeoutType::Wait))) => {
                return Err(self.fault(FaultKind::Busy, "every connection of the pool is in use"));
            }
            Ok(Err(PoolError::Closed)) => return Err(self.fault(FaultKind::Down, "the pool is closed")),
            Ok(Err(_)) | Err(_) => return Err(self.fault(FaultKind::TimedOut, "connecting took too long")),
        };
        self.check_cluster(&link.run, !link.is_standby())?;
        Ok(Held::new(link))
    }

    /// Refuses a server of another cluster.
    ///
    /// Until a primary has answered, nobody knows which cluster is meant; nor is there a history yet that anything
    /// could be cached in.
    pub(super) fn check_cluster(&self, run: &Run, primary: bool) -> Result<(), Fault> {
        let found = run.system_identifier;
        let expected =
            if primary { *self.cluster.get_or_init(|| found) } else { *self.cluster.get().unwrap_or(&found) };
        if expected == found {
            return Ok(());
        }
        let text = format!("the server belongs to cluster {found}, and the others to {expected}");
        Err(self.fault(FaultKind::Foreign, text))
    }

    /// Waits for exchanges with the server, bounded. Work that is given up leaves the link marked as in use.
    pub(super) async fn within<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Result<T, Fault> {
        timeout_at(deadline, work).await.map_err(|_| self.fault(FaultKind::TimedOut, "no answer in time"))
    }

    /// A position that precedes every statement which this connection sends from now on, where one was read lately.
    pub(super) fn known(&self, link: &Link) -> Option<Place> {
        let known = lock(&self.known).filter(|known| known.run.is_surely(&link.run) && !link.is_pooled())?;
        (known.asked.elapsed() <= KNOWN_LIFE).then_some(known.place)
    }

    /// Reads the position, bounded, and remembers it.
    pub(super) async fn read_place(&self, link: &Link, deadline: Instant) -> Result<Place, Fault> {
        let asked = Instant::now();
        link.begin();
        let position = self.within(deadline, link.own(Own::Position)).await?;
        if sqlstate::is_clean(&position) {
            link.end();
        }
        self.place(link, position, asked)
    }

    /// What a position that was read proves; remembers it where the connection is one server's for good.
    pub(super) fn place(&self, link: &Link, position: Result<Row, Error>, asked: Instant) -> Result<Place, Fault> {
        let fault = |error| self.own_fault("reading the position", error);
        let row = position.map_err(fault)?;
        link.check_backend(self.name(), &row, 4)?;
        let reading = Reading::of(&row).map_err(fault)?;
        let run = if link.is_pooled() { Run::of(&row, 4).map_err(fault)? } else { link.run };
        if link.is_pooled() {
            self.check_cluster(&run, !reading.standby)?;
        }
        let place = if reading.standby {
            let mut confirmed = lock(&self.confirmed);
            standing::on_standby(self.name(), reading, link.layout, run, &mut confirmed)?
        } else {
            standing::on_primary(self.name(), reading, link.layout)?
        };
        link.saw(reading.standby);
        if !link.is_pooled() {
            *lock(&self.known) = Some(Known { run, place, asked });
        }
        Ok(place)
    }
}
