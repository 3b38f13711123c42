//! What it costs to open a token, and what forged ones cost those who bring genuine ones.
//!
//! Goals: a microsecond of processor time for any text, and with half of the tokens forged 0.95 of the requests a second
//! that there are with none.

#![expect(clippy::expect_used, reason = "what is not as expected is not measured")]

#[expect(dead_code, reason = "not every benchmark looks at everything that is measured")]
mod paired;

use highwater::memory::{Cluster, Source, View};
use highwater::source::Fault;
use highwater::wire::{Context, Gate, Key, Keyring};
use highwater::{Cache, Highwater, History, Lsn, Position, Repository, Session, Timeline, Token};
use paired::{Effort, Sample, cpu, head, pairs, row};
use rustix::time::ClockId;
use std::hint::black_box;
use std::time::Duration;
use tokio::time::Instant;

const NOW: u64 = 1_790_000_000;
const CONTEXT: Context<'_> = Context { audience: None, now_unix_s: NOW };

fn keyring(secret: u8) -> Keyring {
    Keyring::new(Key::new(1, &[secret; 32]).expect("a key"))
}

/// A token that names so many clusters.
fn token(clusters: u64) -> Token {
    let mut token = Token::default();
    for number in 0..clusters {
        let history = History::new(7_300_000_000_000_000_000 + number, Timeline(3), vec![]);
        token.merge(&Token::at(&history, Position::new(3, Lsn::new(0x2A_5F00_1234))));
    }
    token
}

fn timed(count: usize, mut work: impl FnMut()) -> Sample {
    let (begun, ran) = (Instant::now(), cpu(ClockId::ThreadCPUTime));
    (0..count).for_each(|_| work());
    Sample { count: count as f64, wall: begun.elapsed(), cpu: cpu(ClockId::ThreadCPUTime) - ran }
}

/// What is compared with: so much time for each.
fn budget(count: usize, each: Duration) -> Sample {
    let all = each * count as u32;
    Sample { count: count as f64, wall: all, cpu: all }
}

async fn opening(effort: Effort) {
    head("Tokens: microseconds of processor time, against one");
    let count = effort.of(20_000, 2_000);
    let signed = keyring(1);
    let one = signed.write(&token(1), &[], &CONTEXT, [0; 12]);
    let eight = signed.write(&token(8), &[], &CONTEXT, [0; 12]);
    #[cfg_attr(not(feature = "opaque"), expect(unused_mut, reason = "there are no more"))]
    let mut texts = vec![
        ("one cluster", one.clone()),
        ("eight clusters", eight.clone()),
        ("one cluster, forged", keyring(2).write(&token(1), &[], &CONTEXT, [0; 12])),
        ("eight clusters, forged", keyring(2).write(&token(8), &[], &CONTEXT, [0; 12])),
        ("256 characters of nothing", "A".repeat(256)),
        ("a megabyte of nothing", "A".repeat(1 << 20)),
    ];
    #[cfg(feature = "opaque")]
    {
        let opaque = signed.clone().opaque();
        texts.push(("one cluster, opaque", opaque.write(&token(1), &[], &CONTEXT, [7; 12])));
        texts.push(("eight clusters, opaque", opaque.write(&token(8), &[], &CONTEXT, [7; 12])));
    }
    let each = Duration::from_micros(1);
    for (what, text) in texts {
        let open = || drop(black_box(signed.open(black_box(text.as_bytes()), &CONTEXT)));
        let pairs = pairs(effort.rounds(), async || budget(count, each), async || timed(count, open)).await;
        row(&format!("open, {what}, {} characters", text.len()), ..=1.0, &pairs, Sample::cpu_us);
    }
    for (what, token) in [("one cluster", token(1)), ("eight clusters", token(8))] {
        let write = || drop(black_box(signed.write(black_box(&token), &[], &CONTEXT, [0; 12])));
        let pairs = pairs(effort.rounds(), async || budget(count, each), async || timed(count, write)).await;
        row(&format!("write, {what}"), .., &pairs, Sample::cpu_us);
    }
}

struct Rows;

impl Repository<View> for Rows {
    type Key = u64;
    type Value = u64;
    type Error = Fault;

    async fn load(&self, _: &View, key: &u64) -> Result<Option<u64>, Fault> {
        Ok(Some(*key))
    }
}

/// Requests that bring one of these texts each, in turn, and read one row.
async fn requests(count: usize, gate: &Gate, cache: &Cache<Rows, Source>, texts: &[String; 2]) -> Sample {
    let (begun, ran) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    for (number, text) in (0..count).zip(texts.iter().cycle()) {
        let session = Session::new();
        gate.take_in(&session, text.as_bytes(), None);
        let read = cache.get(&session, &(number as u64 % 100)).await.expect("a row");
        assert!(read.value.is_some());
    }
    Sample { count: count as f64, wall: begun.elapsed(), cpu: cpu(ClockId::ProcessCPUTime) - ran }
}

async fn goodput(effort: Effort) {
    head("Requests of one read, half of them with a forged token, against none: microseconds of processor time");
    let cluster = Cluster::new(1);
    let store = Highwater::over(cluster.source()).start().await.expect("a store");
    let cache = store.cache("rows", Rows).time_to_live(Duration::from_secs(3600)).build().expect("a cache");
    let gate = || {
        let begun = Instant::now();
        Gate::builder(keyring(1)).store(&store).clock(move || NOW + begun.elapsed().as_secs()).build()
    };
    let genuine = keyring(1).write(&store.token().await.expect("a position"), &[], &CONTEXT, [0; 12]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let high = Token::at(&store.history(), Position::new(1, Lsn::new(1 << 62)));
    let forged = keyring(2).write(&high, &[], &CONTEXT, [0; 12]);
    let unknown = Keyring::new(Key::new(9, &[2; 32]).expect("a key")).write(&high, &[], &CONTEXT, [0; 12]);
    let count = effort.of(20_000, 2_000);
    let all = [genuine.clone(), genuine.clone()];
    for (what, text) in
        [("a wrong signature", forged), ("a key that nobody has", unknown), ("nonsense", "x".repeat(90))]
    {
        let (bare, ours) = (gate(), gate());
        let half = [genuine.clone(), text];
        let pairs = pairs(
            effort.rounds(),
            async || requests(count, &bare, &cache, &all).await,
            async || requests(count, &ours, &cache, &half).await,
        );
        let pairs = pairs.await;
        row(what, ..=1.0 / 0.95, &pairs, Sample::cpu_us);
        println!("{:?}", ours.stats());
    }
    println!("{:?}", cache.stats());
    store.close().await;
}

fn main() {
    let effort = Effort::asked_for();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        opening(effort).await;
        goodput(effort).await;
    });
}
