//! highwater

mod bytes;
mod digest;
mod entry;
mod error;
mod history;
pub mod ledger;
mod lsn;
pub mod memory;
mod position;
pub mod source;
pub mod tier;
mod token;

pub use digest::{Digest, KEY_BYTES_MAX};
pub use entry::{Origin, Stamp};
pub use error::Error;
pub use history::{History, Switch};
pub use lsn::{Lsn, ParseLsnError};
pub use position::{Position, Timeline, WalLayout};
pub use token::Token;
