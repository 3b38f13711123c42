//! Names of keys and groups that are equal on every instance.

use crate::error::Error;
use serde::Serialize;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::Hasher;

/// The most bytes that the canonical form of one key, or the name of a cache or group, may have.
pub const KEY_BYTES_MAX: usize = 1024;

/// Sixteen bytes that stand for a key of a cache, for a group, or for a user of the application, on every instance.
///
/// Made from canonical bytes, never from [`Hash`](std::hash::Hash), whose output differs between builds. A collision
/// costs a miss and nothing else: the full key lies inside each stored entry and is compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest with these bytes, as another instance made it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The digest of a key, from its canonical bytes.
    #[must_use]
    pub fn of_key(canonical: &[u8]) -> Self {
        Self::of(b'k', canonical)
    }

    /// The digest of a group, from its name.
    #[must_use]
    pub fn of_group(name: &str) -> Self {
        Self::of(b'g', name.as_bytes())
    }

    /// The digest of the group that every entry of one cache belongs to. No name that a user gives can collide with it.
    #[must_use]
    pub fn of_cache(name: &str) -> Self {
        Self::of(b'c', name.as_bytes())
    }

    /// The digest of a user of the application, from its canonical bytes. Two users of one digest share what their devices hold,
    /// which costs both hits and nothing else.
    #[must_use]
    pub fn of_user(canonical: &[u8]) -> Self {
        Self::of(b'u', canonical)
    }

    fn of(domain: u8, bytes: &[u8]) -> Self {
        // The keys are part of the format: every instance must compute the same digest.
        let mut hasher = SipHasher24::new_with_keys(0x6869_6768_7761_7465, 0x7220_6469_6765_7374);
        hasher.write_u8(domain);
        hasher.write(bytes);
        Self(hasher.finish128().as_u128().to_be_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The canonical bytes of `key` in the cache `cache`: the length of the name, the name, and the key in bincode's
/// standard form, which is self-delimiting for a given type. So no two keys of any two caches share their bytes.
pub(crate) fn canonical<K: Serialize>(cache: &str, key: &K) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(cache.len() + 18);
    bytes.extend_from_slice(&(cache.len() as u16).to_be_bytes());
    bytes.extend_from_slice(cache.as_bytes());
    let mut writer = KeyWriter { bytes, length: 0 };
    bincode::serde::encode_into_std_write(key, &mut writer, bincode::config::standard())
        .map_err(|cause| Error::key_unserializable(cache, cause))?;
    if writer.length > KEY_BYTES_MAX {
        return Err(Error::key_too_long(cache, writer.length));
    }
    Ok(writer.bytes)
}

/// Keeps what a key may have, and only counts what is written beyond.
struct KeyWriter {
    bytes: Vec<u8>,
    length: usize,
}

impl std::io::Write for KeyWriter {
    fn write(&mut self, written: &[u8]) -> std::io::Result<usize> {
        self.length += written.len();
        if self.length <= KEY_BYTES_MAX {
            self.bytes.extend_from_slice(written);
        }
        Ok(written.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digests_are_part_of_the_format() {
        assert_eq!(Digest::of_group("team:7").to_string(), "c3fdbb4d244ec881a2b79c92692e5385");
    }

    #[test]
    fn domains_do_not_meet() {
        assert_ne!(Digest::of_group("users"), Digest::of_cache("users"));
        assert_ne!(Digest::of_key(b"users"), Digest::of_cache("users"));
        assert_ne!(Digest::of_user(b"users"), Digest::of_key(b"users"));
    }

    #[test]
    fn a_long_key_is_refused_by_name() {
        let error = canonical("users", &"x".repeat(2_000)).unwrap_err();
        assert!(error.to_string().contains("users") && error.to_string().contains("2003 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn canonical_bytes_are_injective(a in ".{0,8}", b in ".{0,8}", c in ".{0,8}", d in ".{0,8}") {
            let one = canonical(&a, &(&b, &c)).unwrap();
            let other = canonical(&b, &(&a, &d)).unwrap();
            prop_assert_eq!(one == other, (&a, &c) == (&b, &d));
        }
    }
}
