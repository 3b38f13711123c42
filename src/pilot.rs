//! Who drives a load: the reader who began it while nobody else needs it, and a task of its own from then on.

use futures_util::future::BoxFuture;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// A load, to be driven to its end.
pub(crate) type Load = BoxFuture<'static, ()>;

/// Who drives a load. A task for each would be simpler, and costs every lone reader two switches between tasks, which is
/// most of what a fill adds to its query. But only a task goes on when a reader is dropped or is not polled any more.
#[derive(Default)]
pub(crate) struct Pilot(Mutex<Seat>);

#[derive(Default)]
enum Seat {
    /// The reader has the load in hand: it is about to drive it, or just does, or it is over.
    #[default]
    Reader,
    /// The reader left it here until its next poll.
    Waiting(Load, Waker),
    /// The load is a task's.
    Relieved,
}

impl Pilot {
    fn lock(&self) -> MutexGuard<'_, Seat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the load from its reader, because somebody else needs it. What is returned must become a task; the reader
    /// does the same with what it has in hand.
    #[must_use]
    pub(crate) fn relieve(&self) -> Option<Load> {
        let seat = std::mem::replace(&mut *self.lock(), Seat::Relieved);
        let Seat::Waiting(load, reader) = seat else { return None };
        // From now on the reader waits like everybody else.
        reader.wake();
        Some(load)
    }

    /// Takes up the load where the reader left it, if it is still the reader's.
    fn take_up(&self) -> Option<Load> {
        let mut seat = self.lock();
        match std::mem::take(&mut *seat) {
            Seat::Waiting(load, _) => Some(load),
            other => {
                *seat = other;
                None
            }
        }
    }
}

/// The reader in the seat. Dropped, it hands the load over.
pub(crate) struct Reader<'a, F: Fn(Load)> {
    pilot: &'a Pilot,
    /// Not begun yet.
    fresh: Option<Load>,
    hand_over: F,
}

impl<'a, F: Fn(Load)> Reader<'a, F> {
    /// Seats the reader who began the load. `hand_over` makes a task of it.
    pub(crate) fn of(pilot: &'a Pilot, load: Load, hand_over: F) -> Self {
        Self { pilot, fresh: Some(load), hand_over }
    }

    /// Drives the load one step, and tells whether it is still the reader's to drive.
    pub(crate) fn step(&mut self, context: &mut Context<'_>) -> bool {
        let Some(mut load) = self.fresh.take().or_else(|| self.pilot.take_up()) else { return false };
        // Not under the lock: the load runs the application's code.
        if load.as_mut().poll(context).is_ready() {
            return false;
        }
        let mut seat = self.pilot.lock();
        if matches!(*seat, Seat::Relieved) {
            drop(seat);
            (self.hand_over)(load);
            return false;
        }
        *seat = Seat::Waiting(load, context.waker().clone());
        true
    }
}

impl<F: Fn(Load)> Drop for Reader<'_, F> {
    fn drop(&mut self) {
        if let Some(load) = self.fresh.take().or_else(|| self.pilot.relieve()) {
            (self.hand_over)(load);
        }
    }
}
