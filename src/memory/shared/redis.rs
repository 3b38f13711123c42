//! What the server holds, and what it does with a request.

use super::super::world::Timed;
use super::bus::Bus;
use super::edge::room;
use super::log::Log;
use crate::Digest;
use crate::devices::{Exchange, Exchanged, Record};
use crate::ledger::{Announcement, Beat, Lineage, Notice, Pulse, Retracted, Settlement};
use crate::rules::{Rule, holds};
use crate::tier::{Address, Offer, TierError, envelope};
use siphasher::sip::SipHasher13;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hasher;
use std::time::Duration;
use tokio::time::Instant;

/// What a server held at one moment, to be put back later.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    pub(super) slots: BTreeMap<Address, Slot>,
    /// The log lives and dies as a whole.
    pub(super) log: Option<Log>,
    pub(super) users: BTreeMap<Digest, Slot>,
    pub(super) era: Option<Era>,
}

/// A time in which the server lost nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Era {
    id: u64,
    begun: Instant,
    /// What it ends with.
    server: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) bytes: Vec<u8>,
    expires: Instant,
}

/// Something that arrives at the server at its time, whether or not anybody still waits for the answer.
type Request = Box<dyn FnOnce(&mut Redis) + Send>;

/// A server that was left behind at a failover and goes on, for clients that have not noticed.
pub(super) struct Old {
    pub(super) clients: BTreeSet<usize>,
    /// Its own, or those of the new server while it serves.
    contents: Copy,
    replication: u64,
    server: u64,
    serves: bool,
}

pub(super) struct Redis {
    now: Instant,
    seed: u64,
    logs: u64,
    /// Another one after each restart and each failover.
    pub(super) replication: u64,
    eras: u64,
    /// Another process or another copy, or one that had to evict.
    pub(super) server: u64,
    began: Instant,
    pub(super) up: bool,
    /// Raised when all connections break: a request of an older one does not arrive.
    pub(super) connections: u64,
    pub(super) frozen: bool,
    /// Writes are refused, as with `noeviction` and no memory left.
    pub(super) full: bool,
    pub(super) cut_off: BTreeSet<usize>,
    pub(super) contents: Copy,
    pub(super) old: Option<Old>,
    pub(super) bus: Bus,
    agenda: BTreeMap<(Instant, u64), (u64, Request)>,
    scheduled: u64,
}

/// As long as the adapter to the real server lets anything live.
const LIFE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("up", &self.up).field("contents", &self.contents).finish_non_exhaustive()
    }
}

impl Timed for Redis {
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let end = self.now;
        while let Some(entry) = self.agenda.first_entry().filter(|_| !self.frozen) {
            let at = entry.key().0;
            if at > end {
                break;
            }
            let (connections, request) = entry.remove();
            self.now = at;
            if self.up && connections == self.connections {
                request(self);
            }
        }
        self.now = end;
    }

    fn next(&self) -> Option<Instant> {
        let request = self.agenda.keys().next().map(|&(at, _)| at).filter(|_| !self.frozen);
        request.into_iter().chain(self.bus.next(self.now)).min()
    }
}

