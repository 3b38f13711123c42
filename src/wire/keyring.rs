//! Signing tokens, and opening what claims to be one.

use super::key::{Key, MAC_BYTES};
#[cfg(feature = "opaque")]
use super::sealed;
use super::{body, text};
use crate::{Error, Token};
use std::fmt;
use std::time::Duration;

/// The most keys that one keyring holds.
pub const KEYS_MAX: usize = 16;

/// Numbers of the forms: each names one layout for ever. 3 is the encrypted one, `sealed.rs`.
pub(crate) const PLAIN: u8 = 1;
pub(crate) const SIGNED: u8 = 2;

/// No form will have this number or a higher one: what begins with it is not of a later release, but nonsense.
const NO_FORM: u8 = 16;

/// Form, key, time of issue and signature: what a signed token has around its body.
const SIGNED_BYTES: usize = 6 + MAC_BYTES;

/// How long a token lives unless told otherwise.
const LIFE: Duration = Duration::from_secs(24 * 3600);
const LIFE_MIN: Duration = Duration::from_secs(60);
const LIFE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Keys that tokens are opened with, and the one that new tokens are signed with. It does no I/O and asks no clock.
#[derive(Clone, Debug)]
pub struct Keyring {
    /// The first one signs.
    keys: Vec<Key>,
    life_s: u32,
    /// Encrypt instead of sign.
    #[cfg(feature = "opaque")]
    opaque: bool,
}

/// What surrounds a token that is written or opened.
#[derive(Clone, Copy, Default)]
pub struct Context<'a> {
    /// Whom the token is for, such as a tenant's or a login session's id. It is mixed into the signature and not carried:
    /// only who names the same audience can open the token.
    pub audience: Option<&'a [u8]>,
    /// Seconds since the Unix epoch.
    pub now_unix_s: u64,
}

impl fmt::Debug for Context<'_> {
    /// Without the audience, which may be a login session's id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { audience, now_unix_s } = self;
        f.debug_struct("Context").field("has_audience", &audience.is_some()).field("now_unix_s", now_unix_s).finish()
    }
}

/// A token that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The token.
    pub token: Token,
    /// When it was written, in seconds since the Unix epoch.
    pub issued_unix_s: u64,
}

/// Why a text is not a token that can be used. None of these says anything about what the text contains.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It is ours, and older than tokens live.
    #[error("the token has expired")]
    Expired,
    /// It names a key that this keyring does not hold: newer, older, or made up.
    #[error("the token names a key that is not known here")]
    UnknownKey,
    /// It is of a form that this release does not know, or that was compiled out.
    #[error("the token is of an unknown form")]
    UnknownForm,
    /// The signature does not fit, or there is none: made up, changed, or for another audience.
    #[error("the token's signature does not fit")]
    Forged,
    /// It is no token at all.
    #[error("this is not a token")]
    Malformed,
}

