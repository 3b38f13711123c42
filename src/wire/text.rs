//! Bytes as URL-safe text, within the limits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest text of a token. Whatever is longer is refused unread.
pub const TEXT_BYTES_MAX: usize = 256;

/// The longest text of a token that names one cluster and no keys.
pub(crate) const TEXT_BYTES_MAX_ONE: usize = 96;

/// The most bytes that such texts stand for.
pub(crate) const BYTES_MAX: usize = TEXT_BYTES_MAX / 4 * 3;
pub(crate) const BYTES_MAX_ONE: usize = TEXT_BYTES_MAX_ONE / 4 * 3;

/// The bytes of a text, on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl Decoded {
    /// `None` for what is too long or no URL-safe base64 without padding; each byte string has one text only.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; BYTES_MAX];
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        Some(Self { bytes, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

pub(crate) fn write(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
