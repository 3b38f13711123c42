//! The rules for tags, answers and retractions in every order of things, to a stated bound: two sessions, two keys, a
//! primary with a standby, a Redis that may fall back to an older copy, a bus that loses messages, crashes and a promotion.
//!
//! The rules themselves are the crate's own functions; the model only says what happens around them. With a rule broken,
//! the model must find out: see `variants`.
//!
//! `HIGHWATER_MODEL_WRITES` allows more writes than the default bounds, for which the normal tests have no time.
#![cfg(feature = "internals")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

#[cfg(feature = "mutants")]
mod log;
mod model;
mod reads;
mod servers;
mod state;
mod variants;
mod writes;
