//! highwater

mod digest;
mod entry;
mod error;
mod history;
pub mod ledger;
mod lsn;
mod position;
pub mod source;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod tier;
mod token;

pub use digest::{Digest, KEY_BYTES_MAX};
pub use entry::{Origin, Stamp};
pub use error::Error;
pub use history::{History, Switch};
pub use lsn::{Lsn, ParseLsnError};
pub use position::{Position, Timeline, WalLayout};
pub use source::postgres::{Postgres, PostgresBuilder, PostgresNode, QueryError, Routed, Writer};
pub use token::Token;