impl Redis {
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Self {
            now,
            seed,
            logs: 0,
            replication: 0,
            eras: 0,
            server: 0,
            began: now,
            up: true,
            connections: 0,
            frozen: false,
            full: false,
            cut_off: BTreeSet::new(),
            contents: Copy::default(),
            old: None,
            bus: Bus::default(),
            agenda: BTreeMap::new(),
            scheduled: 0,
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Sends a request off, to arrive after `delay`.
    pub(super) fn send(&mut self, delay: Duration, request: Request) {
        self.scheduled += 1;
        self.agenda.insert((self.now + delay, self.scheduled), (self.connections, request));
    }

    pub(super) fn break_connections(&mut self) {
        self.connections += 1;
        self.bus.end_all();
    }

    /// A replica that lacks nothing is promoted, and these clients do not notice.
    pub(super) fn split(&mut self, clients: BTreeSet<usize>) {
        self.unite();
        self.bus.end_of(|client| !clients.contains(&client));
        let (contents, replication, server) = (self.contents.clone(), self.replication, self.server);
        self.old = Some(Old { clients, contents, replication, server, serves: false });
        (self.replication, self.server) = (self.replication + 1, self.server + 1);
    }

    /// The old server is asked by these clients and no others. Nothing happens where there is none.
    pub(super) fn lead_back(&mut self, clients: BTreeSet<usize>) {
        if let Some(old) = &mut self.old {
            let moved: BTreeSet<usize> = old.clients.symmetric_difference(&clients).copied().collect();
            old.clients = clients;
            self.bus.end_of(|client| moved.contains(&client));
        }
    }

    /// The old server ends, and whoever was left with it goes to the new one.
    pub(super) fn unite(&mut self) {
        if let Some(old) = self.old.take() {
            self.bus.end_of(|client| old.clients.contains(&client));
        }
    }

    /// Carries out what a client asks, on the server that it takes for the right one.
    pub(super) fn serve<T>(&mut self, client: usize, run: impl FnOnce(&mut Self) -> T) -> T {
        let apart = self.old.as_ref().is_some_and(|old| old.clients.contains(&client));
        if apart {
            self.change_places();
        }
        let answer = run(self);
        if apart {
            self.change_places();
        }
        answer
    }

    fn change_places(&mut self) {
        if let Some(old) = &mut self.old {
            std::mem::swap(&mut self.contents, &mut old.contents);
            std::mem::swap(&mut self.replication, &mut old.replication);
            std::mem::swap(&mut self.server, &mut old.server);
            old.serves = !old.serves;
        }
    }

    /// Tells everybody who is subscribed at the server that serves.
    pub(super) fn publish(&mut self, message: &[u8]) {
        let (old, cut_off) = (&self.old, &self.cut_off);
        let hears = |client: usize| {
            let here = old.as_ref().is_none_or(|old| old.clients.contains(&client) == old.serves);
            here && !cut_off.contains(&client)
        };
        self.bus.publish(self.now, message, hears);
    }

    pub(super) fn fetch(&mut self, addresses: &[Address]) -> Vec<Option<Vec<u8>>> {
        addresses.iter().map(|address| self.slot(address).map(<[u8]>::to_vec)).collect()
    }

    pub(super) fn admit(&mut self, offers: Vec<Offer>) {
        for offer in offers {
            self.put(offer.address, offer.envelope, offer.life);
        }
    }

    pub(super) fn announce(&mut self, announcement: &Announcement) -> Option<Lineage> {
        let (now, replication) = (self.now, self.replication);
        let log = self.log();
        log.announce(announcement, now).then(|| log.lineage(replication))
    }

    pub(super) fn withdraw(&mut self, id: [u8; 16]) {
        self.log().withdraw(id);
    }

    /// Markers, the next sequence number, and the notice to everybody, in one step.
    pub(super) fn retract(&mut self, notice: &Notice, keep: Duration, settlement: Option<Settlement>) -> Retracted {
        for key in &notice.keys {
            let address = Address { history: notice.history, key: *key };
            self.put(address, envelope::marker(notice.position), keep);
        }
        let (now, replication) = (self.now, self.replication);
        let (retracted, message) = self.log().retract(replication, notice, settlement, now);
        self.publish(&message);
        retracted
    }

    pub(super) fn beat(&mut self, nonce: u64, pulse: Pulse) -> Beat {
        let (now, replication) = (self.now, self.replication);
        let (beat, message) = self.log().beat(replication, nonce, pulse, now);
        self.publish(&message);
        beat
    }

    pub(super) fn repair(&self, lineage: Lineage, after: u64) -> Option<Vec<Vec<u8>>> {
        self.contents.log.as_ref().and_then(|log| log.repair(self.replication, lineage, after))
    }

    /// Merges what comes in into a user's record, and tells what is there.
    pub(super) fn exchange(&mut self, user: Digest, exchange: &Exchange) -> Result<Exchanged, TierError> {
        let (era, is_new) = self.era(exchange.disbelieved);
        let now = self.now;
        if self.contents.users.get(&user).is_some_and(|slot| slot.expires <= now) {
            self.contents.users.remove(&user);
        }
        let stored = self.contents.users.get(&user).map(|slot| slot.bytes.clone());
        let record = if exchange.record.is_empty() {
            stored.unwrap_or_default()
        } else {
            room(self)?;
            let incoming = Record::decode(&exchange.record).ok_or_else(|| TierError::new("this is no record"))?;
            let bytes = Record::take_in(stored.as_deref(), &incoming, &exchange.from, era.id).encode();
            let expires = now + exchange.life.min(LIFE_MAX);
            self.contents.users.insert(user, Slot { bytes: bytes.clone(), expires });
            bytes
        };
        let begun_ms = era.begun.saturating_duration_since(self.began).as_millis() as u64;
        let is_old = now.saturating_duration_since(era.begun) >= exchange.life;
        Ok(Exchanged { era: era.id, begun_ms, is_old, is_new, record })
    }

    /// The present era, and whether it was begun by this.
    fn era(&mut self, disbelieved: Option<u64>) -> (Era, bool) {
        let is_usable = |era: &Era| era.server == self.server && Some(era.id) != disbelieved;
        if let Some(era) = self.contents.era.filter(is_usable) {
            return (era, false);
        }
        self.eras += 1;
        let id = self.id(0x6572_6173, self.eras).max(1);
        let era = Era { id, begun: self.now, server: self.server };
        self.contents.era = Some(era);
        (era, true)
    }

    /// A number that no other seed and no other thing of this one has.
    fn id(&self, kind: u64, number: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed, kind);
        hasher.write_u64(number);
        hasher.finish()
    }

    /// What lies at an address and has not expired.
    fn slot(&mut self, address: &Address) -> Option<&[u8]> {
        if self.contents.slots.get(address).is_some_and(|slot| slot.expires <= self.now) {
            self.contents.slots.remove(address);
        }
        self.contents.slots.get(address).map(|slot| slot.bytes.as_slice())
    }

    /// The Admit rule, on the bytes that the real server compares.
    fn put(&mut self, address: Address, bytes: Vec<u8>, life: Duration) {
        if envelope::replaces(self.slot(&address).unwrap_or_default(), &bytes) {
            let expires = self.now + life.min(LIFE_MAX);
            self.contents.slots.insert(address, Slot { bytes, expires });
        }
    }

    /// The log; a new one under a new id where there is none.
    fn log(&mut self) -> &mut Log {
        if self.contents.log.is_none() {
            self.logs += 1;
        }
        let id = self.id(0x006c_6f67, if holds(Rule::LogIsNamedAnew) { self.logs } else { 1 });
        self.contents.log.get_or_insert_with(|| Log::new(id))
    }
}
