//! What a token knows key by key, in text.

use super::*;
use crate::named::{Brief, Named, PAIRS_MAX};
use crate::wire::body;

pub(super) fn are_named(token: &Token) -> bool {
    token.shards().iter().flat_map(|shard| &shard.parts).any(|part| part.named.is_some())
}

/// Whether of no key less is demanded than was written.
pub(super) fn are_covered(written: &Part, read: &Part) -> bool {
    let keys = written.named.iter().flat_map(|named| &named.pairs).map(|pair| pair.key);
    let floor = |part: &Part, key| Named::floor(part.named.as_ref(), part.position.lsn, &[key]);
    let own: Vec<Brief> = keys.collect();
    let other = (0..).map(Brief).find(|key| !own.contains(key));
    own.iter().copied().chain(other).all(|key| floor(read, key) >= floor(written, key))
}

/// A token of these keys, each written ten bytes of log after the other.
fn token_of(clusters: u64, keys: u32) -> Token {
    let top = 0x2A_5F00_1234;
    let keys: Vec<(u32, u64)> = (0..keys).map(|n| (n * 0x0101_0101, top - 10 * u64::from(n))).collect();
    let part = named(part(3, 1, top, (Some(0xABCD_EF01_2345), top - 5)), top - 5_000, &keys);
    let shard = |n| Shard { system_identifier: CLUSTER + n, parts: vec![part.clone()].into(), forgotten: false };
    Token::from_shards((0..clusters).map(shard).collect(), false, false)
}

#[test]
fn a_usual_token_carries_all_its_keys() {
    for keyring in forms() {
        let bare = keyring.write(&token_of(1, 0), &[], &now(), [9; 12]).len();
        assert!(bare <= TEXT_BYTES_MAX_ONE);
        for keys in 1..=PAIRS_MAX as u32 {
            let token = token_of(1, keys);
            let text = keyring.write(&token, &[], &now(), [9; 12]);
            // Five bytes a key, and four around them.
            assert!(text.len() <= bare + (5 * keys as usize + 4).div_ceil(3) * 4, "{keys}: {}", text.len());
            assert_eq!(keyring.open(text.as_bytes(), &now()).unwrap().token, token);
        }
        let json = serde_json::to_string(&token_of(1, 8)).unwrap();
        assert_eq!(serde_json::from_str::<Token>(&json).unwrap(), token_of(1, 8));
    }
}

#[test]
fn keys_make_room_for_clusters_and_never_the_other_way() {
    for keyring in forms() {
        for clusters in 1..8 {
            let (with, without) = (token_of(clusters, 8), token_of(clusters, 0));
            let [with, without] = [with, without].map(|token| {
                let text = keyring.write(&token, &[CLUSTER + 1], &now(), [9; 12]);
                assert!(text.len() <= TEXT_BYTES_MAX);
                keyring.open(text.as_bytes(), &now()).unwrap().token
            });
            let names = |token: &Token| token.shards().iter().map(|shard| shard.system_identifier).collect::<Vec<_>>();
            assert_eq!((names(&with), with.is_collapsed()), (names(&without), without.is_collapsed()));
            assert!(are_named(&with) || clusters > 3, "of {clusters} clusters");
            assert!(is_covered(&token_of(clusters, 8), &with));
        }
    }
}

/// Bytes of a token with one position and these bytes of keys.
fn with_keys(keys: &[u8]) -> Option<Token> {
    let head = [&[0][..], &CLUSTER.to_be_bytes(), &[1 | 32, 3, 0, 100]].concat();
    body::read(&[&head[..], &[keys.len() as u8], keys].concat())
}

#[test]
fn keys_of_another_form_are_demanded_of_all() {
    let known = |keys: &[u8]| are_named(&with_keys(keys).unwrap());
    assert!(
        known(&[50, 0, 0, 0, 9, 10]) && known(&[0, 0, 0, 0, 9, 99]) && known(&[50, 0, 0, 0, 9, 0, 0, 0, 0, 10, 49])
    );
    for (keys, why) in [
        (&[50, 0, 0, 0, 9, 50][..], "a key at the rest"),
        (&[50, 0, 0, 0, 9, 10, 0, 0, 0, 9, 5], "a key twice"),
        (&[50, 0, 0, 0, 9, 10, 0, 0, 0, 8, 5], "keys in no order"),
        (&[50, 0, 0, 0, 9, 101], "a key below the log"),
        (&[101, 0, 0, 0, 9, 10], "a rest below the log"),
        (&[50, 0, 0, 0], "a key cut short"),
        (&[50], "no key"),
        (&[0x80, 0, 0, 0, 0, 9, 1], "a number that is not the shortest"),
        (&[&[50][..], &(0..9).flat_map(|n| [0, 0, 0, n, 1]).collect::<Vec<u8>>()].concat(), "more than there can be"),
    ] {
        assert!(!known(keys), "{why}");
        assert_eq!(with_keys(keys), body::read(&[&[0][..], &CLUSTER.to_be_bytes(), &[1, 3, 0, 100]].concat()), "{why}");
    }
    assert_eq!(with_keys(&[]), None, "they were said to be there");
    assert_eq!(with_keys(&[7; 129]), None, "no release writes so many");
    let none = [&[0][..], &CLUSTER.to_be_bytes(), &[8 | 32, 1, 0]].concat();
    assert_eq!(body::read(&none), None, "of no position");
}

/// The bytes are written out, so that both ways are held to them: flags, two timelines, a branch, and what a log vouches for.
#[test]
fn all_that_a_token_says_is_part_of_the_format() {
    let vouched = [7, 0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 40];
    let positions = [3, 0, 100, 4, 0x85, 0x01, 0x90, 0x03];
    let bytes = [&[2 | 1][..], &CLUSTER.to_be_bytes(), &[16 | 8 | 2], &positions, &vouched].concat();
    let parts = vec![part(3, 0, 100, (None, 0)), part(4, 0x85, 400, (Some(0xA1B2_C3D4_E5F6), 360))];
    let shard = Shard { system_identifier: CLUSTER, parts: parts.into(), forgotten: true };
    let token = Token::from_shards(vec![shard], true, true);
    assert_eq!(body::read(&bytes).as_ref(), Some(&token));
    let mut written = Vec::new();
    body::write(&token, &[], 100, 100, &mut written);
    assert_eq!(written, bytes);
}

/// The text is a fixture too, made in another language.
#[test]
fn keys_are_part_of_the_format() {
    let text = "AgFqsTuAAGVOz1KsWgABIQEAyPeMIA2IJwECAwQA__79_KwCVi34l4mWftuKHj2TlzqYGw";
    let part = named(
        part(1, 0, 0x403_3BC8, (None, 0)),
        0x403_3BC8 - 5_000,
        &[(0x0102_0304, 0x403_3BC8), (0xFFFE_FDFC, 0x403_3BC8 - 300)],
    );
    let shard = Shard { system_identifier: 7_300_000_000_000_000_001, parts: vec![part].into(), forgotten: false };
    let token = Token::from_shards(vec![shard], false, false);
    assert_eq!(keyring().open(text.as_bytes(), &now()).unwrap().token, token);
    assert_eq!(keyring().write(&token, &[], &now(), [0; 12]), text);
}
