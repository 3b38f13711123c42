//! Log sequence numbers, as PostgreSQL prints them.

use std::fmt;
use std::str::FromStr;

/// A byte offset in PostgreSQL's write-ahead log.
///
/// Printed as PostgreSQL up to 18 does (`0/4033BC8`); the alternate form `{:#}` pads the low half as PostgreSQL 19
/// does (`0/04033BC8`). Both forms parse.
///
/// An LSN alone is not a version: two timelines use the same numbers. Compare [`Position`](crate::Position)s through
/// the history that they belong to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// The start of the log: every entry is at least this new.
    pub const ZERO: Self = Self(0);
    /// Beyond every position of every log.
    pub const MAX: Self = Self(u64::MAX);

    /// The LSN at this byte offset.
    #[must_use]
    pub const fn new(offset: u64) -> Self {
        Self(offset)
    }

    /// The byte offset.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0
    }

    /// The LSN one byte below, or zero.
    ///
    /// On integers `tag - 1 >= token` says `tag > token`: this is how a primary fill carries the strict comparison
    /// that it needs (a commit is in the log before it is visible).
    #[must_use]
    pub const fn just_below(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many bytes `self` lies ahead of `other`; zero when it does not.
    #[must_use]
    pub const fn bytes_ahead_of(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = (self.0 >> 32, self.0 & 0xFFFF_FFFF);
        if f.alternate() { write!(f, "{high:X}/{low:08X}") } else { write!(f, "{high:X}/{low:X}") }
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is not an LSN.
///
/// The text itself is not repeated: it may come from a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an LSN: expected two hexadecimal numbers of 1 to 8 digits with a slash between them, such as 16/B374D848")]
pub struct ParseLsnError(());

impl FromStr for Lsn {
    type Err = ParseLsnError;

    /// Parses both halves as 32-bit numbers and nothing more: no sign, no blank, no ninth digit.
    ///
    /// `postgres-types` parses each half as a `u64`, so that `0/1FFFFFFFF` silently becomes `1/FFFFFFFF`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError(()))?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

fn half(digits: &str) -> Result<u32, ParseLsnError> {
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !plain {
        return Err(ParseLsnError(()));
    }
    u32::from_str_radix(digits, 16).map_err(|_| ParseLsnError(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_paddings_are_one_position() {
        let old: Lsn = "0/4033BC8".parse().unwrap();
        let new: Lsn = "0/04033BC8".parse().unwrap();
        assert_eq!(old, new);
        assert_eq!(old.to_string(), "0/4033BC8");
        assert_eq!(format!("{old:#}"), "0/04033BC8");
    }

    #[test]
    fn what_postgres_would_not_print_is_refused() {
        for text in [
            "",
            "/",
            "0",
            "0/",
            "/0",
            "0/1FFFFFFFF",
            "100000016/0",
            "+1/0",
            " 0/0",
            "0/0 ",
            "0/-1",
            "g/0",
            "0/0/0",
            "0x1/0",
        ] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?} was taken for an LSN");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(offset in any::<u64>()) {
            let lsn = Lsn::new(offset);
            prop_assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
            prop_assert_eq!(format!("{lsn:#}").parse::<Lsn>().unwrap(), lsn);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Lsn>();
        }
    }
}
