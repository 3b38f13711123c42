//! highwater

#[cfg(feature = "testkit")]
pub mod testkit;
