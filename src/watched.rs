//! A value that tasks wait for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A value that tasks wait for. Unlike `tokio::sync::watch`, which deals its waiters out to queues by chance, it wakes them
/// in the order in which they came, so that a simulation can be repeated.
#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    /// The value as it is now. The guard must not be held across an await.
    pub(crate) fn now(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value and wakes all who wait.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.now());
        self.changed.notify_waiters();
    }

    /// Waits until `ready` finds what it looks for. May be dropped at any await.
    pub(crate) async fn wait_for<R>(&self, mut ready: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(found) = ready(&self.now()) {
                return found;
            }
            changed.await;
        }
    }
}
