//! The log of retractions, and what one instance makes of what it hears, in every order of things: who writes may die at any
//! step, calls and messages may be lost, Redis may be led back to an older copy and forth again, announcements run out, the
//! primary crashes and uses its positions again.
//!
//! Reads and servers are left out: `docs/testing.md` says why that is enough. The log, the order of messages, epochs, tokens and
//! the Answer rule are the crate's own; what the owner of an epoch does with what it is told is said again here.

mod model;
mod reader;
mod state;
mod variants;
mod writes;
