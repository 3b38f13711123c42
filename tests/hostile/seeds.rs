//! Inputs that are known to be worth feeding: every corpus begins with them.
//!
//! `HIGHWATER_PLANT_SEEDS=1` writes them; without it they must be there.

use super::*;
use highwater::internals::hostile::{AnyKey, KEY, TYPE, sealed};
use highwater::tier::{Bincode, Codec};

/// In bincode's form the length 2^35: without a limit a decoder would allocate 34 GB for it.
pub(crate) const BOMB: [u8; 9] = [253, 0, 0, 0, 0, 8, 0, 0, 0];

fn encoded<V: serde::Serialize>(value: &V) -> Vec<u8> {
    Bincode::<{ 1 << 20 }>.encode(value).unwrap_or_default()
}

/// An input of the target `envelope`: which type is expected, and the envelope.
pub(crate) fn envelope(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &sealed(KEY, TYPE, Some(payload))].concat()
}

/// The same with these bytes in place of those at an offset of the envelope.
fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut envelope = envelope(0, &encoded(&"Ada"));
    envelope.splice(1 + offset..1 + offset + bytes.len(), bytes.iter().copied());
    envelope
}

fn envelopes() -> Vec<(&'static str, Vec<u8>)> {
    let values = (7_u64, "Ada".to_owned(), Some(vec![-1, 1 << 30]), vec![String::new(), "x".to_owned()]);
    vec![
        ("text", envelope(0, &encoded(&"Ada"))),
        ("bytes", envelope(1, &encoded(&vec![1_u8, 2, 255]))),
        ("tuple", envelope(2, &encoded(&values))),
        ("map", envelope(3, &encoded(&[("a", 1_u64), ("b", 1 << 40)].as_slice()))),
        ("table", envelope(4, &encoded(&[(7_u32, Some('x')), (9, None)].as_slice()))),
        ("result", envelope(5, &encoded(&Ok::<_, [u16; 4]>((true, i128::MIN))))),
        ("absent", [&[0][..], &sealed(KEY, TYPE, None)].concat()),
        ("marker", b"\0HWE\x01\x03\0\0\0\0\0\0\x03\0\0\0\0\0\0\x01\x02".to_vec()),
        ("bomb-alone", [&[0][..], &BOMB].concat()),
        ("bomb-text", envelope(0, &BOMB)),
        ("bomb-bytes", envelope(1, &BOMB)),
        ("bomb-tuple", envelope(2, &[&[7, 0, 1][..], &BOMB].concat())),
        ("bomb-texts", envelope(2, &[&[7, 0, 0][..], &BOMB].concat())),
        ("bomb-map", envelope(3, &BOMB)),
        ("bomb-table", envelope(4, &BOMB)),
        ("other-version", with(3, &[2])),
        ("other-type", [&[0][..], &sealed(KEY, TYPE + 1, None)].concat()),
        ("other-key", [&[0][..], &sealed(b"\0\x05users\x08", TYPE, None)].concat()),
        ("length-of-key", with(52, &[255, 255])),
        ("length-of-groups", with(54, &[255, 255])),
        ("length-of-payload", with(56, &[255, 255, 255, 255])),
        ("damaged", with(20, &[9])),
    ]
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let frame = b"HWB\x01\x11\x22\x33\x44\x55\x66\x77\x88\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x01";
    let notice = b"\x01\0\0\0\0\0\0\0\x05\0\0\0\x02\0\x80\0\0\0\0\0\0";
    let message = |rest: &[u8]| [&frame[..], rest].concat();
    let retraction = |counts: &[u8], names: usize| [&frame[..], notice, counts, &vec![7; names * 16]].concat();
    vec![
        ("heartbeat", message(b"\x02\0\0\0\0\0\0\0\x03")),
        ("retraction", retraction(b"\0\x02\0\x01", 3)),
        ("retraction-of-nothing", retraction(b"\0\0\0\0", 0)),
        ("names-that-are-not-there", retraction(b"\xFF\xFF\xFF\xFF", 1)),
        ("other-version", b"HWB\x02".to_vec()),
        ("other-kind", message(b"\x03")),
        ("bomb", message(&[&[1][..], &BOMB].concat())),
    ]
}

