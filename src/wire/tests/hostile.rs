//! Texts from an enemy, by the million. Half of them are sealed anew, so that they pass the signature and what lies behind
//! it is reached too.
//!
//! `HIGHWATER_HOSTILE_INPUTS=100000000 cargo test --release --all-features wire::tests::hostile -- --nocapture` is the long run.

use super::super::text::{BYTES_MAX, TEXT_BYTES_MAX};
use super::super::{Keyring, Unusable, keyring::SIGNED, text};
use super::{NOW, forms, is_covered, judge_everywhere, key, keyring, now, token, usual};
use crate::Token;
use crate::token::Shard;
use crate::token::tests::{named, part};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::collections::BTreeMap;

const INPUTS: u64 = 200_000;

#[test]
fn no_text_does_harm() {
    let asked = std::env::var("HIGHWATER_HOSTILE_INPUTS").ok();
    let inputs = asked.map_or(INPUTS, |inputs| inputs.parse().unwrap());
    let seed = std::env::var("HIGHWATER_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut enemy = Enemy::new(seed);
    let mut seen: BTreeMap<(bool, Result<(), String>), u64> = BTreeMap::new();
    let (mut vouched, mut named) = (0, 0);
    for input in 0..inputs {
        let sealed_anew = input % 2 == 0;
        let text = if sealed_anew { enemy.sealed_anew() } else { enemy.unsealed() };
        let found = judge(&text, sealed_anew).map(|token| {
            let parts = || token.shards().iter().flat_map(|shard| &shard.parts);
            vouched += u64::from(parts().any(|part| part.vouched.is_some()));
            named += u64::from(parts().any(|part| part.named.is_some()));
        });
        *seen.entry((sealed_anew, found.map_err(|why| format!("{why:?}")))).or_default() += 1;
    }
    println!(
        "{inputs} inputs from seed {seed}: (sealed anew, outcome) {seen:#?}; vouched for {vouched}, with keys {named}"
    );
    // Each of them comes often, or the run shows nothing.
    let share = |outcome: (bool, Result<(), &str>)| {
        let outcome = (outcome.0, outcome.1.map_err(str::to_owned));
        seen.get(&outcome).copied().unwrap_or_default() as f64 / inputs as f64
    };
    assert!(share((true, Ok(()))) > 0.05, "{seen:?}");
    assert!(share((true, Err("UnknownForm"))) > 0.05, "{seen:?}");
    assert!(share((false, Err("Forged"))) > 0.05, "{seen:?}");
    assert!(share((false, Err("Malformed"))) > 0.05, "{seen:?}");
    assert_eq!(share((false, Ok(()))), 0.0, "a forgery passed");
    assert!(vouched.min(named) as f64 / inputs as f64 > 0.01, "vouched for {vouched}, with keys {named}");
}

fn judge(text: &[u8], sealed_anew: bool) -> Result<Token, Unusable> {
    let keyring = keyring();
    let opened = keyring.open(text, &now())?;
    assert!(text.len() <= TEXT_BYTES_MAX);
    judge_everywhere(&opened.token);
    let text = keyring.write(&opened.token, &[], &now(), [0; 12]);
    assert!(text.len() <= TEXT_BYTES_MAX);
    let again = keyring.open(text.as_bytes(), &now()).unwrap().token;
    assert!(is_covered(&opened.token, &again), "{:?} {again:?}", opened.token);
    assert!(sealed_anew, "a forgery passed: {}", String::from_utf8_lossy(text.as_bytes()));
    Ok(opened.token)
}

struct Enemy {
    chance: StdRng,
    forms: Vec<Keyring>,
    /// What a client can hold.
    bodies: Vec<Vec<u8>>,
    tokens: Vec<Token>,
}

impl Enemy {
    fn new(seed: u64) -> Self {
        let many: Vec<(u64, &[(u32, u64)])> = (1..8).map(|n| (n, &[(1, 1 << 40)][..])).collect();
        let written = part(4, 0x85, 1 << 40, (Some(0xA1B2_C3D4_E5F6), 1 << 39));
        let written = named(written, 1 << 38, &[(7, 1 << 40), (0xFFFE_FDFC, (1 << 40) - 300)]);
        let written = Shard { system_identifier: 5, parts: vec![written].into(), forgotten: false };
        let written = Token::from_shards(vec![written], false, false);
        let old = token(&[(5, &[(1, 9), (2, 8), (3, 7), (4, 6)])]);
        let tokens = vec![usual(), old, written, token(&many), Token::default()];
        let body = |token: &Token| {
            let mut bytes = Vec::new();
            super::super::body::write(token, &[], BYTES_MAX, BYTES_MAX, &mut bytes);
            bytes
        };
        Self { chance: StdRng::seed_from_u64(seed), forms: forms(), bodies: tokens.iter().map(body).collect(), tokens }
    }

    fn below(&mut self, end: usize) -> usize {
        self.chance.random_range(0..end)
    }

    /// What has no signature that fits.
    fn unsealed(&mut self) -> Vec<u8> {
        match self.below(5) {
            0 => {
                let length = self.below(2 * TEXT_BYTES_MAX);
                self.random(length)
            }
            1 => {
                let length = self.below(BYTES_MAX + 2);
                let mut bytes = self.random(length);
                if let Some(form) = bytes.first_mut() {
                    *form = SIGNED + (*form & 1);
                }
                if let Some(id) = bytes.get_mut(1) {
                    *id &= 1;
                }
                text::write(&bytes).into_bytes()
            }
            kind => self.changed(kind),
        }
    }

    fn random(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.chance.fill_bytes(&mut bytes);
        bytes
    }

    /// A genuine text with bits flipped, cut, lengthened, or put together from two.
    fn changed(&mut self, kind: usize) -> Vec<u8> {
        let genuine = |enemy: &mut Self| {
            let (form, token) = (enemy.below(enemy.forms.len()), enemy.below(enemy.tokens.len()));
            let nonce = [enemy.chance.random(); 12];
            text::Decoded::read(enemy.forms[form].write(&enemy.tokens[token], &[], &now(), nonce).as_bytes()).unwrap()
        };
        let originals = [genuine(self), genuine(self)].map(|text| text.bytes().to_vec());
        let mut bytes = originals[0].clone();
        match kind {
            2 => {
                for _ in 0..=self.below(8) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
            3 => {
                let length = self.below(BYTES_MAX);
                bytes.resize(length, 0);
            }
            _ => {
                let other = &originals[1];
                let (cut, from) = (self.chance.random_range(0..bytes.len()), self.chance.random_range(0..other.len()));
                bytes.truncate(cut);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        if originals.contains(&bytes) {
            bytes[0] ^= 0x80;
        }
        text::write(&bytes).into_bytes()
    }

    /// Bytes of the enemy's choice, with a signature that fits.
    fn sealed_anew(&mut self) -> Vec<u8> {
        let mut body = match self.below(4) {
            0 => {
                let length = self.below(150);
                self.random(length)
            }
            _ => {
                let at = self.below(self.bodies.len());
                self.bodies[at].clone()
            }
        };
        for _ in 0..self.below(6) {
            if body.is_empty() {
                break;
            }
            let at = self.below(body.len());
            match self.below(5) {
                0 => body[at] ^= 1 << self.below(8),
                1 => body[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => body.truncate(at),
                3 => body.insert(at, self.chance.random()),
                _ => {
                    let from = self.below(body.len());
                    let piece = body[from..].to_vec();
                    body.splice(at.., piece);
                }
            }
        }
        body.truncate(150);
        let dated = [&(NOW as u32).to_be_bytes()[..], &body].concat();
        #[cfg(feature = "opaque")]
        if self.below(4) == 0 {
            let nonce = [self.chance.random(); 12];
            return text::write(&super::super::sealed::seal(&key(1), &dated, None, nonce)).into_bytes();
        }
        let mut bytes = [&[SIGNED, 1], &dated[..]].concat();
        bytes.extend_from_slice(&key(1).sign(&bytes, None));
        text::write(&bytes).into_bytes()
    }
}
