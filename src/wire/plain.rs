//! The serde form of a token: the same bytes without a signature, for payloads that stay among one's own services.

use super::keyring::PLAIN;
use super::{body, text};
use crate::Token;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A text of at most [`TEXT_BYTES_MAX`](text::TEXT_BYTES_MAX) bytes, in every format. It is not signed: read it only from
/// where nobody else can write.
impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = vec![PLAIN];
        body::write(self, &[], text::BYTES_MAX_ONE - 1, text::BYTES_MAX - 1, &mut bytes);
        serializer.serialize_str(&text::write(&bytes))
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Token;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token without a signature")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Token, E> {
                let unusable = || E::custom("this is not a token that can be read here");
                let decoded = text::Decoded::read(text.as_bytes()).ok_or_else(unusable)?;
                match decoded.bytes() {
                    [PLAIN, body @ ..] => body::read(body).ok_or_else(unusable),
                    _ => Err(unusable()),
                }
            }
        }

        deserializer.deserialize_str(Text)
    }
}
