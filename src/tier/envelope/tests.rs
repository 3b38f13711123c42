use super::*;
use proptest::prelude::*;

const KEY: &[u8] = b"\0\x05users\x07";

fn lies() -> Expected<'static> {
    Expected { history: 9, key: KEY, type_fingerprint: 77 }
}

fn contents(payload: Option<&[u8]>) -> Contents<'_> {
    let stamp = Stamp {
        timeline: Timeline(3),
        tag: Lsn::new(1 << 60),
        origin: Origin::Standby,
        upper: Some(Lsn::new((1 << 60) + 5)),
    };
    let groups = vec![Digest::of_group("team:7"), Digest::of_cache("users")];
    Contents { stamp, filled_unix_ms: 1_000, expires_unix_ms: 61_000, groups, payload }
}

fn sealed() -> Vec<u8> {
    seal(&contents(Some(b"value")), &lies(), &Limits::default()).unwrap()
}

fn opened(bytes: &[u8]) -> Result<Contents<'_>, Unusable> {
    open(bytes, &lies(), &Limits::default())
}

#[test]
fn the_first_bytes_are_part_of_the_format() {
    let hex: String = sealed().iter().take(HEADER_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let header = "48574501010100000000000310000000000000001000000000000005";
    let rest = "00000000000003e8000000000000ee48000000000000004d0008000200000005";
    assert_eq!(hex, format!("{header}{rest}"));
    assert_eq!(marker(Position::new(3, Lsn::new(258))), b"HWE\x01\x03\0\0\0\0\0\0\x03\0\0\0\0\0\0\x01\x02");
}

#[test]
fn the_script_has_the_same_numbers() {
    let rule = include_str!("../rule.lua");
    let has = |line: String| assert!(rule.contains(&line), "{line}");
    has(format!("local COMPARED_BYTES = {COMPARED_BYTES}\n"));
    has(format!("local ENTRY_BYTES_MIN = {}\n", HEADER_BYTES + SEAL_BYTES));
    has(format!("local MAGIC = '{}\\{VERSION}'\n", std::str::from_utf8(&MAGIC).unwrap()));
    has(format!("local MARKER = {MARKER}\n"));
    has(format!("local HAS_UPPER = {HAS_UPPER}\n"));
    has(format!("local FLAGS_MAX = {}\n", HAS_UPPER | ON_PRIMARY));
}

#[test]
fn every_mismatch_has_its_reason() {
    let bytes = sealed();
    let with = |change: &dyn Fn(&mut Expected<'static>)| {
        let mut lies = lies();
        change(&mut lies);
        open(&bytes, &lies, &Limits::default()).unwrap_err()
    };
    assert_eq!(with(&|lies| lies.key = b"other"), Unusable::OtherKey);
    assert_eq!(with(&|lies| lies.type_fingerprint = 1), Unusable::OtherType);
    assert_eq!(with(&|lies| lies.history = 1), Unusable::Damaged);
    let position = Position::new(3, Lsn::new(9));
    assert_eq!(opened(&marker(position)), Err(Unusable::Marker(position)));
    assert_eq!(opened(b""), Err(Unusable::Malformed));
    assert_eq!(opened(b"HWE\x02"), Err(Unusable::OtherVersion));
    assert_eq!(opened(&vec![0; 2 << 20]), Err(Unusable::TooLong));
}

#[test]
fn what_is_too_big_is_not_sealed() {
    let limits = Limits { payload_bytes_max: 4 };
    assert_eq!(seal(&contents(Some(b"value")), &lies(), &limits), Err(Unsealable::PayloadTooLong(5)));
    let groups = vec![Digest::of_group("g"); GROUPS_MAX + 1];
    let many = Contents { groups, ..contents(None) };
    assert_eq!(seal(&many, &lies(), &Limits::default()), Err(Unsealable::TooManyGroups(65)));
    let long = Expected { key: &[0; 5_000], ..lies() };
    assert_eq!(seal(&contents(None), &long, &Limits::default()), Err(Unsealable::KeyTooLong(5_000)));
}

#[test]
fn lengths_that_lie_are_malformed() {
    for (offset, claimed) in [(52, 2), (54, 2), (56, 4)] {
        let mut bytes = sealed();
        bytes[offset..offset + claimed].fill(0xFF);
        assert_eq!(opened(&bytes), Err(Unusable::Malformed), "length at {offset}");
    }
}

#[test]
fn markers_and_entries_take_each_others_place_by_the_rule() {
    let entry = |timeline: u32, tag: u64, upper: Option<u64>| {
        let stamp = Stamp {
            timeline: Timeline(timeline),
            tag: Lsn::new(tag),
            upper: upper.map(Lsn::new),
            ..contents(None).stamp
        };
        seal(&Contents { stamp, ..contents(None) }, &lies(), &Limits::default()).unwrap()
    };
    let mark = |lsn: u64| marker(Position::new(1, Lsn::new(lsn)));
    assert!(replaces(&entry(1, 5, None), &entry(1, 6, None)));
    assert!(replaces(&entry(1, 5, None), &entry(1, 5, Some(9))));
    assert!(!replaces(&entry(1, 5, None), &entry(1, 5, None)));
    assert!(replaces(&mark(5), &entry(1, 5, None)) && !replaces(&mark(5), &entry(1, 4, Some(9))));
    assert!(replaces(&entry(1, 4, None), &mark(5)) && !replaces(&entry(1, 5, None), &mark(5)));
    assert!(replaces(&mark(4), &mark(5)) && !replaces(&mark(5), &mark(5)));
    assert!(replaces(&entry(1, 500, None), &entry(2, 5, None)), "another timeline cannot answer here");
    assert!(replaces(b"poison", &entry(1, 0, None)) && !replaces(&entry(1, 0, None), b"poison"));
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        payload in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        (timeline, tag, upper, primary) in (any::<u32>(), any::<u64>(), any::<Option<u64>>(), any::<bool>()),
        (filled, expires, history, fingerprint) in (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()),
        groups in proptest::collection::vec(any::<[u8; 16]>(), 0..GROUPS_MAX),
        key in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let origin = if primary { Origin::Primary } else { Origin::Standby };
        let upper = upper.map(Lsn::new);
        let stamp = Stamp { timeline: Timeline(timeline), tag: Lsn::new(tag), origin, upper };
        let groups = groups.into_iter().map(Digest::from_bytes).collect();
        let payload = payload.as_deref();
        let whole = Contents { stamp, filled_unix_ms: filled, expires_unix_ms: expires, groups, payload };
        let lies = Expected { history, key: &key, type_fingerprint: fingerprint };
        let bytes = seal(&whole, &lies, &Limits::default()).unwrap();
        prop_assert_eq!(open(&bytes, &lies, &Limits::default()), Ok(whole));
    }

    #[test]
    fn no_truncation_or_flipped_bit_opens(cut in any::<prop::sample::Index>(), bit in 0..8u8) {
        let bytes = sealed();
        let at = cut.index(bytes.len());
        prop_assert!(opened(&bytes[..at]).is_err());
        let mut flipped = bytes;
        flipped[at] ^= 1 << bit;
        prop_assert!(opened(&flipped).is_err());
    }

    #[test]
    fn random_bytes_open_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..400), like in any::<bool>()) {
        let mut bytes = bytes;
        if like {
            bytes.splice(0..4.min(bytes.len()), *b"HWE\x01");
        }
        prop_assert!(opened(&bytes).is_err());
        replaces(&bytes, &sealed());
        replaces(&sealed(), &bytes);
    }
}
