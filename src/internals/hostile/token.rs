//! A token as a client, a queue or an enemy who has the key wrote it.
//!
//! The first byte of the input chooses: text for the keyring, text for the serde form, or bytes that a signature or an
//! encryption is put around, so that what lies behind these is reached too.

use super::{Outcome, Target};
use crate::history::{SetBack, Standing};
use crate::token::Shard;
use crate::wire::{Context, Key, Keyring, TEXT_BYTES_MAX, Unusable};
use crate::wire::{keyring as forms, text};
use crate::{History, Lsn, Position, Session, Switch, Timeline, Token};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;
use std::borrow::Cow;
use std::sync::LazyLock;

pub(super) const TARGET: Target = Target {
    name: "token",
    read: |input| {
        let given = Given::of(input);
        LazyLock::force(&KEYRING);
        Box::new(move || drop(given.read()))
    },
    check,
    // Of the text. A token of many clusters takes a few times what it takes to write it.
    bytes_max: 4 * TEXT_BYTES_MAX,
    outcomes: &["a token", "expired", "unknown key", "unknown form", "forged", "malformed", "no payload"],
};

const NOW: Context<'_> = Context { audience: None, now_unix_s: 1_790_000_000 };

#[expect(clippy::expect_used, reason = "a key of 32 bytes is one")]
static KEY: LazyLock<Key> = LazyLock::new(|| Key::new(1, &[1; 32]).expect("a key"));
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| Keyring::new(KEY.clone()));

/// What an instance gets to see.
enum Given<'a> {
    FromClient(Cow<'a, [u8]>),
    FromQueue(&'a [u8]),
}

impl<'a> Given<'a> {
    fn of(input: &'a [u8]) -> Self {
        let (kind, bytes) = input.split_first().unwrap_or((&0, &[]));
        match kind % 4 {
            0 => Self::FromClient(bytes.into()),
            1 => Self::FromQueue(bytes),
            2 => Self::FromClient(signed(bytes).into_bytes().into()),
            _ => Self::FromClient(encrypted(bytes).into_bytes().into()),
        }
    }

    fn read(&self) -> Result<Token, Outcome> {
        match self {
            Self::FromQueue(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| "no payload")?;
                let payload: Result<Token, Error> = Token::deserialize(text.into_deserializer());
                payload.map_err(|_| "no payload")
            }
            Self::FromClient(text) => match KEYRING.open(text, &NOW) {
                Ok(opened) => Ok(opened.token),
                Err(Unusable::Expired) => Err("expired"),
                Err(Unusable::UnknownKey) => Err("unknown key"),
                Err(Unusable::UnknownForm) => Err("unknown form"),
                Err(Unusable::Forged) => Err("forged"),
                Err(Unusable::Malformed) => Err("malformed"),
            },
        }
    }
}

fn signed(dated: &[u8]) -> String {
    let mut bytes = [&[forms::SIGNED, 1], dated.get(..150).unwrap_or(dated)].concat();
    bytes.extend_from_slice(&KEY.sign(&bytes, None));
    text::write(&bytes)
}

#[cfg(feature = "opaque")]
fn encrypted(dated: &[u8]) -> String {
    text::write(&crate::wire::sealed::seal(&KEY, dated.get(..150).unwrap_or(dated), None, [0; 12]))
}

#[cfg(not(feature = "opaque"))]
fn encrypted(dated: &[u8]) -> String {
    signed(dated)
}

fn check(input: &[u8]) -> Outcome {
    let token = match Given::of(input).read() {
        Ok(token) => token,
        Err(outcome) => return outcome,
    };
    // What is left out the first time is not missed a second time.
    let written = rewritten(&token);
    assert_eq!(rewritten(&written), written);
    assert_eq!(written.shards().len() < token.shards().len(), written.is_collapsed() && !token.is_collapsed());
    let switches = vec![Switch { from: Timeline(1), at: Lsn::new(1_000) }];
    let cluster = token.shards().first().map_or(0, |shard| shard.system_identifier);
    let history =
        History::new(cluster, Timeline(3), switches).set_back(SetBack { at: Lsn::new(500), ..SetBack::default() });
    let session = Session::from_token(token);
    let _ = session.floor(&history, None, None);
    session.accept_loss(&history);
    session.raise(&history, Position::new(3, Lsn::new(7)), None);
    // A part that there is no room for is not demanded, and no read is answered then.
    let floor = session.floor(&history, None, None);
    assert!(floor.tag >= Lsn::new(7) || !matches!(floor.standing, Standing::Floor(_)), "{floor:?}");
    "a token"
}

fn rewritten(token: &Token) -> Token {
    let text = KEYRING.write(token, &[], &NOW, [0; 12]);
    let named = |shard: &Shard| shard.parts.iter().any(|part| part.named.is_some());
    let short = token.shards().len() <= 1 && !token.shards().iter().any(named);
    let limit = if short { text::TEXT_BYTES_MAX_ONE } else { TEXT_BYTES_MAX };
    assert!(text.len() <= limit, "{}", text.len());
    KEYRING.open(text.as_bytes(), &NOW).map_or_else(|why| panic!("our own token: {why}"), |opened| opened.token)
}
