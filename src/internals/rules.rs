//! The rules as plain values: for a model that explores every order of things, whose state must be compared and hashed,
//! and which must not have rules of its own. Positions are LSNs of one cluster.
#![expect(clippy::exhaustive_enums, reason = "no part of the public interface")]

use crate::cache::{Demand as CacheDemand, judge};
use crate::digest::Digest;
use crate::entry::{Entry, Floor, Life, Slots, admits};
use crate::epoch::{Epochs, SlotMap, Span};
use crate::fleet::{Need, reaches};
use crate::flight::Flights;
use crate::freshness::Fallback;
use crate::history::Standing;
use crate::lineage::Lineage;
use crate::named::Brief;
use crate::session::State;
use crate::sights::Seen;
use crate::source::Role;
use crate::tier::envelope;
use crate::{History, Lsn, Origin, Position, Session, Stamp, Switch, Timeline};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many keys there are.
pub const KEYS: usize = 2;

const CLUSTER: u64 = 7;

/// What an instance knows of the history and of retractions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Knowledge {
    /// The timeline that it takes for the present one.
    pub timeline: u32,
    /// Where the parent of the timeline ended.
    pub switch: Option<u64>,
    /// How far each key was retracted.
    pub floors: [u64; KEYS],
    /// The highest insert and flush positions seen of the primary.
    pub high: (u64, u64),
    /// What is known of one log: what tokens call it in this history, the start, and the watermark.
    pub span: Option<(u64, u64, u64)>,
}

/// A filled value, but for the value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "as in `Stamp` and `Entry`")]
pub struct Fill {
    pub key: usize,
    pub timeline: u32,
    pub tag: u64,
    pub on_primary: bool,
    pub upper: Option<u64>,
    pub fill: u64,
    /// The history that it was filled in.
    pub history: u64,
}

/// What lies at an address of the shared tier, as the Admit rule sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stored {
    /// An entry.
    Entry(Fill),
    /// A retraction's marker.
    Marker(u64),
}

/// What one read demands of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Demand {
    history: u64,
    floor: Floor,
    seen: Seen,
}

/// Why a read cannot be answered at all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Trouble {
    /// The session names a write that history does not contain, or may not.
    Lost,
    /// The instance has not seen the timeline yet.
    Ahead,
}

/// A session.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Client {
    monotonic: bool,
    state: State,
}

fn position((timeline, lsn): (u32, u64)) -> Position {
    Position::new(timeline, Lsn::new(lsn))
}

pub(super) fn name(key: usize) -> Digest {
    Digest::of_key(&[key as u8])
}

impl Default for Knowledge {
    /// Of an instance that has seen the primary of timeline 1.
    fn default() -> Self {
        Self { timeline: 1, switch: None, floors: [0; KEYS], high: (0, 0), span: None }
    }
}

impl Knowledge {
    fn history(&self) -> History {
        let switch = self.switch.map(|at| Switch { from: Timeline(self.timeline - 1), at: Lsn::new(at) });
        History::new(CLUSTER, Timeline(self.timeline), switch.into_iter().collect())
    }

