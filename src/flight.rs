//! Joining loads: one load that several readers wait for.

use crate::entry::Floor;
use crate::pilot::{Load, Pilot, Reader};
use crate::rules::{Rule, holds};
use crate::watched::Watched;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::time::Instant;

/// One load that several readers wait for. `L` is how it ends.
pub(crate) struct Flight<L> {
    plan: Mutex<Plan>,
    landing: Watched<Option<L>>,
    pilot: Pilot,
}

/// What a flight was asked for, and how far it has come.
#[derive(Debug, Clone, Copy)]
struct Plan {
    floor: Floor,
    deadline: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The floor still rises with every reader that joins.
    Boarding,
    /// The floor is fixed; no statement was sent.
    Closed,
    /// A statement may have been sent: who joins now may have written after its snapshot was taken.
    Departed,
}

/// How a reader came to a flight.
pub(crate) struct Joined<L> {
    pub(crate) flight: Arc<Flight<L>>,
    /// The reader's floor was part of what the load was asked for, and the reader began before its statement was sent:
    /// the answer is the reader's own, whatever its tag. All others judge it by the Answer rule.
    pub(crate) entitled: bool,
    /// The reader must set the flight going.
    pub(crate) leads: bool,
    /// The load of the flight under way, which another reader drove while it was alone. It must become a task.
    pub(crate) relieved: Option<Load>,
}

/// The flights of one key: the one under way, and one queued for all who came too late for it.
struct Lane<L> {
    current: Arc<Flight<L>>,
    next: Option<Arc<Flight<L>>>,
}

/// All flights of one cache. Bounded by the store's limit on loads.
pub(crate) struct Flights<K, L> {
    lanes: Mutex<HashMap<K, Lane<L>>>,
}

