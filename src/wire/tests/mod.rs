//! The forms of a token, its limits, and what becomes of texts that nobody of ours wrote.

mod hostile;
mod keys;

use super::text::{BYTES_MAX, BYTES_MAX_ONE, TEXT_BYTES_MAX_ONE};
use super::*;
use crate::history::{Branch, SetBack};
use crate::lineage::Lineage;
use crate::token::tests::{drawn, named, part};
use crate::token::{Part, Shard};
use crate::{History, Lsn, Position, Timeline, Token};
use proptest::prelude::*;
use std::time::Duration;

pub(super) const NOW: u64 = 1_790_000_000;
const CLUSTER: u64 = 7_123_456_789_012_345_678;

pub(super) fn key(id: u8) -> Key {
    Key::new(id, &[id; 32]).unwrap()
}

pub(super) fn keyring() -> Keyring {
    Keyring::new(key(1))
}

/// Every form that is written with a key.
pub(super) fn forms() -> Vec<Keyring> {
    vec![
        keyring(),
        #[cfg(feature = "opaque")]
        keyring().opaque(),
    ]
}

pub(super) fn at(audience: Option<&[u8]>, now_unix_s: u64) -> Context<'_> {
    Context { audience, now_unix_s }
}

pub(super) fn now() -> Context<'static> {
    at(None, NOW)
}

/// A token of `clusters`, each with one position per timeline.
pub(super) fn token(clusters: &[(u64, &[(u32, u64)])]) -> Token {
    let part = |&(timeline, lsn): &(u32, u64)| Part::pinned(Position::new(timeline, Lsn::new(lsn)), Branch::default());
    let shard = |&(system_identifier, parts): &(u64, &[(u32, u64)])| Shard {
        system_identifier,
        parts: parts.iter().map(part).collect(),
        forgotten: false,
    };
    Token::from_shards(clusters.iter().map(shard).collect(), false, false)
}

pub(super) fn usual() -> Token {
    token(&[(CLUSTER, &[(3, 0x2A_5F00_1234)])])
}

#[test]
fn what_was_written_is_opened_again() {
    for keyring in forms() {
        for token in [Token::default(), usual(), token(&[(1, &[(1, 5), (2, 9)]), (CLUSTER, &[(7, u64::MAX)])])] {
            let text = keyring.write(&token, &[], &now(), [9; 12]);
            assert_eq!(keyring.open(text.as_bytes(), &now()), Ok(Opened { token, issued_unix_s: NOW }), "{text}");
        }
    }
}

#[test]
fn a_key_that_signs_no_more_still_opens_and_one_that_is_gone_is_unknown() {
    for old in forms() {
        let text = old.write(&usual(), &[], &now(), [9; 12]);
        let rotated = Keyring::new(key(2)).also_opens(key(1)).unwrap();
        assert_eq!(rotated.open(text.as_bytes(), &now()).map(|opened| opened.token), Ok(usual()));
        assert_eq!(Keyring::new(key(2)).open(text.as_bytes(), &now()), Err(Unusable::UnknownKey));
        let namesake = Keyring::new(Key::new(1, &[7; 32]).unwrap());
        assert_eq!(namesake.open(text.as_bytes(), &now()), Err(Unusable::Forged));
    }
}

#[test]
fn keys_that_cannot_work_are_refused_by_name_and_without_the_secret() {
    let short = Key::new(3, b"hunter2").unwrap_err();
    assert!(short.is_configuration() && short.to_string().contains("key 3"), "{short}");
    assert!(!format!("{short} {short:?}").contains("hunter2"));
    assert!(keyring().also_opens(key(1)).unwrap_err().to_string().contains("key 1"));
    let full = (2..=KEYS_MAX as u8).fold(keyring(), |ring, id| ring.also_opens(key(id)).unwrap());
    assert!(full.also_opens(key(99)).is_err());
}