    /// The name of the history: part of every address.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.history().fingerprint()
    }

    fn epochs(&self) -> Epochs {
        let epochs = Epochs::new(self.history(), SlotMap::new(64, (1, 2)), Some(Lsn::ZERO));
        let role = self.role(self.timeline, self.high, None);
        epochs.saw_primary(CLUSTER, &role, epochs.high_water());
        for (key, floor) in self.floors.iter().enumerate().filter(|(_, floor)| **floor > 0) {
            epochs.retract(position((self.timeline, *floor)), &[name(key)], &[]);
        }
        if let Some((lineage, start, watermark)) = self.span {
            let span = Span::new(Lineage::from_number(lineage), Lsn::new(start), Lsn::new(watermark));
            epochs.hear(self.fingerprint(), Arc::new(span));
        }
        epochs
    }

    fn role(&self, timeline: u32, (insert, flush): (u64, u64), switch: Option<u64>) -> Role {
        let switches = switch.map(|at| Switch { from: Timeline(timeline - 1), at: Lsn::new(at) });
        let (insert, flush) = (Lsn::new(insert), Lsn::new(flush));
        Role::Primary {
            timeline: Timeline(timeline),
            insert,
            flush,
            switches: switches.into_iter().collect(),
            started_ms: 1,
        }
    }

    fn take_in(&mut self, epochs: &Epochs) {
        let (epoch, high) = (epochs.current().clone(), epochs.high_water());
        self.timeline = epoch.history.timeline().0;
        self.switch = epoch.history.switches().last().map(|switch| switch.at.offset());
        self.high = (high.insert().offset(), high.flush().offset());
        let span = epoch.span.as_ref();
        self.span = span.map(|span| (span.lineage.number(), span.start.offset(), span.watermark().offset()));
        for (key, floor) in self.floors.iter_mut().enumerate() {
            *floor = epoch.floor(&Slots::new(epochs.slots().key(&name(key)), []), 0).offset();
        }
    }

    /// A server that says it is the primary was looked at.
    pub fn saw_primary(&mut self, timeline: u32, high: (u64, u64), switch: Option<u64>) {
        let epochs = self.epochs();
        epochs.saw_primary(CLUSTER, &self.role(timeline, high, switch), epochs.high_water());
        self.take_in(&epochs);
    }

    /// A retraction was made here or heard; false where it lies in another history.
    pub fn retract(&mut self, key: usize, at: (u32, u64)) -> bool {
        let epochs = self.epochs();
        epochs.saw_token(position(at));
        let ours = epochs.retract(position(at), &[name(key)], &[]);
        self.take_in(&epochs);
        ours
    }

    /// The Answer rule.
    #[must_use]
    pub fn answers(&self, fill: &Fill, demand: &Demand) -> bool {
        let Demand { history, floor, seen } = *demand;
        let epochs = self.epochs();
        let epoch = epochs.current();
        let demand = CacheDemand { history, floor, seen };
        judge(&fill.entry(&epochs), &demand, &epoch, 0, 0, Duration::MAX).is_ok()
    }

    /// Whether nothing has retracted it.
    #[must_use]
    pub fn is_live(&self, fill: &Fill) -> bool {
        let epochs = self.epochs();
        fill.history == self.fingerprint() && epochs.current().is_live(&fill.entry(&epochs), 0)
    }

    /// The Admit rule of the in-process tier.
    #[must_use]
    pub fn admits(&self, present: Option<&Fill>, incoming: &Fill) -> bool {
        present.is_none_or(|present| {
            present.history != incoming.history
                || !self.is_live(present)
                || admits(present.stamp().rank(), incoming.stamp().rank())
        })
    }
}

impl Fill {
    fn stamp(&self) -> Stamp {
        let origin = if self.on_primary { Origin::Primary } else { Origin::Standby };
        let (tag, upper) = (Lsn::new(self.tag), self.upper.map(Lsn::new));
        Stamp { timeline: Timeline(self.timeline), tag, origin, upper }
    }

    fn entry(&self, epochs: &Epochs) -> Entry<()> {
        Entry {
            value: Some(Arc::new(())),
            stamp: self.stamp(),
            history: self.history,
            slots: Slots::new(epochs.slots().key(&name(self.key)), []),
            brief: Brief::of(&name(self.key)),
            life: Life { filled_ms: 0, expires_ms: u64::MAX },
            fill: self.fill,
            filled_here: true,
        }
    }

    /// Whether a server's answer may be given to the readers of a load for `wanted`, of a key that was retracted up to
    /// `retracted`.
    #[must_use]
    pub fn reaches(&self, wanted: &Demand, retracted: u64, timeline: u32, asked_primary: bool) -> bool {
        let now = Instant::now();
        let need = Need {
            timeline: Timeline(timeline),
            floor: wanted.floor,
            retracted: Lsn::new(retracted),
            fallback: Fallback::Primary,
            wait_until: now,
            deadline: now,
        };
        reaches(&self.stamp(), &need, asked_primary)
    }
}

/// The Admit rule of the shared tier, on the bytes that it compares.
#[must_use]
pub fn replaces(present: Option<Stored>, incoming: Stored, timeline: u32) -> bool {
    let bytes = |stored| match stored {
        Stored::Marker(at) => envelope::marker(position((timeline, at))),
        Stored::Entry(fill) => {
            let (groups, payload) = (Vec::new(), None);
            let contents =
                envelope::Contents { stamp: fill.stamp(), filled_unix_ms: 0, expires_unix_ms: 0, groups, payload };
            let lies = envelope::Expected { history: fill.history, key: &[], type_fingerprint: 0 };
            envelope::seal(&contents, &lies, &envelope::Limits::default()).unwrap_or_default()
        }
    };
    envelope::replaces(&present.map(bytes).unwrap_or_default(), &bytes(incoming))
}

