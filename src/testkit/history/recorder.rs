//! A history that many tasks write to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::History;

/// A handle on one shared history, cheap to clone.
///
/// Take the time before recording a beginning and after the end that is being recorded; then an event that lies before
/// another in the history really was.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
}

impl Recorder {
    /// A recorder of an empty history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records, under the lock. `record` must not wait for anything.
    pub fn record<T>(&self, record: impl FnOnce(&mut History) -> T) -> T {
        record(&mut self.lock())
    }

    /// The history so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        // A task that panicked while recording left at worst one operation unfinished, which is a history too.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
