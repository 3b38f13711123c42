//! The rules for tags, answers and retractions in every order of things, to a stated bound: two sessions, two keys, a
//! primary with a standby, a Redis that may fall back to an older copy, a bus that loses messages, crashes and a promotion.
//!
//! The rules themselves are the crate's own functions; the model only says what happens around them. With a rule broken,
//! the model must find out: see `variants`.
//!
//! `HIGHWATER_MODEL_WRITES` allows more writes than the default bounds, for which the normal tests have no time.
#![cfg(feature = "internals")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

/// Writes beyond the default bounds.
fn more() -> usize {
    std::env::var("HIGHWATER_MODEL_WRITES").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A test for each of these bounds: the promise holds within it.
macro_rules! holds {
    ($($name:ident: $bounds:expr,)*) => {$(
        #[test]
        fn $name() {
            let bounds = Bounds { writes: $bounds.writes + crate::more(), ..$bounds };
            if let Some(problem) = bounds.explore(stringify!($name)) {
                panic!("{problem}");
            }
        }
    )*};
}

#[cfg(feature = "mutants")]
mod log;
mod model;
mod reads;
mod servers;
mod state;
mod variants;
mod writes;