#[test]
fn an_audience_is_not_carried_and_no_other_opens_the_token() {
    let audiences: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"tenant:1"), Some(b"tenant:2")];
    for keyring in forms() {
        for one in audiences {
            let text = keyring.write(&usual(), &[], &at(one, NOW), [9; 12]);
            assert_eq!(text.len(), keyring.write(&usual(), &[], &now(), [9; 12]).len());
            for other in audiences {
                let opened = keyring.open(text.as_bytes(), &at(other, NOW)).map(|_| ());
                assert_eq!(opened, if one == other { Ok(()) } else { Err(Unusable::Forged) }, "{one:?} {other:?}");
            }
        }
    }
}

#[test]
fn bytes_cannot_move_between_a_token_and_its_audience() {
    let key = key(1);
    assert_ne!(key.sign(b"ab", Some(b"c")), key.sign(b"a", Some(b"bc")));
    assert_ne!(key.sign(b"ab\x01", None), key.sign(b"ab", Some(b"")));
}

#[test]
fn a_token_ends_with_its_life_and_a_clock_that_was_ahead_gives_it_no_more() {
    for keyring in forms() {
        let keyring = keyring.life(Duration::from_secs(600));
        let text = keyring.write(&usual(), &[], &now(), [9; 12]);
        let open = |now| keyring.open(text.as_bytes(), &at(None, now)).map(|_| ());
        assert_eq!((open(NOW), open(NOW + 600), open(NOW + 601)), (Ok(()), Ok(()), Err(Unusable::Expired)));
        assert_eq!((open(NOW - 600), open(NOW - 601)), (Ok(()), Err(Unusable::Expired)));
    }
    assert_eq!(keyring().life(Duration::ZERO).token_life(), Duration::from_secs(60));
}

#[test]
fn what_a_log_vouches_for_travels_with_a_usual_token() {
    for pinned in [0, (1 << 40) - 5_000] {
        let position = Position::new(3, Lsn::new(1 << 40));
        let lineage = Some(Lineage::from_number(0xABCD_EF01_2345));
        let vouched = crate::lineage::Vouched::below(position.lsn, lineage, Lsn::new(pinned));
        let part = Part { vouched, ..Part::pinned(position, Branch::default()) };
        let shard = Shard { system_identifier: CLUSTER, parts: vec![part].into(), forgotten: false };
        let token = Token::from_shards(vec![shard], false, false);
        for keyring in forms() {
            let text = keyring.write(&token, &[], &now(), [3; 12]);
            assert!(text.len() <= TEXT_BYTES_MAX_ONE, "{}", text.len());
            assert_eq!(keyring.open(text.as_bytes(), &now()).unwrap().token, token, "{} characters", text.len());
        }
    }
}

#[test]
fn the_texts_stay_within_their_limits() {
    let worst = |clusters: u64, parts: u32| {
        let parts: Vec<_> = (0..parts)
            .map(|n| Part::pinned(Position::new(u32::MAX - 9 + n, Lsn::MAX), Branch::from_number(u64::MAX)))
            .collect();
        let shard = |n| Shard { system_identifier: u64::MAX - 20 + n, parts: parts.clone().into(), forgotten: false };
        Token::from_shards((0..clusters).map(shard).collect(), true, true)
    };
    for keyring in forms() {
        let length = |token: &Token| keyring.write(token, &[], &now(), [9; 12]).len();
        assert!(length(&usual()) <= 80, "{}", length(&usual()));
        assert!(length(&token(&[(CLUSTER, &[(3, 1 << 48), (4, 1 << 48), (5, 1 << 48)])])) <= TEXT_BYTES_MAX_ONE);
        for parts in 1..=4 {
            assert!(length(&worst(1, parts)) <= TEXT_BYTES_MAX_ONE);
            for clusters in 2..=16 {
                assert!(length(&worst(clusters, parts)) <= TEXT_BYTES_MAX);
            }
        }
    }
    let signed = keyring().write(
        &token(&[(CLUSTER, &[(3, 1), (4, 1 << 48), (5, 1 << 48), (6, 1 << 48)])]),
        &[],
        &now(),
        [9; 12],
    );
    assert!(signed.len() <= TEXT_BYTES_MAX_ONE);
    assert_eq!(keyring().open(signed.as_bytes(), &now()).unwrap().token.positions(CLUSTER).count(), 4);
}

