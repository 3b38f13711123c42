//! Something that changes with time, under one lock.

use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What a [`World`] holds: nothing runs in the background, so whoever looks at it first lets everything happen that is
/// due by then, in order. With paused time that cannot be told from servers that run by themselves.
pub(super) trait Timed {
    /// Lets everything happen that is due by `now`.
    fn advance(&mut self, now: Instant);

    /// When something will happen next, after what was advanced to.
    fn next(&self) -> Option<Instant>;
}

pub(super) struct World<S> {
    state: Mutex<S>,
    changed: Notify,
}

impl<S: Timed> World<S> {
    pub(super) fn new(state: S) -> Self {
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Looks at the state as it is now.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(Instant::now());
        look(&mut state)
    }

    /// Changes the state, with all that follows at once, and wakes whoever waits for something.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let result = self.look(|state| {
            let result = change(state);
            state.advance(Instant::now());
            result
        });
        self.changed.notify_waiters();
        result
    }

    /// Waits until `ready` finds what it looks for. Dropped, it has changed nothing but what `ready` did.
    pub(super) async fn wait<T>(&self, mut ready: impl FnMut(&mut S) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let (found, next) = self.look(|state| (ready(state), state.next()));
            match (found, next) {
                (Some(found), _) => return found,
                (None, Some(next)) => drop(timeout_at(next, changed).await),
                (None, None) => changed.await,
            }
        }
    }
}

impl<S> fmt::Debug for World<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}