impl Demand {
    /// What answers both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { floor: self.floor.join(other.floor), ..self }
    }

    /// The name of the history that the floor is counted in.
    #[must_use]
    pub fn history(&self) -> u64 {
        self.history
    }

    /// The least tag that meets it by itself.
    #[must_use]
    pub fn least_tag(&self) -> u64 {
        self.floor.least_tag().offset()
    }

    /// Whether what was seen on a standby has to be waited for on the primary.
    #[must_use]
    pub fn quiesces(&self) -> bool {
        self.floor.seen_on_standby.is_some()
    }

    /// Whether only the primary can answer, now.
    #[must_use]
    pub fn latest(&self) -> bool {
        self.floor.latest
    }

    /// Whether the answer needs an upper bound to be remembered by.
    #[must_use]
    pub fn monotonic(&self) -> bool {
        self.floor.monotonic
    }

    /// How a read with this demand comes on board of a load for `wanted`: entitled to its answer, or to be judged by the
    /// Answer rule, or not at all.
    #[must_use]
    pub fn boards(&self, wanted: &Self, closed: bool, departed: bool) -> Option<bool> {
        let (flights, now) = (Flights::<u8, ()>::new(), Instant::now());
        let first = flights.join(&0, wanted.floor, now, None, || true)?;
        if closed {
            first.flight.close();
        }
        if departed {
            first.flight.depart();
        }
        let joined = flights.join(&0, self.floor, now, None, || true)?;
        Arc::ptr_eq(&joined.flight, &first.flight).then_some(joined.entitled)
    }
}

impl Client {
    /// One that has written nothing, and perhaps asks for monotonic reads.
    #[must_use]
    pub fn new(monotonic: bool) -> Self {
        Self { monotonic, state: State::default() }
    }

    /// Whether it asks for monotonic reads.
    #[must_use]
    pub fn is_monotonic(&self) -> bool {
        self.monotonic
    }

    fn session(&self) -> Session {
        Session::resume(self.monotonic, self.state.clone())
    }

    fn keep(&mut self, session: &Session) {
        self.state = session.state();
    }

    /// What it demands of a read on an instance that knows this much.
    ///
    /// # Errors
    ///
    /// The read cannot be answered.
    pub fn demand(&self, knowledge: &Knowledge) -> Result<Demand, Trouble> {
        let lineage = knowledge.span.map(|(lineage, ..)| Lineage::from_number(lineage));
        let own = self.session().floor(&knowledge.history(), lineage, None);
        match own.standing {
            Standing::Floor(_) => {}
            Standing::Ahead => return Err(Trouble::Ahead),
            Standing::Lost | Standing::Unproven => return Err(Trouble::Lost),
        }
        let floor = Floor {
            tag: own.tag,
            vouched: own.vouched,
            seen_on_primary: own.seen_on_primary,
            seen_on_standby: own.seen_on_standby,
            bound: None,
            latest: own.primary_only,
            monotonic: self.monotonic,
        };
        Ok(Demand { history: knowledge.fingerprint(), floor, seen: own.seen })
    }

    /// It was told of a commit at this position, which the log vouches for that tokens call so, if one does.
    pub fn raise(&mut self, knowledge: &Knowledge, at: (u32, u64), lineage: Option<u64>) {
        let session = self.session();
        session.raise(&knowledge.history(), position(at), lineage.map(Lineage::from_number));
        self.keep(&session);
    }

    /// A write of it has an unknown outcome.
    pub fn begin_unresolved(&mut self) {
        let session = self.session();
        session.begin_unresolved(CLUSTER);
        self.keep(&session);
    }

    /// The write is over, and this position was read after that.
    pub fn end_unresolved(&mut self, knowledge: &Knowledge, at: (u32, u64)) {
        let session = self.session();
        session.end_unresolved(&knowledge.history(), position(at));
        self.keep(&session);
    }

    /// It was handed the token of another.
    pub fn observe(&mut self, other: &Self) {
        let session = self.session();
        session.observe(&other.session().token());
        self.keep(&session);
    }

    /// It was shown a fill by a read that demanded this.
    pub fn saw(&mut self, knowledge: &Knowledge, fill: &Fill, demand: &Demand) {
        let session = self.session();
        session.saw(&knowledge.history(), &fill.stamp(), fill.fill, &demand.seen);
        self.keep(&session);
    }

    /// It accepts what was lost.
    pub fn accept_loss(&mut self, knowledge: &Knowledge) {
        let session = self.session();
        session.accept_loss(&knowledge.history());
        self.keep(&session);
    }
}