/// The figures of the guide. What more there is of is forgotten, oldest first, and said so.
#[test]
fn how_many_timelines_each_form_holds() {
    // 2^48 bytes of log, and marks of where timelines began, as long as they can be; and the same after a set-back in 2026.
    let opaque = usize::from(cfg!(feature = "opaque"));
    assert_eq!(timelines_held(0xFFFF), [3, 2][..=opaque]);
    assert_eq!(timelines_held(1_795_000_000_000 << 16 | 0xFFFF), [2, 1][..=opaque]);
}

fn timelines_held(branch: u64) -> Vec<usize> {
    let parts = (1..=4).map(|timeline| part(timeline, branch, (1 << 48) - 1, (None, 0)));
    let shard = Shard { system_identifier: CLUSTER, parts: parts.collect(), forgotten: false };
    let token = Token::from_shards(vec![shard], false, false);
    let held = forms().into_iter().map(|keyring| {
        let text = keyring.write(&token, &[], &now(), [9; 12]);
        let read = keyring.open(text.as_bytes(), &now()).unwrap().token;
        assert!(read.shards()[0].forgotten);
        assert_eq!(read.positions(CLUSTER).last(), token.positions(CLUSTER).last(), "the newest is kept");
        read.positions(CLUSTER).count()
    });
    held.collect()
}

