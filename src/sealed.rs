//! What keeps an edge's trait to this crate.

/// Implemented for the adapters that there are.
#[expect(unnameable_types, reason = "nobody else is to implement it")]
pub trait Sealed {}