impl Keyring {
    /// A keyring of one key, which signs and opens.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            keys: vec![key],
            life_s: LIFE.as_secs() as u32,
            #[cfg(feature = "opaque")]
            opaque: false,
        }
    }

    /// The same keyring, which also opens what was signed with `key`.
    ///
    /// # Errors
    ///
    /// A key of that number is there already, or [`KEYS_MAX`] are.
    pub fn also_opens(mut self, key: Key) -> Result<Self, Error> {
        if self.key(key.id()).is_some() {
            return Err(Error::configuration(format!("the keyring holds a key {} already", key.id())));
        }
        if self.keys.len() == KEYS_MAX {
            return Err(Error::configuration(format!("a keyring holds at most {KEYS_MAX} keys")));
        }
        self.keys.push(key);
        Ok(self)
    }

    /// How long a token lives after it was written. It must be longer than a replica may lag while it serves and an entry
    /// lives, together. Between a minute and a year; defaults to a day.
    #[must_use]
    pub fn life(mut self, life: Duration) -> Self {
        self.life_s = life.clamp(LIFE_MIN, LIFE_MAX).as_secs() as u32;
        self
    }

    /// How long a token lives.
    #[must_use]
    pub fn token_life(&self) -> Duration {
        Duration::from_secs(self.life_s.into())
    }

    /// Encrypts tokens from now on, so that who carries one cannot read how much was written. Signed ones are still
    /// opened.
    #[cfg(feature = "opaque")]
    #[must_use]
    pub fn opaque(mut self) -> Self {
        self.opaque = true;
        self
    }

    /// The text of `token`: at most 96 bytes for one that names one cluster and no keys, else at most
    /// [`TEXT_BYTES_MAX`](super::TEXT_BYTES_MAX), of `A-Z a-z 0-9 - _`. Where more is to be said than fits, keys are no longer told from
    /// others, then clusters that are not in `own` are left out, and the token says that some were.
    ///
    /// `chance` must be unpredictable and new each time where tokens are [opaque](Self::opaque), and is not used otherwise.
    #[must_use]
    pub fn write(&self, token: &Token, own: &[u64], context: &Context<'_>, chance: [u8; 12]) -> String {
        // There is always one.
        let Some(key) = self.keys.first() else { return String::new() };
        let issued = u32::try_from(context.now_unix_s).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = Vec::with_capacity(text::BYTES_MAX);
        #[cfg(feature = "opaque")]
        if self.opaque {
            let room = |all: usize| all - sealed::AROUND_BYTES - issued.len();
            bytes.extend_from_slice(&issued);
            body::write(token, own, room(text::BYTES_MAX_ONE), room(text::BYTES_MAX), &mut bytes);
            return text::write(&sealed::seal(key, &bytes, context.audience, chance));
        }
        let _ = chance;
        let room = |all: usize| all - SIGNED_BYTES;
        bytes.extend_from_slice(&[SIGNED, key.id()]);
        bytes.extend_from_slice(&issued);
        body::write(token, own, room(text::BYTES_MAX_ONE), room(text::BYTES_MAX), &mut bytes);
        let signature = key.sign(&bytes, context.audience);
        bytes.extend_from_slice(&signature);
        text::write(&bytes)
    }

    /// Opens a text, whoever made it: in bounded time and memory, and without a panic.
    ///
    /// # Errors
    ///
    /// Why it cannot be used. Only [`Unusable::Expired`] says that it was once written with a key of ours.
    pub fn open(&self, text: &[u8], context: &Context<'_>) -> Result<Opened, Unusable> {
        let decoded = text::Decoded::read(text).ok_or(Unusable::Malformed)?;
        let bytes = decoded.bytes();
        let [form, id, ..] = *bytes else { return Err(Unusable::Malformed) };
        match form {
            SIGNED => {
                let (signed, signature) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(Unusable::Malformed)?;
                let dated = signed.get(2..).ok_or(Unusable::Malformed)?;
                let key = self.key(id).ok_or(Unusable::UnknownKey)?;
                if !key.verify(signed, context.audience, signature) {
                    return Err(Unusable::Forged);
                }
                self.judge(dated, context)
            }
            #[cfg(feature = "opaque")]
            sealed::SEALED => {
                let parts = sealed::Parts::of(bytes).ok_or(Unusable::Malformed)?;
                let key = self.key(id).ok_or(Unusable::UnknownKey)?;
                let dated = sealed::unseal(key, &parts, context.audience).ok_or(Unusable::Forged)?;
                self.judge(&dated, context)
            }
            PLAIN => Err(Unusable::Forged),
            0 | NO_FORM.. => Err(Unusable::Malformed),
            _ => Err(Unusable::UnknownForm),
        }
    }

    /// The token in a time of issue and a body whose signature was found to fit.
    fn judge(&self, dated: &[u8], context: &Context<'_>) -> Result<Opened, Unusable> {
        let (issued, body) = dated.split_first_chunk().ok_or(Unusable::UnknownForm)?;
        let issued_unix_s = u64::from(u32::from_be_bytes(*issued));
        // Either way: a clock that was far ahead must not make a token that lives for years.
        if issued_unix_s.abs_diff(context.now_unix_s) > self.life_s.into() {
            return Err(Unusable::Expired);
        }
        // It was written with our key, so by a release that knows more than this one.
        let token = body::read(body).ok_or(Unusable::UnknownForm)?;
        Ok(Opened { token, issued_unix_s })
    }

    fn key(&self, id: u8) -> Option<&Key> {
        self.keys.iter().find(|key| key.id() == id)
    }
}
