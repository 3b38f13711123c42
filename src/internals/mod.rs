//! What tests outside of the crate need of its inside. Absent from normal builds, and no part of the public interface.

pub mod hostile;
pub mod log;
pub mod rules;