#[test]
fn a_lineage_has_room_beside_a_position() {
    // 8 bytes of lineage and 8 of a pinned position, with their length, beside what is there now.
    for keyring in forms() {
        let bytes = keyring.write(&token(&[(CLUSTER, &[(3, 1 << 48)])]), &[], &now(), [9; 12]).len() * 3 / 4;
        assert!(bytes + 17 <= BYTES_MAX_ONE, "{bytes}");
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_said_so_and_ones_own_cluster_is_kept() {
    let positions = [(1, 1 << 48)];
    let clusters: Vec<(u64, &[(u32, u64)])> = (1..=16).map(|n| (n, &positions[..])).collect();
    let token = token(&clusters);
    for keyring in forms() {
        let text = keyring.write(&token, &[16], &now(), [9; 12]);
        let opened = keyring.open(text.as_bytes(), &now()).unwrap().token;
        assert!(opened.is_collapsed() && opened.names(16), "{opened:?}");
        let kept = (1..=16).filter(|&cluster| opened.names(cluster)).count();
        assert!((5..16).contains(&kept), "{kept}");
        let mut merged = usual();
        merged.merge(&opened);
        assert!(merged.is_collapsed(), "whatever it is merged into");
        // Once left out, a cluster is not taken for one that was never written to.
        let again = keyring.write(&opened, &[16], &now(), [9; 12]);
        assert!(keyring.open(again.as_bytes(), &now()).unwrap().token.is_collapsed());
    }
}

#[test]
fn a_token_of_a_later_release_is_read_with_its_position_pinned_or_known_as_unreadable() {
    let text = |body: &[u8]| {
        let mut bytes = [&[keyring::SIGNED, 1][..], &(NOW as u32).to_be_bytes(), body].concat();
        bytes.extend_from_slice(&key(1).sign(&bytes, None));
        text::write(&bytes)
    };
    let cluster = CLUSTER.to_be_bytes();
    let extended = [&[0][..], &cluster, &[16 | 1, 3, 0, 100, 3, 0xAA, 0xBB, 0xCC]].concat();
    let opened = keyring().open(text(&extended).as_bytes(), &now()).unwrap().token;
    assert_eq!(opened, token(&[(CLUSTER, &[(3, 100)])]));
    for unreadable in [
        &[4][..],
        &[],
        &[&[0][..], &cluster].concat(),
        &[&[0][..], &cluster, &[0]].concat(),
        &[&[0][..], &cluster, &[32 | 1, 3, 0, 100]].concat(),
        &[&[0][..], &cluster, &[1, 3, 0, 0x80, 0]].concat(),
        &[&[0][..], &cluster, &[2, 3, 0, 100, 3, 0, 101]].concat(),
        &[&[0][..], &cluster, &[16 | 1, 3, 0, 100, 0]].concat(),
        &[&[0][..], &cluster, &[16 | 1, 3, 0, 100, 4, 1, 2, 3]].concat(),
        &[&[0][..], &cluster, &[1, 3, 0, 100], &cluster, &[1, 3, 0, 100]].concat(),
    ] {
        assert_eq!(keyring().open(text(unreadable).as_bytes(), &now()), Err(Unusable::UnknownForm), "{unreadable:?}");
    }
    let form = |form| keyring().open(text::write(&[form, 1, 2, 3]).as_bytes(), &now()).unwrap_err();
    assert_eq!(
        [form(4), form(15), form(16), form(255), form(0)].map(|why| why == Unusable::UnknownForm),
        [true, true, false, false, false]
    );
}

#[test]
fn no_secret_and_no_position_is_shown() {
    let secret = b"correct horse battery staple, 32+";
    let keyring = Keyring::new(Key::new(5, secret).unwrap());
    let gate = Gate::builder(keyring.clone()).build();
    assert_eq!(format!("{:?}", at(Some(b"a login"), 5)), "Context { has_audience: true, now_unix_s: 5 }");
    for shown in [format!("{keyring:?}"), format!("{gate:#?}")] {
        assert!(!shown.contains("99, 111, 114") && !shown.contains("correct"), "{shown}");
        assert!(shown.contains("id: 5"), "{shown}");
    }
}

#[test]
fn the_serde_form_is_one_text_in_every_format_and_is_never_opened_as_a_signed_one() {
    let json = serde_json::to_string(&usual()).unwrap();
    assert_eq!(serde_json::from_str::<Token>(&json).unwrap(), usual());
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(usual(), config).unwrap();
    assert_eq!(bincode::serde::decode_from_slice::<Token, _>(&bytes, config).unwrap().0, usual());
    assert_eq!(keyring().open(json.trim_matches('"').as_bytes(), &now()), Err(Unusable::Forged));
    let signed = format!("\"{}\"", keyring().write(&usual(), &[], &now(), [9; 12]));
    assert!(
        serde_json::from_str::<Token>(&signed).is_err(),
        "a payload must not pass for a client's token, nor the other way"
    );
    let long = format!("\"{}\"", "A".repeat(100_000));
    assert!(serde_json::from_str::<Token>(&long).is_err());
}

#[test]
fn opening_allocates_what_the_token_holds_and_nothing_for_what_is_none() {
    let keyring = keyring();
    let counted = |text: &str| allocation_counter::measure(|| drop(keyring.open(text.as_bytes(), &now())));
    let text = keyring.write(&usual(), &[], &now(), [0; 12]);
    let valid = counted(&text);
    assert!(valid.count_total <= 2 && valid.bytes_max <= 512, "{valid:?}");
    let forged = format!("{}AAAA", &text[..text.len() - 4]);
    for unusable in [forged, "A".repeat(256), "A".repeat(1 << 20), "\u{0}".repeat(100)] {
        assert_eq!(counted(&unusable).count_total, 0);
    }
}

pub(super) fn tokens() -> impl Strategy<Value = Token> {
    let vouched = (prop::option::of(0..=Lineage::MAX), any::<u64>());
    let keys = (any::<u64>(), prop::collection::vec((any::<u32>(), any::<u64>()), 0..10));
    let parts = (0..4_u32, prop_oneof![Just(0), any::<u64>()], any::<u64>(), any::<bool>(), vouched, keys).prop_map(
        |(timeline, branch, lsn, high, vouched, (rest, keys))| {
            named(part(if high { u32::MAX - timeline } else { timeline }, branch, lsn, vouched), rest, &keys)
        },
    );
    drawn(any::<u64>(), parts, 5)
}

/// Whether `read` demands all that `written` does, or says that it may not.
pub(super) fn is_covered(written: &Token, read: &Token) -> bool {
    written.shards().iter().all(|shard| {
        let kept = read.shards().iter().find(|kept| kept.system_identifier == shard.system_identifier);
        match kept {
            None => read.is_collapsed(),
            Some(kept) if kept.forgotten => kept.parts.iter().all(|part| is_pinned_or_same(shard, part)),
            Some(kept) => {
                let same = kept.parts.iter().all(|part| is_pinned_or_same(shard, part));
                kept.parts.len() == shard.parts.len() && same
            }
        }
    })
}

/// Whether the shard has this part, or had it with less of it pinned or demanded of every key.
fn is_pinned_or_same(shard: &Shard, part: &Part) -> bool {
    shard.parts.iter().any(|own| {
        let same = (own.position, own.branch) == (part.position, part.branch);
        let vouched = part.vouched.is_none() || part.vouched == own.vouched;
        same && vouched && keys::are_covered(own, part)
    })
}

proptest! {
    #[test]
    fn nothing_is_lost_without_being_said(token in tokens()) {
        for keyring in forms() {
            let text = keyring.write(&token, &[], &now(), [3; 12]);
            let short = token.shards().len() <= 1 && !keys::are_named(&token);
            let limit = if short { TEXT_BYTES_MAX_ONE } else { TEXT_BYTES_MAX };
            prop_assert!(text.len() <= limit, "{}", text.len());
            let read = keyring.open(text.as_bytes(), &now()).unwrap().token;
            prop_assert!(is_covered(&token, &read), "{token:?} {read:?}");
            prop_assert!(read.is_overflown() == token.is_overflown() && (read.is_collapsed() || !token.is_collapsed()));
            let roomy = token.shards().len() <= 1 && token.shards().iter().all(|shard| shard.parts.len() <= 1);
            let alone = token.shards().iter().flat_map(|shard| &shard.parts).all(|part| part.vouched.is_none());
            let roomy = roomy && alone;
            prop_assert!(!roomy || read == token, "{token:?} {read:?}");
        }
        let json = serde_json::to_string(&token).unwrap();
        prop_assert!(json.len() <= TEXT_BYTES_MAX + 2);
        prop_assert!(is_covered(&token, &serde_json::from_str(&json).unwrap()));
    }

    #[test]
    fn a_change_of_one_character_is_noticed(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        for keyring in forms() {
            let mut text = keyring.write(&usual(), &[], &now(), [3; 12]).into_bytes();
            let at = at.index(text.len());
            prop_assume!(text[at] != to);
            text[at] = to;
            prop_assert!(keyring.open(&text, &now()).is_err());
        }
    }

    #[test]
    fn a_token_without_its_end_or_with_more_is_noticed(length in 0_usize..300) {
        for keyring in forms() {
            let text = keyring.write(&usual(), &[], &now(), [3; 12]);
            prop_assume!(length != text.len());
            let changed: String = text.chars().chain(std::iter::repeat('A')).take(length).collect();
            prop_assert!(keyring.open(changed.as_bytes(), &now()).is_err());
        }
    }
}

/// What a session does with a token from anywhere must not go wrong either.
pub(super) fn judge_everywhere(token: &Token) {
    let switches = vec![crate::Switch { from: Timeline(1), at: Lsn::new(1000) }];
    let history =
        History::new(CLUSTER, Timeline(3), switches).set_back(SetBack { at: Lsn::new(500), ..SetBack::default() });
    let session = crate::Session::from_token(token.clone());
    std::hint::black_box(session.floor(&history, None, None));
    session.accept_loss(&history);
    session.raise(&history, Position::new(3, Lsn::new(7)), None);
    let floor = session.floor(&history, None, None);
    assert!(floor.tag >= Lsn::new(7));
}

const _: () = assert!(BYTES_MAX == 192 && BYTES_MAX_ONE == 72);