impl<K: Eq + Hash + Clone, L: Clone> Flights<K, L> {
    pub(crate) fn new() -> Self {
        Self { lanes: Mutex::new(HashMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Lane<L>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a flight for `key` that will answer a read with `floor`, or begins one where `may_begin` allows it. Never
    /// the flight `spent`, which landed without being of use to this reader: until its pilot has taken it away it is
    /// still there, and would land the same way again.
    pub(crate) fn join(
        &self,
        key: &K,
        floor: Floor,
        deadline: Instant,
        spent: Option<&Arc<Flight<L>>>,
        may_begin: impl FnOnce() -> bool,
    ) -> Option<Joined<L>> {
        let mut lanes = self.lock();
        match lanes.entry(key.clone()) {
            Slot::Vacant(vacant) => {
                let flight = may_begin().then(|| Flight::new(floor, deadline))?;
                vacant.insert(Lane { current: Arc::clone(&flight), next: None });
                Some(Joined { flight, entitled: true, leads: true, relieved: None })
            }
            Slot::Occupied(mut lane) => {
                let lane = lane.get_mut();
                let relieved = lane.current.pilot.relieve();
                let spent = spent.is_some_and(|spent| Arc::ptr_eq(spent, &lane.current));
                if !spent && let Some(entitled) = lane.current.board(floor, deadline) {
                    return Some(Joined { flight: Arc::clone(&lane.current), entitled, leads: false, relieved });
                }
                let next = lane.next.get_or_insert_with(|| Flight::new(floor, deadline));
                // A queued flight has not begun, so it takes everybody.
                next.board(floor, deadline);
                Some(Joined { flight: Arc::clone(next), entitled: true, leads: false, relieved })
            }
        }
    }

    /// Ends the current flight of `key` and returns the queued one, which the caller must set going.
    pub(crate) fn end(&self, key: &K) -> Option<Arc<Flight<L>>> {
        let mut lanes = self.lock();
        let next = lanes.get_mut(key).and_then(|lane| {
            let next = lane.next.take()?;
            lane.current = Arc::clone(&next);
            Some(next)
        });
        if next.is_none() {
            lanes.remove(key);
        }
        next
    }

    /// How many keys are loading.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().len()
    }
}

impl<L: Clone> Flight<L> {
    fn new(floor: Floor, deadline: Instant) -> Arc<Self> {
        let plan = Plan { floor, deadline, stage: Stage::Boarding };
        Arc::new(Self { plan: Mutex::new(plan), landing: Watched::new(None), pilot: Pilot::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a reader on board, and tells whether the answer will be its own; `None` where the flight is of no use to it.
    fn board(&self, floor: Floor, deadline: Instant) -> Option<bool> {
        let mut plan = self.lock();
        if plan.stage == Stage::Boarding {
            plan.floor = if holds(Rule::FlightCoversAll) { plan.floor.join(floor) } else { plan.floor };
            plan.deadline = plan.deadline.max(deadline);
            return Some(true);
        }
        let entitled = plan.stage < Stage::Departed || !holds(Rule::BoardedInTime);
        // Who asks for the latest is never served by tag, so a departed flight is of no use to it.
        (floor.is_within(plan.floor) && (entitled || !floor.latest)).then_some(entitled)
    }

    /// Fixes the floor, and returns it with the deadline.
    pub(crate) fn close(&self) -> (Floor, Instant) {
        let mut plan = self.lock();
        plan.stage = plan.stage.max(Stage::Closed);
        (plan.floor, plan.deadline)
    }

    /// Whether the load had to reach more than this floor: it may have failed where one for less would not.
    pub(crate) fn wanted_more_than(&self, floor: Floor) -> bool {
        !self.lock().floor.is_within(floor)
    }

    /// A statement is about to be sent.
    pub(crate) fn depart(&self) {
        self.lock().stage = Stage::Departed;
    }

    /// Ends the flight if `answers` holds for everything that was asked for so far; nobody can join in between.
    pub(crate) fn land_if(&self, answers: impl FnOnce(&Floor) -> bool, landing: L) -> bool {
        let mut plan = self.lock();
        if !answers(&plan.floor) {
            return false;
        }
        plan.stage = Stage::Departed;
        self.landing.change(|landed| *landed = Some(landing));
        true
    }

    pub(crate) fn land(&self, landing: L) {
        self.depart();
        self.landing.change(|landed| *landed = Some(landing));
    }

    /// Drives the load of this flight, until `hand_over` has made a task of it, and tells how the flight ended. May be
    /// dropped at any await; the flight goes on in a task.
    pub(crate) async fn drive(&self, load: Load, hand_over: impl Fn(Load)) -> L {
        let mut reader = Reader::of(&self.pilot, load, hand_over);
        let mut landed = pin!(self.landed());
        poll_fn(|context| {
            // Who drives alone has nobody to be woken by: waiting would only wake the reader once more when it is done.
            if reader.step(context) && self.landing.now().is_none() {
                return Poll::Pending;
            }
            landed.as_mut().poll(context)
        })
        .await
    }

    /// How it ended. May be dropped at any await; the flight goes on.
    pub(crate) async fn landed(&self) -> L {
        self.landing.wait_for(Clone::clone).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lsn;
    use std::time::Duration;

    fn floor(tag: u64) -> Floor {
        Floor { tag: Lsn::new(tag), ..Floor::default() }
    }

    fn join(flights: &Flights<u8, u32>, tag: u64) -> Joined<u32> {
        flights.join(&1, floor(tag), Instant::now() + Duration::from_secs(1), None, || true).unwrap()
    }

    #[tokio::test]
    async fn who_comes_before_departure_is_entitled_and_raises_the_floor() {
        let flights = Flights::new();
        let first = join(&flights, 5);
        let second = join(&flights, 9);
        assert!(first.leads && !second.leads && second.entitled);
        assert_eq!(first.flight.close().0, floor(9));
        first.flight.depart();
        first.flight.land(7);
        assert_eq!(second.flight.landed().await, 7);
        assert!(flights.end(&1).is_none());
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn at_equal_floors_a_late_reader_is_not_entitled() {
        // protocol.md 3: the load may have read before the late reader's write was visible.
        let flights = Flights::new();
        let first = join(&flights, 33);
        first.flight.close();
        assert!(join(&flights, 33).entitled, "no statement was sent yet");
        first.flight.depart();
        let late = join(&flights, 33);
        assert!(Arc::ptr_eq(&late.flight, &first.flight) && !late.entitled);
        assert!(late.flight.wanted_more_than(floor(32)) && !late.flight.wanted_more_than(floor(33)));
    }

    #[tokio::test]
    async fn all_who_need_more_share_one_queued_flight() {
        let flights = Flights::new();
        let first = join(&flights, 5);
        first.flight.close();
        let (second, third) = (join(&flights, 6), join(&flights, 8));
        assert!(Arc::ptr_eq(&second.flight, &third.flight) && !Arc::ptr_eq(&second.flight, &first.flight));
        assert!(!second.leads && second.entitled && third.entitled);
        let next = flights.end(&1).unwrap();
        assert!(Arc::ptr_eq(&next, &third.flight));
        assert_eq!(next.close().0, floor(8));
    }

    #[test]
    fn nobody_joins_again_what_was_of_no_use_to_them() {
        let flights = Flights::new();
        let first = join(&flights, 5);
        first.flight.close();
        first.flight.depart();
        let late = join(&flights, 5);
        first.flight.land(7);
        // The pilot has not come to `end` yet.
        let deadline = Instant::now();
        let again = flights.join(&1, floor(5), deadline, Some(&late.flight), || true).unwrap();
        assert!(!Arc::ptr_eq(&again.flight, &late.flight) && again.entitled && !again.leads);
        assert!(Arc::ptr_eq(&flights.end(&1).unwrap(), &again.flight));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_low_for_somebody_on_board_does_not_land() {
        let flights = Flights::new();
        let first = join(&flights, 5);
        let high = join(&flights, 9);
        assert!(!first.flight.land_if(|asked| asked.tag <= Lsn::new(6), 1));
        assert!(first.flight.land_if(|asked| asked.tag <= Lsn::new(9), 2));
        assert_eq!(high.flight.landed().await, 2);
    }

    #[test]
    fn where_nothing_may_begin_nothing_does() {
        let flights: Flights<u8, u32> = Flights::new();
        let deadline = Instant::now();
        assert!(flights.join(&1, floor(1), deadline, None, || false).is_none());
        assert_eq!(flights.len(), 0);
    }
}
