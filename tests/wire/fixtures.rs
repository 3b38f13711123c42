//! Tokens of every form that was ever written, kept as they were. A line is never changed, only added: clients carry these.

use crate::support::{NOW, key};
use highwater::wire::{Context, Keyring};
use highwater::{Position, Token};

/// One token in `tests/wire/fixtures.txt`: form, audience, text, and its positions by cluster.
struct Fixture<'a> {
    form: &'a str,
    audience: Option<&'a [u8]>,
    text: &'a str,
    positions: Vec<(u64, Vec<String>)>,
}

fn fixtures() -> Vec<Fixture<'static>> {
    let lines = include_str!("fixtures.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let (form, audience, text) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let cluster = |word: &'static str| {
                let (cluster, positions) = word.split_once(':').unwrap();
                (cluster.parse().unwrap(), positions.split(',').map(str::to_owned).collect())
            };
            let audience = (audience != "-").then_some(audience.as_bytes());
            Fixture { form, audience, text, positions: words.map(cluster).collect() }
        })
        .collect()
}

fn check(fixture: &Fixture<'_>, token: &Token) {
    for (cluster, positions) in &fixture.positions {
        let found: Vec<String> = token.positions(*cluster).map(|position: Position| position.to_string()).collect();
        assert_eq!(&found, positions, "{}", fixture.text);
    }
}

#[test]
fn every_form_that_was_ever_written_is_still_read() {
    let keyring = Keyring::new(key(2)).also_opens(key(1)).unwrap();
    let mut read = 0;
    for fixture in fixtures() {
        let token = match fixture.form {
            "plain" => serde_json::from_str(&format!("\"{}\"", fixture.text)).unwrap(),
            "sealed" if cfg!(not(feature = "opaque")) => continue,
            "signed" | "sealed" => {
                let context = Context { audience: fixture.audience, now_unix_s: NOW };
                let opened = keyring.open(fixture.text.as_bytes(), &context).unwrap();
                assert_eq!(opened.issued_unix_s, NOW);
                opened.token
            }
            form => panic!("an unknown form: {form}"),
        };
        check(&fixture, &token);
        read += 1;
    }
    assert!(read >= 6);
}
