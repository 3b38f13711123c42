//! What one read asks for.

use crate::Token;
use std::time::Duration;
use tokio::time::Instant;

/// How fresh the answer to one read must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Freshness {
    /// At least everything that the session wrote, and for monotonic sessions everything that it saw. The default.
    #[default]
    Session,
    /// Besides, at least everything up to this token, such as one that came with a message.
    AtLeast(Token),
    /// Besides, everything that was committed longer ago than this. Judged by tags alone, so that it also holds for
    /// writers that do not use this library.
    Within(Duration),
    /// Asked of the primary now; no tier answers.
    Latest,
    /// Whatever is at hand, even below the session's own writes.
    Any,
}

/// What happens when no replica reaches the floor within the wait budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Ask the primary, behind the concurrency budget. The default.
    #[default]
    Primary,
    /// Answer with the best that is at hand, labelled stale.
    Stale,
    /// Fail with an error for which [`is_not_fresh`](crate::Error::is_not_fresh) holds.
    Error,
}

/// What one read asks for; the default is what [`Cache::get`](crate::Cache::get) uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// How fresh the answer must be. Defaults to the session's own writes.
    pub freshness: Freshness,
    /// What to do when no replica is fresh enough in time. Defaults to asking the primary.
    pub fallback: Fallback,
    /// When the caller stops waiting. Defaults to [`Settings::load_time_max`](crate::Settings::load_time_max) from the
    /// start of the read.
    pub deadline: Option<Instant>,
}

impl ReadOptions {
    /// Options that ask for this freshness.
    #[must_use]
    pub fn fresh(freshness: Freshness) -> Self {
        Self { freshness, ..Self::default() }
    }

    /// The same with this fallback.
    #[must_use]
    pub fn or_else(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// The same with this deadline.
    #[must_use]
    pub fn by(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }
}
