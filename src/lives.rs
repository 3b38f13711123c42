//! What must outlive entries.

use crate::source::Source;
use crate::{Highwater, trace};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest life of an entry, as caches were built by now.
type EntryLife = Box<dyn Fn() -> Duration + Send + Sync>;

/// Warns once where tokens are kept no longer than the entries of these stores live.
#[derive(Default)]
pub(crate) struct Lives {
    entries: Vec<EntryLife>,
    has_warned: AtomicBool,
}

impl Lives {
    pub(crate) fn watch<S: Source>(&mut self, store: &Highwater<S>) {
        let store = store.clone();
        self.entries.push(Box::new(move || store.entry_life_max()));
    }

    /// Caches may be built at any time, so this is asked whenever a token is put where it will be forgotten.
    pub(crate) fn compare(&self, kept_by: &'static str, tokens: Duration) {
        let entries = self.entries.iter().map(|life| life()).max().unwrap_or_default();
        if tokens <= entries && !self.has_warned.swap(true, Ordering::Relaxed) {
            trace::token_life_short(kept_by, tokens, entries);
        }
    }
}
