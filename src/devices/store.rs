//! The handle that an application has.

use super::deferred::{Deferred, Due};
use super::eras::{Eras, Standing};
use super::visit::Visit;
use super::{DeviceStore, DynDeviceStore, Exchange, Exchanged, Record};
use crate::lives::Lives;
use crate::rules::{Rule, holds};
use crate::source::Source;
use crate::stats::Counter;
use crate::tasks::Tasks;
use crate::tier::TierError;
use crate::{Digest, Error, Highwater, Session, Token, trace};
use futures_util::future::{BoxFuture, join_all};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What all devices of each user hold together, kept in a store. Cheap to clone.
#[derive(Clone)]
pub struct Devices(pub(super) Arc<Inner>);

/// Puts [`Devices`] together; begun by [`Devices::builder`].
#[must_use = "devices are made by build()"]
pub struct DevicesBuilder {
    store: Box<dyn DynDeviceStore>,
    life: Duration,
    lives: Lives,
    own: Vec<Own>,
}

pub(super) struct Inner {
    store: Box<dyn DynDeviceStore>,
    life: Duration,
    lives: Lives,
    own: Vec<Own>,
    eras: Mutex<Eras>,
    deferred: Mutex<Deferred>,
    pub(super) counters: DevicesCounters,
    pub(super) tasks: Tasks,
}

/// A cluster that the service reads from.
struct Own {
    system_identifier: u64,
    careful: Box<dyn Fn(&Session, Heard) -> BoxFuture<'static, Option<Token>> + Send + Sync>,
}

/// Positions of primaries that a session is raised to because nobody else could say, and which are no writes of the user.
type Heard = Arc<Mutex<Token>>;

/// How long a record lives unless told otherwise.
const LIFE: Duration = Duration::from_secs(24 * 3600);
const LIFE_MIN: Duration = Duration::from_secs(1);
const LIFE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the store is left alone after it did not take a record, and how long the last try may take.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const LAST_TRY_TIME_MAX: Duration = Duration::from_secs(1);

crate::stats::counters! {
    /// What the devices of an instance have done since they were built.
    DevicesCounters => DevicesStats {
        /// Visits for which the store was known to have lost nothing.
        recalled,
        /// Visits for which the store may have lost something. They were treated as of one who wrote a moment ago: see
        /// [`Highwater::be_careful`](crate::Highwater::be_careful).
        incomplete,
        /// Visits that the store did not answer. They were treated the same.
        away,
        /// Records that could not be read: damaged, of another release, or somebody else's. Such visits are incomplete.
        unreadable,
        /// Eras of the store that began while it was watched: it was restarted, failed over, wiped, or had to evict.
        eras,
        /// Users for whom the position of the primary was put into the store, so that they are treated so once an era.
        answered_for,
        /// Times that the store took what a session held.
        remembered,
        /// Times that it did not, at first. Until it has, the user's other devices do not see the write on other instances.
        deferred,
        /// Of these, what was never told: there were too many, a life had passed, or the devices were closed.
        dropped,
    }
}

/// What a visit was told by the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What the store holds of the user.
    pub(super) token: Token,
    /// The same as the bytes that it is kept as.
    pub(super) record: Vec<u8>,
    pub(super) heard: Heard,
}

impl Known {
    /// What the session may hold by now without a write.
    pub(super) fn present(&self) -> Token {
        let mut token = self.token.clone();
        token.merge(&self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        token
    }
}

impl Devices {
    /// Begins devices over a store: [`RedisDevices`](super::RedisDevices) or [`memory::Shared`](crate::memory::Shared).
    pub fn builder(store: impl DeviceStore) -> DevicesBuilder {
        DevicesBuilder { store: Box::new(store), life: LIFE, lives: Lives::default(), own: Vec::new() }
    }

