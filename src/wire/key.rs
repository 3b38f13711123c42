//! One secret, and what is derived from it.

use crate::Error;
#[cfg(feature = "opaque")]
use aes_gcm_siv::Aes256GcmSiv;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Bytes of a signature: HMAC-SHA256, truncated.
pub(crate) const MAC_BYTES: usize = 16;

/// The fewest bytes of a secret.
const SECRET_BYTES_MIN: usize = 32;

/// What each derived key is for: none is ever used for two things.
const FOR_SIGNING: &[u8] = b"highwater token 1: signing";
#[cfg(feature = "opaque")]
const FOR_SEALING: &[u8] = b"highwater token 1: sealing";

/// A secret that tokens are signed and sealed with, and the number that tokens name it by.
#[derive(Clone)]
pub struct Key {
    id: u8,
    /// Keyed once: what is left to do for a token is to hash it.
    signing: Hmac<Sha256>,
    #[cfg(feature = "opaque")]
    pub(crate) sealing: Aes256GcmSiv,
}

impl Key {
    /// The key number `id`, from a secret of at least 32 random bytes that all instances share.
    ///
    /// # Errors
    ///
    /// A secret of fewer bytes.
    pub fn new(id: u8, secret: &[u8]) -> Result<Self, Error> {
        if secret.len() < SECRET_BYTES_MIN {
            let text = format!("the secret of key {id} has {} bytes; it needs {SECRET_BYTES_MIN}", secret.len());
            return Err(Error::configuration(text));
        }
        let derive = |purpose: &[u8]| keyed(secret).chain_update(purpose).finalize().into_bytes();
        Ok(Self {
            id,
            signing: keyed(&derive(FOR_SIGNING)),
            #[cfg(feature = "opaque")]
            sealing: KeyInit::new(&derive(FOR_SEALING)),
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    pub(crate) fn sign(&self, bytes: &[u8], audience: Option<&[u8]>) -> [u8; MAC_BYTES] {
        let whole = self.mac(bytes, audience).finalize().into_bytes();
        whole.first_chunk().copied().unwrap_or_default()
    }

    /// In constant time, as far as the signature goes.
    pub(crate) fn verify(&self, bytes: &[u8], audience: Option<&[u8]>, signature: &[u8; MAC_BYTES]) -> bool {
        self.mac(bytes, audience).verify_truncated_left(signature).is_ok()
    }

    fn mac(&self, bytes: &[u8], audience: Option<&[u8]>) -> Hmac<Sha256> {
        // The length keeps the two apart. No token has more than 192 bytes.
        let mac = self.signing.clone().chain_update([bytes.len() as u8]).chain_update(bytes);
        match audience {
            Some(audience) => mac.chain_update([1]).chain_update(audience),
            None => mac.chain_update([0]),
        }
    }
}

/// HMAC takes keys of any length.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "the type says that this may fail, and HMAC is defined for every length")]
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}
