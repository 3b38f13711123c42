//! Tokens outside the process: a short signed text that a client carries to any instance, and what becomes of those that
//! come back.
//!
//! A [`Keyring`] signs tokens and opens them, purely: time and chance are handed in. A [`Gate`] does it for a service: it
//! puts a token that came in into a [`Session`](crate::Session), by a [`Policy`] for those that cannot be used, counts
//! what came, and writes down what a session holds when it leaves. The feature `http` has the middleware that calls it.
//!
//! ```
//! use highwater::Session;
//! use highwater::wire::{Gate, Key, Keyring, Outcome};
//!
//! # fn main() -> Result<(), highwater::Error> {
//! let keyring = Keyring::new(Key::new(1, b"at least thirty-two random bytes, kept secret")?);
//! let gate = Gate::builder(keyring).build();
//!
//! let session = Session::new();
//! let outcome = gate.take_in(&session, b"nonsense", None);
//! assert_eq!(outcome, Outcome::Malformed); // counted, and then as if there had been no token
//! assert!(session.token().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Token`](crate::Token) also has a serde form, for the payloads of jobs and messages: the same bytes without a
//! signature. The [guide](crate::_docs::tokens) has the format, the policies, the threats and how keys are changed.

mod body;
mod gate;
mod job;
mod key;
pub(crate) mod keyring;
mod plain;
mod policy;
#[cfg(feature = "opaque")]
pub(crate) mod sealed;
pub(crate) mod text;

pub use gate::{Gate, GateBuilder};
pub use job::{JobToken, Patience, Turn};
pub use key::Key;
pub use keyring::{Context, KEYS_MAX, Keyring, Opened, Unusable};
pub use policy::{Outcome, Policy, Treatment, WireStats};
pub use text::TEXT_BYTES_MAX;

#[cfg(test)]
mod tests;