    /// Begins one request of a user: asks the store what their devices hold, and lets `session` cover it. Returns at once;
    /// reads with the session wait until the store has answered, at most for as long as the store's time-out, and everything else
    /// goes on. Where the store does not answer, or may have lost something, the session goes to the primary until that
    /// has said how far it is.
    ///
    /// `user` is the application's id of the user in bytes that are the same on every instance, with the tenant in it where ids
    /// are not unique without. It is kept as a digest only. Take it from what was authenticated: who names another user
    /// raises that user's floors. Must be called within a Tokio runtime.
    pub fn visit(&self, session: &Session, user: impl AsRef<[u8]>) -> Visit {
        Visit::begin(self, session, Digest::of_user(user.as_ref()))
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> DevicesStats {
        self.0.counters.snapshot()
    }

    /// Waits for what is under way, and tries once more, for at most a second, what the store has not taken. Visits of
    /// afterwards still work.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn close(&self) {
        self.0.tasks.close().await;
        let all = self.0.deferred().len();
        let told = timeout(LAST_TRY_TIME_MAX, async {
            for _ in 0..all {
                self.retell_first().await;
            }
        });
        let _ = told.await;
        let mut deferred = self.0.deferred();
        self.0.counters.dropped.add(deferred.len() as u64);
        *deferred = Deferred::default();
    }

    /// Asks the store, and raises the session.
    pub(super) async fn recall(&self, session: &Session, user: Digest, held: Token) -> Known {
        let inner = &*self.0;
        if let Some(token) = inner.deferred().of(&user) {
            session.cover(token);
        }
        match inner.exchange(user, Vec::new(), Vec::new()).await {
            Err(error) => {
                inner.counters.away.add_one();
                trace::devices_away(&error);
                let doubtful: Vec<&Own> = inner.own.iter().collect();
                // What it held before is taken for known: nobody can say, and there is nobody to be told.
                Known { token: held, record: Vec::new(), heard: self.be_careful(session, &doubtful, None) }
            }
            Ok((answer, standing)) => {
                let found = Record::decode(&answer.record);
                let readable = found.is_some() || answer.record.is_empty();
                if !readable {
                    inner.counters.unreadable.add_one();
                }
                let record = found.unwrap_or_default();
                session.cover(&record.token);
                let is_told = |own: &&Own| is_complete(&answer, standing, &record, readable, own.system_identifier);
                let doubtful: Vec<&Own> = inner.own.iter().filter(|own| !is_told(own)).collect();
                let counter = if doubtful.is_empty() { &inner.counters.recalled } else { &inner.counters.incomplete };
                counter.add_one();
                let answering = (standing != Standing::Past).then_some((user, answer.era));
                let heard = self.be_careful(session, &doubtful, answering);
                Known { token: record.token, record: answer.record, heard }
            }
        }
    }

    /// Treats the session as of one who may have written to these clusters a moment ago. Once the primaries have said how far
    /// they are, that is put into the store for the user, who need not be treated so again in the same era.
    fn be_careful(&self, session: &Session, doubtful: &[&Own], answering: Option<(Digest, u64)>) -> Heard {
        let heard = Heard::default();
        let positions: Vec<_> = doubtful
            .iter()
            .map(|own| {
                let position = (own.careful)(session, Arc::clone(&heard));
                let cluster = own.system_identifier;
                async move { position.await.map(|token| (cluster, token)) }
            })
            .collect();
        let devices = self.clone();
        if let Some((user, era)) = answering.filter(|_| !positions.is_empty()) {
            self.0.tasks.spawn(async move {
                let mut all = Token::default();
                let mut clusters = Vec::new();
                for (cluster, token) in join_all(positions).await.into_iter().flatten() {
                    clusters.push(cluster);
                    all.merge(&token);
                }
                let record = Record::answering(all, &clusters, era).encode();
                if !clusters.is_empty() && devices.0.exchange(user, record, Vec::new()).await.is_ok() {
                    devices.0.counters.answered_for.add_one();
                }
            });
        } else {
            positions.into_iter().for_each(|position| self.0.tasks.spawn(async move { drop(position.await) }));
        }
        heard
    }

    /// Puts what a session holds into the store. Where that does not take it, it is told again in the background.
    pub(super) async fn save(&self, user: Digest, token: Token, from: Vec<u8>) -> Option<Known> {
        let inner = &*self.0;
        inner.lives.compare("devices", inner.life);
        match inner.exchange(user, Record::of(token.clone()).encode(), from).await {
            Ok((answer, _)) => {
                inner.counters.remembered.add_one();
                let token = Record::decode(&answer.record).unwrap_or_default().token;
                Some(Known { token, record: answer.record, heard: Heard::default() })
            }
            Err(error) => {
                inner.counters.deferred.add_one();
                trace::devices_deferred(&error);
                self.defer(user, token);
                None
            }
        }
    }

