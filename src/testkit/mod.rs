//! What tests need: histories and their checker.

pub mod history;
