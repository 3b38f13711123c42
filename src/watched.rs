//! A value that tasks wait for.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// A value that tasks wait for, woken in the order in which they began to wait.
///
/// `tokio::sync::watch` does the same, but spreads its waiters over shards by chance, so that a simulation of one seed
/// would run in many ways.
#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    state: RwLock<Versioned<T>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Versioned<T> {
    value: T,
    version: u64,
}

/// Remembers up to which change its owner knows the value.
#[derive(Debug)]
pub(crate) struct Watcher<'a, T> {
    watched: &'a Watched<T>,
    version: u64,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { state: RwLock::new(Versioned { value, version: 0 }), changed: Notify::new() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Versioned<T>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the value. The lock is held meanwhile: nothing must be waited for.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.read().value)
    }

    /// Changes the value and wakes everybody who waits for it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.value);
        state.version += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Knows the value as it is now.
    pub(crate) fn subscribe(&self) -> Watcher<'_, T> {
        Watcher { watched: self, version: self.read().version }
    }

    /// Waits until `found` finds what it looks for. May be dropped at any await.
    pub(crate) async fn wait_for<R>(&self, mut found: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            // Nothing that happens from here on is missed: a notification wakes all that were made before it.
            if let Some(found) = self.look(&mut found) {
                return found;
            }
            changed.await;
        }
    }
}

impl<T> Watcher<'_, T> {
    /// Waits until the value was changed since it was last known. May be dropped at any await.
    pub(crate) async fn changed(&mut self) {
        loop {
            let changed = self.watched.changed.notified();
            let version = self.watched.read().version;
            if version != self.version {
                self.version = version;
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn no_change_is_missed() {
        let watched = Arc::new(Watched::new(0));
        let mut watcher = watched.subscribe();
        watched.change(|value| *value += 1);
        watcher.changed().await;
        let waiting = tokio::spawn({
            let watched = Arc::clone(&watched);
            async move { watched.wait_for(|value| (*value >= 3).then_some(*value)).await }
        });
        for _ in 0..2 {
            tokio::task::yield_now().await;
            watched.change(|value| *value += 1);
        }
        assert_eq!(waiting.await.unwrap(), 3);
        assert_eq!(watched.look(|value| *value), 3);
    }
}
