//! The encrypted form: AES-256-GCM-SIV.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | 3 |
//! | 1 | key |
//! | 12 | nonce |
//! | | encrypted: time of issue and body |
//! | 16 | tag |
//!
//! Many instances draw nonces at random under one key. Should two be the same, by chance or because a machine was cloned
//! with its random state, this cipher tells whether two tokens are equal, and nothing else; others would give the key to
//! sign away. It also leaves 12 bytes more of the 72 than one with nonces too long to collide.

use super::key::Key;
use aes_gcm_siv::aead::AeadInOut;

pub(crate) const SEALED: u8 = 3;

const HEAD_BYTES: usize = 2;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// What surrounds the encrypted bytes.
pub(crate) const AROUND_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;

/// An encrypted token.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    nonce: &'a [u8; NONCE_BYTES],
    sealed: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

impl<'a> Parts<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        let (nonce, rest) = bytes.get(HEAD_BYTES..)?.split_first_chunk()?;
        let (sealed, tag) = rest.split_last_chunk()?;
        Some(Self { nonce, sealed, tag })
    }
}

pub(crate) fn seal(key: &Key, plain: &[u8], audience: Option<&[u8]>, nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    let encrypted =
        key.sealing.encrypt_inout_detached(&nonce.into(), &beside(key, audience), sealed.as_mut_slice().into());
    #[expect(clippy::expect_used, reason = "it fails only for more than 2^36 bytes")]
    let tag = encrypted.expect("a token has a few dozen bytes");
    [&[SEALED, key.id()], &nonce[..], &sealed, &tag[..]].concat()
}

/// What was encrypted; `None` where anything of it or of the audience is not what it was.
pub(crate) fn unseal(key: &Key, parts: &Parts<'_>, audience: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut plain = parts.sealed.to_vec();
    let (nonce, tag) = ((*parts.nonce).into(), (*parts.tag).into());
    let beside = beside(key, audience);
    let opened = key.sealing.decrypt_inout_detached(&nonce, &beside, plain.as_mut_slice().into(), &tag);
    opened.is_ok().then_some(plain)
}

/// What is not encrypted and must not be changed.
fn beside(key: &Key, audience: Option<&[u8]>) -> Vec<u8> {
    [&[SEALED, key.id(), u8::from(audience.is_some())], audience.unwrap_or_default()].concat()
}
