//! What it costs to open a token, what forged ones cost those who bring genuine ones, and what a store of users' devices costs
//! reads.
//!
//! Goals: a microsecond of processor time for any text; with half of the tokens forged 0.95 of the requests a second
//! that there are with none; and for a hit inside a visit nothing, and no allocation.

#![expect(clippy::expect_used, reason = "what is not as expected is not measured")]

#[expect(dead_code, reason = "not every benchmark looks at everything that is measured")]
mod paired;

use futures_util::FutureExt;
use highwater::devices::Devices;
use highwater::memory::{Cluster, Shared, Source, View};
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
    token_of(clusters, &[3])
}

/// The same, with a position on each of these timelines.
fn token_of(clusters: u64, timelines: &[u32]) -> Token {
    let mut token = Token::default();
    for number in 0..clusters {
        let history = History::new(7_300_000_000_000_000_000 + number, Timeline(3), vec![]);
        for &timeline in timelines {
            token.merge(&Token::at(&history, Position::new(timeline, Lsn::new(0x2A_5F00_1234))));
        }
    }
    token
}

/// A token that names eight keys beside its position.
async fn keyed() -> Token {
    let cluster = Cluster::new(0);
    let store = Highwater::over(cluster.source()).start().await.expect("a store");
    let rows = store.cache("rows", Rows).scoped().build().expect("a cache");
    let session = Session::new();
    let mut tx = store.begin(&session).await.expect("a transaction");
    for key in 0..8 {
        tx.retract(&rows, &key);
    }
    tx.commit().await.expect("a commit");
    session.token()
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
    let (full, keys, twofold) = (token(16), keyed().await, token_of(16, &[2, 3]));
    #[cfg_attr(not(feature = "opaque"), expect(unused_mut, reason = "there are no more"))]
    let mut texts = vec![
        ("one cluster", one.clone()),
        ("one cluster, eight keys", signed.write(&keys, &[], &CONTEXT, [0; 12])),
        ("eight clusters", eight.clone()),
        ("as many clusters as fit", signed.write(&full, &[], &CONTEXT, [0; 12])),
        ("as many of two timelines as fit", signed.write(&twofold, &[], &CONTEXT, [0; 12])),
        ("one cluster, forged", keyring(2).write(&token(1), &[], &CONTEXT, [0; 12])),
        ("eight clusters, forged", keyring(2).write(&token(8), &[], &CONTEXT, [0; 12])),
        ("256 characters of nothing", "A".repeat(256)),
        ("a megabyte of nothing", "A".repeat(1 << 20)),
    ];
    #[cfg(feature = "opaque")]
    {
        let opaque = signed.clone().opaque();
        texts.push(("one cluster, opaque", opaque.write(&token(1), &[], &CONTEXT, [7; 12])));
        texts.push(("one cluster, eight keys, opaque", opaque.write(&keys, &[], &CONTEXT, [7; 12])));
        texts.push(("eight clusters, opaque", opaque.write(&token(8), &[], &CONTEXT, [7; 12])));
        texts.push(("as many clusters as fit, opaque", opaque.write(&full, &[], &CONTEXT, [7; 12])));
        texts.push(("as many of two timelines as fit, opaque", opaque.write(&twofold, &[], &CONTEXT, [7; 12])));
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

const ROWS: u64 = 100;

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
        let read = cache.get(&session, &(number as u64 % ROWS)).await.expect("a row");
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

/// Hits of one session, each ready at the first poll.
fn hits(count: usize, cache: &Cache<Rows, Source>, session: &Session) -> Sample {
    let before = cache.stats().hits_local;
    let (begun, ran) = (Instant::now(), cpu(ClockId::ThreadCPUTime));
    for number in 0..count as u64 {
        let read = cache.get(session, &(number % ROWS)).now_or_never().expect("a hit awaits nothing");
        black_box(read.expect("a row"));
    }
    let sample = Sample { count: count as f64, wall: begun.elapsed(), cpu: cpu(ClockId::ThreadCPUTime) - ran };
    assert_eq!(cache.stats().hits_local - before, count as u64, "every read was a hit");
    sample
}

async fn visited(effort: Effort) {
    head("A local hit in a user's visit, against one of the same token outside: microseconds of processor time");
    let cluster = Cluster::new(0);
    let store = Highwater::over(cluster.source()).start().await.expect("a store");
    let cache = store.cache("rows", Rows).time_to_live(Duration::from_secs(3600)).build().expect("a cache");
    let devices = Devices::builder(Shared::default()).store(&store).build().expect("devices");
    let inside = Session::new();
    let _visit = devices.visit(&inside, "user 7");
    inside.gathered().await;
    // The store is new and knows nothing of the user, so the primary is asked how far it is, and entries must get there.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = cache.stats().hits_local;
        for key in 0..ROWS {
            cache.get(&inside, &key).await.expect("a row");
        }
        if cache.stats().hits_local - before == ROWS {
            break;
        }
    }
    let outside = Session::from_token(inside.token());
    assert!(!outside.token().is_empty(), "both demand the same");
    let count = effort.of(200_000, 20_000);
    let pairs = pairs(effort.rounds(), async || hits(count, &cache, &outside), async || hits(count, &cache, &inside));
    row("a hit in a visit", ..=1.02, &pairs.await, Sample::cpu_us);
    let allocations = |session| {
        allocation_counter::measure(|| {
            black_box(hits(count, &cache, session));
        })
        .count_total
    };
    let (bare, ours) = (allocations(&outside), allocations(&inside));
    println!("\n{ours} allocations in {count} hits in a visit, {bare} outside");
    store.close().await;
}

fn main() {
    let effort = Effort::asked_for();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        opening(effort).await;
        goodput(effort).await;
        visited(effort).await;
    });
}
