//! How values become bytes in the shared tier.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How values become bytes in the shared tier.
///
/// Bytes that are handed to [`decode`](Self::decode) carry an intact seal, but where no secret was configured, whoever
/// can write to the Redis server can make one. So a codec must return an error for any bytes, in bounded memory.
///
/// ```
/// use highwater::tier::{Codec, CodecError};
///
/// #[derive(Debug, Clone, Copy, Default)]
/// struct Json;
///
/// impl Codec for Json {
///     const NAME: &'static str = "json";
///
///     fn encode<V: serde::Serialize>(&self, value: &V) -> Result<Vec<u8>, CodecError> {
///         # fn to_vec<V: serde::Serialize>(_: &V) -> Result<Vec<u8>, std::fmt::Error> { Ok(Vec::new()) }
///         to_vec(value).map_err(CodecError::new) // serde_json::to_vec(value)
///     }
///
///     fn decode<V: serde::de::DeserializeOwned>(&self, bytes: &[u8]) -> Result<V, CodecError> {
///         # fn from_slice<V: serde::de::DeserializeOwned>(_: &[u8]) -> Result<V, std::fmt::Error> { Err(std::fmt::Error) }
///         from_slice(bytes).map_err(CodecError::new) // serde_json::from_slice(bytes)
///     }
/// }
/// ```
pub trait Codec: Send + Sync + 'static {
    /// Tells this codec's bytes from every other's: part of the fingerprint of a cache's type, so that bytes of another
    /// codec are a miss.
    const NAME: &'static str;

    /// The bytes of `value`.
    ///
    /// # Errors
    ///
    /// The value cannot be written; it is then not shared.
    fn encode<V: Serialize>(&self, value: &V) -> Result<Vec<u8>, CodecError>;

    /// The value that these bytes are, all of them.
    ///
    /// # Errors
    ///
    /// They are none; the entry is then a miss.
    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V, CodecError>;
}

/// A value that could not be written, or bytes that are no value.
#[derive(Debug, thiserror::Error)]
#[error("the codec failed")]
pub struct CodecError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl CodecError {
    /// The error of a codec.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// The default codec: bincode's standard form, of at most `BYTES_MAX` bytes (1 MiB by default) with each number and length
/// counted at its full width, since that is how the decoder counts. What is larger is not shared.
///
/// The limit is not only for size. A length in this format is part of the bytes, and without a limit nine of them make
/// the decoder allocate gigabytes.
///
/// What no limit bounds is the depth of a type that contains itself (a tree through `Box` or `Vec`): a long enough
/// payload of nothing but nesting overflows the stack, which ends the process. Give such values a codec that counts
/// depth, such as JSON, or do not share them. The same goes for sequences of values that take no bytes (`Vec<()>`),
/// whose claimed length costs time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bincode<const BYTES_MAX: usize = { 1 << 20 }>;

/// The full width of the widest number, which may have been written in one byte.
const WIDTH_MAX: usize = 16;

impl<const BYTES_MAX: usize> Codec for Bincode<BYTES_MAX> {
    const NAME: &'static str = "bincode 2 standard";

    fn encode<V: Serialize>(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(CodecError::new)?;
        let mut counted = bytes.len();
        if counted > BYTES_MAX / WIDTH_MAX {
            let wide = bincode::config::standard().with_fixed_int_encoding();
            counted =
                bincode::serde::encode_into_std_write(value, &mut std::io::sink(), wide).map_err(CodecError::new)?;
        }
        if counted > BYTES_MAX {
            return Err(CodecError::new(format!("the value counts {counted} bytes, and the limit is {BYTES_MAX}")));
        }
        Ok(bytes)
    }

    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V, CodecError> {
        let limited = bincode::config::standard().with_limit::<BYTES_MAX>();
        let (value, read) = bincode::serde::decode_from_slice(bytes, limited).map_err(CodecError::new)?;
        if read != bytes.len() {
            return Err(CodecError::new("bytes are left over"));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODEC: Bincode = Bincode;

    /// The length 2^35 in nine bytes.
    const BOMB: [u8; 9] = [253, 0, 0, 0, 0, 8, 0, 0, 0];

    #[test]
    fn nine_bytes_do_not_allocate_gigabytes() {
        assert!(CODEC.decode::<String>(&BOMB).is_err());
        assert!(CODEC.decode::<Vec<u8>>(&BOMB).is_err());
        assert!(CODEC.decode::<Vec<u64>>(&BOMB).is_err());
        assert!(CODEC.decode::<std::collections::HashMap<u64, String>>(&BOMB).is_err());
        assert!(CODEC.decode::<(u8, Option<String>)>(&[&[1, 1][..], &BOMB].concat()).is_err());
    }

    #[test]
    fn the_limit_holds_both_ways() {
        let small = Bincode::<16>;
        assert!(small.encode(&[1_u8; 8].as_slice()).is_ok());
        assert!(small.encode(&[1_u8; 9].as_slice()).is_err());
        assert!(small.decode::<String>(&CODEC.encode(&"123456789").unwrap()).is_err());
    }

    #[test]
    fn what_could_not_be_decoded_is_not_encoded() {
        let small = Bincode::<64>;
        for count in 0..64 {
            let numbers = vec![1_u64; count];
            if let Ok(bytes) = small.encode(&numbers) {
                assert_eq!(small.decode::<Vec<u64>>(&bytes).expect("it was encoded"), numbers);
            }
        }
        assert!(small.encode(&vec![1_u64; 7]).is_ok() && small.encode(&vec![1_u64; 8]).is_err());
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        assert!(CODEC.decode::<u8>(&[1, 2]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(value: (u64, String, Option<Vec<i32>>, Vec<String>)) {
            let bytes = CODEC.encode(&value).unwrap();
            prop_assert_eq!(CODEC.decode::<(u64, String, Option<Vec<i32>>, Vec<String>)>(&bytes).unwrap(), value);
        }

        #[test]
        fn what_is_encoded_at_the_limit_decodes(value: (Vec<u128>, Option<char>, Vec<Result<i16, bool>>, String, f32)) {
            if let Ok(bytes) = Bincode::<200>.encode(&value) {
                let decoded = Bincode::<200>.decode::<(Vec<u128>, Option<char>, Vec<Result<i16, bool>>, String, f32)>(&bytes);
                prop_assert_eq!(CODEC.encode(&decoded.unwrap()).unwrap(), bytes);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = CODEC.decode::<(u64, String, Option<Vec<i32>>, Vec<String>)>(&bytes);
        }
    }
}
