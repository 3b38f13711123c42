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
    let frame = b"HWB\x02\0\0\x33\x44\x55\x66\x77\x88\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x07";
    let notice = b"\x01\0\0\0\0\0\0\0\x05\0\0\0\x02\0\x80\0\0\0\0\0\0";
    let message = |rest: &[u8]| [&frame[..], rest].concat();
    let retraction = |counts: &[u8], names: usize| [&frame[..], notice, counts, &vec![7; names * 16]].concat();
    vec![
        ("heartbeat", message(b"\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x03")),
        ("retraction", retraction(b"\0\x02\0\x01", 3)),
        ("retraction-of-nothing", retraction(b"\0\0\0\0", 0)),
        ("names-that-are-not-there", retraction(b"\xFF\xFF\xFF\xFF", 1)),
        ("other-version", b"HWB\x01".to_vec()),
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

/// An input of the target `token`: what it is taken for, and the bytes.
fn token(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}

fn tokens() -> Vec<(&'static str, Vec<u8>)> {
    const CLUSTER: &[u8] = b"\x65\x4e\xcf\x52\xac\x5a\0\x01";
    // Issued at 1,790,000,000; one position on timeline 1.
    let dated = |body: &[u8]| [b"\x6a\xb1\x3b\x80", body].concat();
    let one = dated(&[b"\0", CLUSTER, b"\x01\x01\0\xc8\xf7\x8c\x20"].concat());
    let cluster = |number: u8, rest: &[u8]| [&[0, 0, 0, 0, 0, 0, 0, number], rest].concat();
    let many = |rest: &[u8]| dated(&[b"\0", &(1..=14).flat_map(|n| cluster(n, rest)).collect::<Vec<_>>()[..]].concat());
    vec![
        ("signed", token(0, b"AgFqsTuAAGVOz1KsWgABAQEAyPeMIFCsZebvjOiv81nruNgieBA")),
        ("another-audience", token(0, b"AgFqsTuAAGVOz1KsWgABAQEAyPeMICe7d8-vObuMEKZurwoEwXY")),
        ("another-key", token(0, b"AgJqsTuAAGVOz1KsWgABAgMAtKSA-KUFBAGQgICAsAVN0VLREN_riRErVD1FRpS3")),
        ("sealed", token(0, b"AwF0d2VsdmUgYnl0ZXPUsr0Rmj1yCGaDDnM_ufOLZGGaOxgqBT63jJtxnxMe7rlOR3c")),
        ("plain-for-signed", token(0, b"AQBlTs9SrFoAAQEBAMj3jCA")),
        ("plain", token(1, b"AQBlTs9SrFoAAQEBAMj3jCA")),
        ("signed-for-plain", token(1, b"AgFqsTuAAGVOz1KsWgABAQEAyPeMIFCsZebvjOiv81nruNgieBA")),
        ("other-form", token(0, b"CQECAw")),
        ("no-form", token(0, b"nonsense")),
        ("body", token(2, &one)),
        ("body-encrypted", token(3, &one)),
        ("expired", token(2, &[&[0; 4], one.get(4..).unwrap_or_default()].concat())),
        ("extension", token(2, &dated(&[b"\0", CLUSTER, b"\x11\x01\0\x07\x04abcd"].concat()))),
        (
            "lineage",
            token(2, &dated(&[b"\0", CLUSTER, b"\x11\x01\0\x90\x03\x07\xa1\xb2\xc3\xd4\xe5\xf6\x28"].concat())),
        ),
        ("keys", token(2, &dated(&[b"\0", CLUSTER, b"\x21\x01\0\x90\x03\x06\x32\x01\x02\x03\x04\x09"].concat()))),
        ("extension-too-long", token(2, &dated(&[b"\0", CLUSTER, b"\x11\x01\0\x07\xff", &[7; 99]].concat()))),
        ("many-clusters", token(2, &many(b"\x08"))),
        ("timelines", token(2, &dated(&[b"\0", CLUSTER, b"\x04\x01\0\x09\x02\0\x08\x03\0\x07\x04\0\x06"].concat()))),
        ("varint-of-eleven", token(2, &dated(&[b"\0", CLUSTER, b"\x01\x01\0", &[0xff; 11]].concat()))),
        (
            "largest",
            token(
                2,
                &dated(
                    &[b"\x03", CLUSTER, b"\x01\xff\xff\xff\xff\x0f", &[0xff; 9], b"\x01", &[0xff; 9], b"\x01"].concat(),
                ),
            ),
        ),
    ]
}

/// A part of a record: timeline, pin, lineage and how far its log vouches.
fn part(timeline: u8, pinned: u8, lineage: u8, covered: u8) -> [u8; 36] {
    std::array::from_fn(|at| match at {
        3 => timeline,
        19 => pinned,
        27 => lineage,
        35 => covered,
        _ => 0,
    })
}

/// A record of clusters: era, number of positions, flags, and the rest.
fn record(flags: u8, clusters: &[(u8, u8, u8, &[u8])]) -> Vec<u8> {
    let mut record = [b"HWD\x01", &[flags, clusters.len() as u8][..]].concat();
    for (number, (era, count, flags, rest)) in clusters.iter().enumerate() {
        record.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, number as u8, 0, 0, 0, 0, 0, 0, 0, *era, *count, *flags]);
        record.extend_from_slice(rest);
    }
    record
}

/// An input of the target `device`: what is stored, and what comes to it.
fn stored_and_new(stored: &[u8], new: &[u8]) -> Vec<u8> {
    let length = stored.len() + new.len();
    let share = (0..=255_u8).find(|share| length * usize::from(*share) / 256 == stored.len());
    share.map(|share| [&[share], stored, new].concat()).unwrap_or_default()
}

fn devices() -> Vec<(&'static str, Vec<u8>)> {
    let one = record(0, &[(0, 1, 0, &part(1, 9, 0, 0))]);
    let vouched = record(0, &[(7, 1, 0, &part(1, 5, 3, 9))]);
    let two = [part(1, 9, 0, 0), part(2, 5, 3, 9)].concat();
    let keys = b"\0\0\0\0\0\0\0\x02\x01abcd\0\0\0\0\0\0\0\x09";
    let named = record(0, &[(7, 1, 2, &[&part(1, 5, 3, 9)[..], keys].concat())]);
    let many: Vec<_> = (0..16).map(|_| (8, 0, 1, &[][..])).collect();
    vec![
        ("first", stored_and_new(b"", &one)),
        ("same", stored_and_new(&one, &one)),
        ("answered-for", stored_and_new(&one, &vouched)),
        ("two-timelines", stored_and_new(&vouched, &record(1, &[(8, 2, 0, &two)]))),
        ("keys", stored_and_new(&vouched, &named)),
        ("keys-forgotten", stored_and_new(&named, &vouched)),
        ("many-clusters", stored_and_new(&record(2, &many), &record(4, &many))),
        ("none-stored", stored_and_new(b"HWD\x02nonsense", &one)),
        ("bomb", stored_and_new(&one, &record(0, &[(255, 255, 255, &BOMB)]))),
    ]
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
            "token" => tokens(),
            "device" => devices(),
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
