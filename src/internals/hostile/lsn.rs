//! A position as a server or a client wrote it.

use super::{Outcome, Target};
use crate::{Lsn, WalLayout};

pub(super) const TARGET: Target = Target {
    name: "lsn",
    read: |bytes| Box::new(|| drop(std::str::from_utf8(bytes).map(str::parse::<Lsn>))),
    check,
    bytes_max: 17,
    outcomes: &["an LSN", "none", "no text"],
};

fn check(bytes: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text" };
    let parsed = text.parse::<Lsn>().ok();
    assert_eq!(parsed.map(Lsn::offset), by_hand(bytes));
    let Some(lsn) = parsed else { return "none" };
    let (plain, padded) = (lsn.to_string(), format!("{lsn:#}"));
    assert_eq!((plain.parse(), padded.parse()), (Ok(lsn), Ok(lsn)));
    assert!(text.len() > plain.len() || text.eq_ignore_ascii_case(&plain), "it is printed in its shortest form");
    for layout in [Some(WalLayout::DEFAULT), WalLayout::new(1 << 10, 1 << 20), WalLayout::new(1 << 16, 1 << 30)] {
        let Some(layout) = layout else { panic!("these are layouts") };
        let page_start = layout.normalize(lsn);
        assert!(page_start <= lsn && lsn.bytes_ahead_of(page_start) <= 40);
        assert_eq!(layout.normalize(page_start), page_start);
        assert!(layout.normalize(lsn.just_below()) <= page_start);
    }
    "an LSN"
}

/// The same by another way: digit by digit.
fn by_hand(bytes: &[u8]) -> Option<u64> {
    let mut halves = bytes.split(|byte| *byte == b'/');
    let (high, low) = (halves.next()?, halves.next()?);
    if halves.next().is_some() || !(1..=8).contains(&high.len()) || !(1..=8).contains(&low.len()) {
        return None;
    }
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u64, |sum, digit| Some(sum * 16 + u64::from(char::from(*digit).to_digit(16)?)))
    };
    Some(number(high)? << 32 | number(low)?)
}
