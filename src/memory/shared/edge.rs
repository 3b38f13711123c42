//! The edges to the server, as one instance has them.

use super::super::network::Fate;
use super::super::world::World;
use super::bus::Subscription;
use super::redis::Redis;
use crate::Digest;
use crate::devices::{DeviceStore, Exchange, Exchanged};
use crate::ledger::{Announcement, Beat, Ledger, Lineage, Notice, Pulse, Retracted, Settlement};
use crate::sealed::Sealed;
use crate::tier::{Address, Offer, SharedTier, TierError};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// How long a call may take.
const CALL_BOUND: Duration = Duration::from_millis(250);

/// What is asked of the shared server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Call {
    /// Entries are read.
    Fetch,
    /// Entries are offered.
    Admit,
    /// A commit is announced, or that it did not come.
    Announce,
    /// A retraction is told.
    Retract,
    /// A heartbeat is published.
    Beat,
    /// What was missed is asked for.
    Repair,
    /// A subscription is opened.
    Subscribe,
    /// A user's record is read, or merged into.
    Exchange,
}

/// Which way a call travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Way {
    /// To the server. What is cut here never arrives; what is slow arrives late, even if nobody waits any more.
    There,
    /// Back to the client. What is cut here has happened.
    Back,
}

/// Decides over the calls of each client, by its number. Without one, all pass at once.
#[derive(Clone)]
pub struct Line(Arc<dyn Fn(usize, Call, Way) -> Fate + Send + Sync>);

impl Line {
    /// A line that asks `decide` at each call and each answer.
    pub fn new(decide: impl Fn(usize, Call, Way) -> Fate + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new(|_, _, _| Fate::Pass(Duration::ZERO))
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

/// A Redis-like server in memory: the shared tier, the ledger and the device store of all instances that have a handle of it.
///
/// A handle is cheap to clone, and all clones are the same server. Each instance should have a handle with a number of
/// its own ([`client`](Self::client)), so that faults can tell instances apart.
#[derive(Debug, Clone)]
pub struct Shared {
    pub(super) world: Arc<World<Redis>>,
    line: Arc<Mutex<Line>>,
    number: usize,
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Shared {
    /// A healthy, empty server. The ids of its logs are made from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = Arc::new(World::new(Redis::new(seed, Instant::now())));
        Self { world, line: Arc::default(), number: 0 }
    }

    /// The same server as client `number` has it.
    #[must_use]
    pub fn client(&self, number: usize) -> Self {
        Self { number, ..self.clone() }
    }

    /// Puts the line in charge of all calls from now on.
    pub fn set_line(&self, line: Line) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// One call: it travels, is carried out in one step, and its answer travels back.
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        run: impl FnOnce(&mut Redis) -> Result<T, TierError> + Send + 'static,
    ) -> Result<T, TierError> {
        match timeout(CALL_BOUND, self.travel(call, run)).await {
            Ok(result) => result,
            Err(_) => Err(TierError::new("the shared server did not answer in time")),
        }
    }

    async fn travel<T: Send + 'static>(
        &self,
        call: Call,
        run: impl FnOnce(&mut Redis) -> Result<T, TierError> + Send + 'static,
    ) -> Result<T, TierError> {
        let (reply, mut replied) = oneshot::channel();
        tokio::task::yield_now().await;
        let there = self.decide(call, Way::There)?;
        let number = self.number;
        let connections = self.world.change(|redis| {
            if !redis.cut_off.contains(&number) {
                redis.send(there, Box::new(move |redis| drop(reply.send(redis.serve(number, run)))));
            }
            (redis.up, redis.connections)
        });
        if !connections.0 {
            return Err(TierError::new("connection refused"));
        }
        let answer = self.world.wait(|redis| match replied.try_recv() {
            Ok(answer) => Some(answer),
            _ if (redis.up, redis.connections) != connections => Some(Err(TierError::new("the connection was closed"))),
            Err(_) => None,
        });
        let answer = answer.await?;
        let back = self.decide(call, Way::Back)?;
        if !back.is_zero() {
            sleep(back).await;
        }
        Ok(answer)
    }

    fn decide(&self, call: Call, way: Way) -> Result<Duration, TierError> {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (line.0)(self.number, call, way) {
            Fate::Pass(time) => Ok(time),
            Fate::Cut => Err(TierError::new("the connection was cut")),
        }
    }
}

/// What a write is refused with when there is no memory left.
pub(super) fn room(redis: &Redis) -> Result<(), TierError> {
    if redis.full { Err(TierError::new("OOM command not allowed when used memory > 'maxmemory'")) } else { Ok(()) }
}

impl Sealed for Shared {}

impl SharedTier for Shared {
    async fn fetch(&self, addresses: &[Address]) -> Result<Vec<Option<Vec<u8>>>, TierError> {
        let addresses = addresses.to_vec();
        self.call(Call::Fetch, move |redis| Ok(redis.fetch(&addresses))).await
    }

    async fn admit(&self, offers: Vec<Offer>) -> Result<(), TierError> {
        let admit = move |redis: &mut Redis| room(redis).map(|()| redis.admit(offers));
        self.call(Call::Admit, admit).await
    }
}

impl DeviceStore for Shared {
    async fn exchange(&self, user: Digest, exchange: Exchange) -> Result<Exchanged, TierError> {
        self.call(Call::Exchange, move |redis| redis.exchange(user, &exchange)).await
    }
}

impl Ledger for Shared {
    type Subscription = Subscription;

    async fn announce(&self, announcement: &Announcement) -> Result<Option<Lineage>, TierError> {
        let announcement = announcement.clone();
        let announce = move |redis: &mut Redis| room(redis).map(|()| redis.announce(&announcement));
        self.call(Call::Announce, announce).await
    }

    async fn withdraw(&self, id: [u8; 16]) -> Result<(), TierError> {
        self.call(Call::Announce, move |redis| room(redis).map(|()| redis.withdraw(id))).await
    }

    async fn retract(
        &self,
        notice: &Notice,
        keep: Duration,
        settlement: Option<Settlement>,
    ) -> Result<Retracted, TierError> {
        let notice = notice.clone();
        let retract = move |redis: &mut Redis| room(redis).map(|()| redis.retract(&notice, keep, settlement));
        self.call(Call::Retract, retract).await
    }

    async fn beat(&self, nonce: u64, pulse: Pulse) -> Result<Beat, TierError> {
        let beat = move |redis: &mut Redis| room(redis).map(|()| redis.beat(nonce, pulse));
        self.call(Call::Beat, beat).await
    }

    async fn repair(&self, lineage: Lineage, after: u64) -> Result<Option<Vec<Vec<u8>>>, TierError> {
        self.call(Call::Repair, move |redis| Ok(redis.repair(lineage, after))).await
    }

    async fn subscribe(&self) -> Result<Subscription, TierError> {
        let number = self.number;
        let id = self.call(Call::Subscribe, move |redis| Ok(redis.bus.open(number))).await?;
        Ok(Subscription { world: self.world.clone(), id })
    }
}
