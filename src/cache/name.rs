//! The names of one key: what it is called in every place that knows it.

use crate::Error;
use crate::digest::{Digest, canonical};
use serde::Serialize;

/// The names of one key.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    /// Its identity on every instance, kept inside each envelope.
    pub(crate) canonical: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Name {
    pub(crate) fn of<K: Serialize>(cache: &str, key: &K) -> Result<Self, Error> {
        let canonical = canonical(cache, key)?;
        Ok(Self { digest: Digest::of_key(&canonical), canonical })
    }
}
