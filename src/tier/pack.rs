//! How entries of one cache become envelopes, and back.

use super::codec::Codec;
use super::envelope::{Contents, Expected, Limits, Unusable, open, seal};
use crate::Stamp;
use crate::digest::Digest;
use crate::entry::{Entry, Life};
use serde::Serialize;
use serde::de::DeserializeOwned;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::marker::PhantomData;
use std::sync::Arc;

/// How entries of one cache become envelopes, and back. An object, so that only caches that share ask their values to be
/// serializable.
pub(crate) trait Packer<V>: Send + Sync {
    /// The envelope of an entry, or why there is none.
    fn seal(&self, key: &[u8], entry: &Entry<V>, groups: &[Digest]) -> Result<Vec<u8>, Unfit>;

    /// What an envelope holds. A retraction marker holds nothing, and that is no fault.
    fn open(&self, envelope: &[u8], key: &[u8], history: u64) -> Result<Option<Unpacked<V>>, Unusable>;
}

/// What an envelope held.
pub(crate) struct Unpacked<V> {
    pub(crate) value: Option<Arc<V>>,
    pub(crate) stamp: Stamp,
    pub(crate) life: Life,
    pub(crate) groups: Vec<Digest>,
}

/// An entry that cannot be shared: the codec cannot write it, or it is larger than the shared tier takes.
#[derive(Debug)]
pub(crate) struct Unfit;

/// Packs values of one type with one codec.
pub(crate) struct Packing<V, C> {
    codec: C,
    fingerprint: u64,
    limits: Limits,
    value: PhantomData<fn() -> V>,
}

impl<V, C: Codec> Packing<V, C> {
    /// `schema` is the application's own number for the shape of the type: what was stored under another is a miss.
    pub(crate) fn new(codec: C, schema: u32, limits: Limits) -> Self {
        let mut hasher = SipHasher13::new();
        for part in [C::NAME, std::any::type_name::<V>()] {
            hasher.write(&(part.len() as u64).to_be_bytes());
            hasher.write(part.as_bytes());
        }
        hasher.write(&schema.to_be_bytes());
        Self { codec, fingerprint: hasher.finish(), limits, value: PhantomData }
    }

    #[cfg(feature = "internals")]
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl<V: Serialize + DeserializeOwned, C: Codec> Packer<V> for Packing<V, C> {
    fn seal(&self, key: &[u8], entry: &Entry<V>, groups: &[Digest]) -> Result<Vec<u8>, Unfit> {
        let encoded = entry.value.as_deref().map(|value| self.codec.encode(value)).transpose();
        let payload = encoded.map_err(|_| Unfit)?;
        let contents = Contents {
            stamp: entry.stamp,
            filled_unix_ms: entry.life.filled_ms,
            expires_unix_ms: entry.life.expires_ms,
            groups: groups.to_vec(),
            payload: payload.as_deref(),
        };
        let lies = Expected { history: entry.history, key, type_fingerprint: self.fingerprint };
        seal(&contents, &lies, &self.limits).map_err(|_| Unfit)
    }

    fn open(&self, envelope: &[u8], key: &[u8], history: u64) -> Result<Option<Unpacked<V>>, Unusable> {
        let lies = Expected { history, key, type_fingerprint: self.fingerprint };
        let contents = match open(envelope, &lies, &self.limits) {
            Ok(contents) => contents,
            Err(Unusable::Marker(_)) => return Ok(None),
            Err(unusable) => return Err(unusable),
        };
        let value = contents.payload.map(|payload| self.codec.decode(payload)).transpose();
        let value = value.map_err(|_| Unusable::Malformed)?;
        let life = Life { filled_ms: contents.filled_unix_ms, expires_ms: contents.expires_unix_ms };
        Ok(Some(Unpacked { value: value.map(Arc::new), stamp: contents.stamp, life, groups: contents.groups }))
    }
}