fn scripts() -> Vec<(&'static str, Vec<u8>)> {
    // 2 goes on to when something is due, 3 subscribes, 8 retracts, 9 beats, 10 delivers, 12 delivers once more.
    let live = [2, 3, 9, 10, 0];
    let after = |rest: &[u8]| [&live[..], rest].concat();
    vec![
        ("never", vec![2, 4, 2, 4]),
        ("live", live.to_vec()),
        ("in-order", after(&[8, 10, 0, 8, 10, 0, 2, 9, 10, 0])),
        ("lost", after(&[8, 13, 0, 8, 10, 0])),
        ("lost-and-no-other", after(&[8, 13, 0, 2, 9, 10, 0])),
        ("overtaken", after(&[8, 8, 10, 1, 10, 0])),
        ("doubled", after(&[8, 12, 0, 10, 0])),
        ("silent", after(&[0, 150, 0, 150])),
        ("ended", after(&[5, 2, 3, 9, 10, 0])),
        ("log-lost", after(&[8, 10, 0, 14, 8, 10, 0])),
        ("generation", after(&[15, 7, 8, 10, 0])),
    ]
}

fn keys() -> Vec<(&'static str, Vec<u8>)> {
    let named = |cache: &str, key: &AnyKey| [&[cache.len() as u8], cache.as_bytes(), &encoded(key)].concat();
    let pair = |one: (&str, AnyKey), other: (&str, AnyKey)| {
        let (one, other) = (named(one.0, &one.1), named(other.0, &other.1));
        // The least share that gives the first half its length.
        let share = (0..=255_u8).find(|share| (one.len() + other.len()) * usize::from(*share) / 256 == one.len());
        share.map(|share| [&[share][..], &one, &other].concat()).unwrap_or_default()
    };
    let texts = |a: &str, b: &str| AnyKey::Texts(a.to_owned(), b.to_owned());
    let nested = |a, b| AnyKey::Nested(Box::new(a), Box::new(b));
    vec![
        ("none", b"\x80\x05users".to_vec()),
        ("one-id-twice", pair(("users", AnyKey::Id(7)), ("users", AnyKey::Id(7)))),
        ("joined-strings", pair(("users", texts("a:b", "c")), ("users", texts("a", "b:c")))),
        ("name-and-key", pair(("user", AnyKey::Text("s7".into())), ("users", AnyKey::Text("7".into())))),
        ("widths", pair(("n", AnyKey::Id(250)), ("n", AnyKey::Signed(-125)))),
        (
            "composites",
            pair(
                ("c", AnyKey::Composite { tenant: 1, id: Some(-2), path: vec![3, 4] }),
                ("c", AnyKey::Composite { tenant: 1, id: None, path: vec![] }),
            ),
        ),
        ("options", pair(("o", AnyKey::Maybe(Some(None))), ("o", AnyKey::Maybe(None)))),
        (
            "nested",
            pair(
                ("t", nested(AnyKey::Unit, nested(AnyKey::Unit, AnyKey::Unit))),
                ("t", nested(nested(AnyKey::Unit, AnyKey::Unit), AnyKey::Unit)),
            ),
        ),
        ("bomb", [&[0, 0, 5][..], &BOMB].concat()),
        ("long", pair(("l", AnyKey::Text("x".repeat(1_100))), ("l", AnyKey::Text("y".repeat(1_100))))),
        ("longest", pair(("l", AnyKey::Text("x".repeat(1_020))), ("l", AnyKey::Text("y".repeat(1_020))))),
    ]
}

fn lsns() -> Vec<(&'static str, Vec<u8>)> {
    let texts = ["0/0", "16/B374D848", "0/04033BC8", "FFFFFFFF/FFFFFFFF", "0/D002018", "0/D000028"];
    let others = ["0/1FFFFFFFF", "+1/0", "0/0/0", "/", "0x1/0", "16/b374d848"];
    let names = [
        "zero",
        "usual",
        "padded",
        "last",
        "page-header",
        "segment-header",
        "nine-digits",
        "sign",
        "three",
        "empty",
        "prefix",
        "small-letters",
    ];
    let mut lsns: Vec<_> =
        names.into_iter().zip(texts.into_iter().chain(others).map(|text| text.as_bytes().to_vec())).collect();
    lsns.push(("bomb", BOMB.to_vec()));
    lsns
}

#[test]
fn the_known_seeds_are_in_the_corpora() -> Result {
    let plant = std::env::var_os("HIGHWATER_PLANT_SEEDS").is_some();
    for target in &TARGETS {
        let seeds = match target.name {
            "envelope" => envelopes(),
            "bus" => messages(),
            "hearing" => scripts(),
            "key" => keys(),
            _ => lsns(),
        };
        std::fs::create_dir_all(folder(target))?;
        for (name, input) in seeds {
            let path = folder(target).join(name);
            assert!(!input.is_empty(), "{}/{name} could not be made", target.name);
            if plant {
                std::fs::write(&path, &input)?;
            }
            assert_eq!(std::fs::read(&path).ok(), Some(input), "{}", path.display());
        }
    }
    Ok(())
}
