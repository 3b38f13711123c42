//! The shared tier and the log on a real Redis: what is a configuration error, what is a miss, and what nothing costs.
#![cfg(feature = "testkit")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

use highwater::ledger::{Notice, Pulse, RedisLedger};
use highwater::tier::{Address, Offer, RedisTier};
use highwater::{Digest, Error, Lsn, Position, RedisLink, RedisSettings};
use std::error::Error as _;
use std::time::Duration;

#[path = "redis_edge/addresses.rs"]
mod addresses;
#[cfg(feature = "tls")]
#[path = "common/authority.rs"]
mod authority;
#[path = "redis_edge/cancelled.rs"]
mod cancelled;
#[path = "redis_edge/clustered.rs"]
mod clustered;
#[path = "common/dropped.rs"]
mod dropped;
#[cfg(feature = "tls")]
#[path = "redis_edge/encrypted.rs"]
mod encrypted;
#[path = "redis_edge/entries.rs"]
mod entries;
#[path = "redis_edge/log.rs"]
mod log;
#[path = "redis_edge/outages.rs"]
mod outages;
#[path = "redis_edge/refusals.rs"]
mod refusals;

const MINUTE: Duration = Duration::from_secs(60);

/// What a heartbeat says of an instance that knows of this generation.
fn pulse(generation: u64) -> Pulse {
    Pulse { generation, history: 1, flush: Lsn::ZERO }
}

/// An envelope by its compared bytes alone, made here from the table in the format's documentation.
fn envelope(kind: u8, tag: u64, rest: usize) -> Vec<u8> {
    [&b"HWE\x01"[..], &[kind, 0, 0, 0], &1_u32.to_be_bytes(), &tag.to_be_bytes(), &vec![0; rest]].concat()
}

fn entry(tag: u64) -> Vec<u8> {
    envelope(1, tag, 56)
}

fn address(number: u64) -> Address {
    Address { history: 0xAB, key: Digest::of_key(&number.to_be_bytes()) }
}

fn offer(number: u64, envelope: Vec<u8>) -> Offer {
    Offer { address: address(number), envelope, life: MINUTE }
}

fn notice(lsn: u64, keys: &[u64]) -> Notice {
    let keys = keys.iter().map(|number| address(*number).key).collect();
    Notice { history: 0xAB, position: Position::new(1, Lsn::new(lsn)), keys, groups: Vec::new() }
}

async fn opened(redis: impl Into<RedisSettings>) -> Result<(RedisTier, RedisLedger), Error> {
    let link = RedisLink::connect(redis.into().namespace("shop")).await?;
    Ok((RedisTier::open(link.clone()).await?, RedisLedger::open(link).await?))
}

/// The text of a configuration error with all its causes.
async fn refused(redis: impl Into<RedisSettings>) -> String {
    let Err(error) = opened(redis).await else { panic!("it must be refused") };
    assert!(error.is_configuration(), "{error}");
    told(&error)
}

/// An error with all its causes.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    println!("{text}");
    text
}