    fn defer(&self, user: Digest, token: Token) {
        let mut deferred = self.0.deferred();
        if deferred.put(user, Due { token, until: Instant::now() + self.0.life }) {
            self.0.counters.dropped.add_one();
        }
        if !std::mem::replace(&mut deferred.is_told, true) {
            let devices = self.clone();
            self.0.tasks.spawn_forever(async move { devices.tell_again().await });
        }
    }

    async fn tell_again(&self) {
        loop {
            sleep(RETRY_PAUSE).await;
            while self.retell_first().await {}
            let mut deferred = self.0.deferred();
            if deferred.len() == 0 {
                deferred.is_told = false;
                return;
            }
        }
    }

    /// Tells the first one again. Returns whether the next one is worth a try at once; the first one comes last then, since it may
    /// be the only one that the store does not take.
    async fn retell_first(&self) -> bool {
        let Some((user, due)) = self.0.deferred().first() else { return false };
        if due.until <= Instant::now() {
            self.0.counters.dropped.add_one();
        } else if self.0.exchange(user, Record::of(due.token.clone()).encode(), Vec::new()).await.is_err() {
            self.0.deferred().postpone_first(&user);
            return false;
        } else {
            self.0.counters.remembered.add_one();
        }
        self.0.deferred().remove_first(&due);
        true
    }
}

impl Inner {
    fn deferred(&self) -> MutexGuard<'_, Deferred> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, user: Digest, record: Vec<u8>, from: Vec<u8>) -> Result<(Exchanged, Standing), TierError> {
        let eras = || self.eras.lock().unwrap_or_else(PoisonError::into_inner);
        let disbelieved = eras().disbelieved;
        let answer = self.store.exchange_boxed(user, Exchange { record, from, life: self.life, disbelieved }).await?;
        let standing = eras().judge(&answer);
        if standing == Standing::New {
            self.counters.eras.add_one();
            trace::devices_may_have_lost();
        }
        Ok((answer, standing))
    }
}

/// Whether nothing that the user's devices wrote to this cluster can be missing from what the store answered.
fn is_complete(answer: &Exchanged, standing: Standing, record: &Record, readable: bool, cluster: u64) -> bool {
    let answered_for = record.era(cluster) == answer.era;
    // Whatever an old era does not know of has ended its life, unless it was overwritten in this one.
    let is_old = answer.is_old && readable && !record.suspect;
    let is_left_out = record.token.is_collapsed() && !record.token.names(cluster);
    standing != Standing::Past && (answered_for || is_old) && !is_left_out || !holds(Rule::LossIsNoticed)
}

impl DevicesBuilder {
    /// Says which stores the service reads from: where the devices' store cannot be relied upon, their primaries are asked.
    pub fn store<S: Source>(mut self, store: &Highwater<S>) -> Self {
        let system_identifier = store.history().system_identifier();
        self.lives.watch(store);
        let store = store.clone();
        let careful = Box::new(move |session: &Session, heard: Heard| -> BoxFuture<'static, _> {
            Box::pin(
                store.careful(session, move |token| heard.lock().unwrap_or_else(PoisonError::into_inner).merge(token)),
            )
        });
        self.own.push(Own { system_identifier, careful });
        self
    }

    /// How long a user's record lives after the last write. As with a token's, it must be longer than a replica may lag while
    /// it serves and an entry lives, together. From a second to a year; defaults to a day.
    pub fn life(mut self, life: Duration) -> Self {
        self.life = life.clamp(LIFE_MIN, LIFE_MAX);
        self
    }

    /// The devices.
    ///
    /// # Errors
    ///
    /// No [`store`](Self::store) was given: nobody could be asked.
    pub fn build(self) -> Result<Devices, Error> {
        let Self { store, life, lives, own } = self;
        if own.is_empty() {
            return Err(Error::configuration("devices need the store that is read from: give it with .store(&store)"));
        }
        Ok(Devices(Arc::new(Inner {
            store,
            life,
            lives,
            own,
            eras: Mutex::default(),
            deferred: Mutex::default(),
            counters: DevicesCounters::default(),
            tasks: Tasks::new(),
        })))
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Devices").field("life", &self.0.life).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl fmt::Debug for DevicesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevicesBuilder").field("life", &self.life).finish_non_exhaustive()
    }
}
