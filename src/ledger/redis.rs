//! The log of retractions over Redis: a hash for its record, a channel for its messages.

use super::{Announcement, Beat, Ledger, Lineage, Notice, Pulse, Retracted, Settlement, Subscription, message};
use crate::Error;
use crate::redis_link::{Call, Lua, RedisLink};
use crate::sealed::Sealed;
use crate::tier::redis::{admission, entry_name, life_ms};
use crate::tier::{Address, TierError, envelope};
use futures_util::StreamExt;
use redis::aio::PubSubStream;
use redis::{RedisError, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The log of retractions in a Redis server, or on one node of a cluster.
///
/// Scripts go over the link that the shared tier uses too; every subscription has a connection of its own.
#[derive(Debug, Clone)]
pub struct RedisLedger {
    link: RedisLink,
    record: String,
    channel: String,
    scripts: Arc<Scripts>,
}

#[derive(Debug)]
struct Scripts {
    announce: Lua,
    withdraw: Lua,
    retract: Lua,
    beat: Lua,
    repair: Lua,
    check: Lua,
    admit: Lua,
}

/// A script behind the functions that all of them share.
macro_rules! script {
    ($($file:literal),+) => { Lua::new(concat!(include_str!("log.lua"), $(include_str!($file)),+)) };
}

impl Scripts {
    fn new() -> Self {
        Self {
            announce: script!("announce.lua"),
            withdraw: script!("withdraw.lua"),
            retract: script!("../tier/rule.lua", "retract.lua"),
            beat: script!("beat.lua"),
            repair: script!("repair.lua"),
            check: script!("check.lua"),
            admit: admission(),
        }
    }
}

impl RedisLedger {
    /// The log over this link, after a look at whether it can be used. While there is no connection nothing is looked at.
    ///
    /// Dropping the future leaves nothing behind but perhaps a heartbeat.
    ///
    /// # Errors
    ///
    /// [`Error::is_configuration`] where the Redis user lacks a right, or where the name of the log's record is taken.
    pub async fn open(link: RedisLink) -> Result<Self, Error> {
        let (namespace, database) = (link.namespace(), link.database());
        // A channel is heard in all numbered databases, and the log's record lies in one.
        let (record, channel) = (format!("{namespace}:log"), format!("{namespace}:bus:{database}"));
        let ledger = Self { link, record, channel, scripts: Arc::new(Scripts::new()) };
        let (candidate, body) = (candidate(), message::heartbeat(rand::random(), 0));
        // Where an entry could lie; in a cluster on the log's node, which the braces say.
        let nowhere = format!("{}:e:{{{}}}", ledger.link.namespace(), ledger.record);
        let check = Call {
            keys: vec![ledger.record.clone(), nowhere],
            args: vec![ledger.channel.as_bytes(), &candidate, &body],
        };
        let answers = ledger.link.run(&ledger.scripts.check, &[check]).await;
        if let Ok([Value::ServerError(error)]) = answers.as_deref()
            && error.code() == "WRONGTYPE"
        {
            return Err(Error::configuration(ledger.taken()));
        }
        let reachable = answers.is_ok();
        ledger.link.misconfigured(answers)?;
        if reachable
            && let Err(refusal) = ledger.link.subscription(&ledger.record, &ledger.channel).await
            && let Some(remedy) = refusal.remedy()
        {
            return Err(Error::configuration_because(remedy, refusal));
        }
        Ok(ledger)
    }

    /// One run of a script.
    async fn one(&self, script: &Lua, keys: Vec<String>, args: Vec<&[u8]>) -> Result<Value, TierError> {
        match self.link.run(script, &[Call { keys, args }]).await?.into_iter().next() {
            Some(Value::ServerError(error)) => Err(self.refused(error.into())),
            Some(answer) => Ok(answer),
            None => Err(TierError::new("Redis did not answer a script of the log")),
        }
    }

    /// Leaves markers on the nodes of a cluster, before the log is told: whoever hears of the retraction finds them. One that
    /// cannot be left is no failure, for the reason that retract.lua gives.
    async fn leave(&self, addresses: impl Iterator<Item = String>, marker: &[u8], keep: &str) {
        let calls: Vec<_> =
            addresses.map(|address| Call { keys: vec![address], args: vec![marker, keep.as_bytes()] }).collect();
        let failed = match self.link.run(&self.scripts.admit, &calls).await {
            Ok(outcomes) => outcomes.iter().filter(|outcome| !matches!(outcome, Value::Int(0 | 1))).count(),
            Err(_) => calls.len(),
        };
        if failed != 0 {
            crate::trace::markers_not_left(failed as i64);
        }
    }

    fn refused(&self, error: RedisError) -> TierError {
        let what = match error.code() {
            Some("WRONGTYPE") => self.taken(),
            _ => "Redis refused a script of the log".to_owned(),
        };
        TierError::new(what).caused_by(error)
    }

    fn taken(&self) -> String {
        format!(
            "the Redis key {:?}, which the retraction log needs, holds a value of another type: delete it, or choose \
             another namespace",
            self.record
        )
    }
}

/// The id of a new log, should one have to be begun: a new one every time, from a generator seeded by the operating
/// system, since an id that was used before would hide a loss.
fn candidate() -> [u8; 8] {
    rand::random::<u64>().to_be_bytes()
}

/// A lineage, or that there is none; outside, `None` where it is neither.
fn lineage(answer: Value) -> Option<Option<Lineage>> {
    let Value::BulkString(bytes) = answer else { return None };
    if bytes.is_empty() {
        return Some(None);
    }
    <[u8; 8]>::try_from(bytes.as_slice()).ok().map(|bytes| Some(Lineage::from_number(u64::from_be_bytes(bytes))))
}

fn texts(answers: Vec<Value>) -> Vec<Vec<u8>> {
    let text = |answer| if let Value::BulkString(bytes) = answer { Some(bytes) } else { None };
    answers.into_iter().filter_map(text).collect()
}

impl Sealed for RedisLedger {}

impl Sealed for RedisSubscription {}

impl Ledger for RedisLedger {
    type Subscription = RedisSubscription;

    async fn announce(&self, announcement: &Announcement) -> Result<Option<Lineage>, TierError> {
        let Announcement { id, notice, xid, lease, renews } = announcement;
        let (candidate, history) = (candidate(), notice.history.to_be_bytes());
        let (above, lease) = (notice.position.lsn.offset().to_be_bytes(), life_ms(*lease));
        let announced = message::announced(*xid, notice);
        let renews: &[u8] = if *renews { b"1" } else { b"" };
        let args: Vec<&[u8]> = vec![&candidate, id, &history, &above, lease.as_bytes(), &announced, renews];
        lineage(self.one(&self.scripts.announce, vec![self.record.clone()], args).await?)
            .ok_or_else(|| TierError::new("Redis answered an announcement with something else"))
    }

    async fn withdraw(&self, id: [u8; 16]) -> Result<(), TierError> {
        self.one(&self.scripts.withdraw, vec![self.record.clone()], vec![&candidate(), &id]).await.map(drop)
    }

    async fn retract(
        &self,
        notice: &Notice,
        keep: Duration,
        settlement: Option<Settlement>,
    ) -> Result<Retracted, TierError> {
        let (marker, keep, candidate) = (envelope::marker(notice.position), life_ms(keep), candidate());
        let body = message::retraction(notice);
        let address = |key| entry_name(self.link.namespace(), &Address { history: notice.history, key });
        let (mut keys, addresses) = (vec![self.record.clone()], notice.keys.iter().copied().map(address));
        if self.link.is_cluster() {
            self.leave(addresses, &marker, &keep).await;
        } else {
            keys.extend(addresses);
        }
        let flush = settlement.map(|settlement| settlement.flush.offset().to_be_bytes());
        let id: &[u8] = settlement.as_ref().map_or(&[], |settlement| &settlement.id);
        let flush: &[u8] = flush.as_ref().map_or(&[], |flush| flush);
        let args = vec![self.channel.as_bytes(), &candidate, &marker, keep.as_bytes(), &body, id, flush];
        let answer = match self.one(&self.scripts.retract, keys, args).await? {
            Value::Array(answer) => <[Value; 4]>::try_from(answer).ok(),
            _ => None,
        };
        match answer {
            Some([Value::Int(failed), vouched, Value::Array(abandoned), Value::Int(given_up)]) => {
                if failed != 0 {
                    crate::trace::markers_not_left(failed);
                }
                let (abandoned, given_up) = (texts(abandoned), given_up.max(0).unsigned_abs());
                lineage(vouched).map(|vouched_by| Retracted { vouched_by, abandoned, given_up })
            }
            _ => None,
        }
        .ok_or_else(|| TierError::new("Redis answered a retraction with something else"))
    }

    async fn beat(&self, nonce: u64, pulse: Pulse) -> Result<Beat, TierError> {
        let (candidate, generation) = (candidate(), pulse.generation.to_be_bytes());
        let (body, flush) = (message::heartbeat(nonce, pulse.history), pulse.flush.offset().to_be_bytes());
        let args = vec![self.channel.as_bytes(), &candidate, &generation, &body, &flush];
        let answer = match self.one(&self.scripts.beat, vec![self.record.clone()], args).await? {
            Value::Array(answer) => <[Value; 5]>::try_from(answer).ok(),
            _ => None,
        };
        let count = |number: i64| number.max(0).unsigned_abs();
        match answer {
            Some(
                [
                    Value::BulkString(generation),
                    Value::Array(abandoned),
                    Value::Int(open),
                    Value::Int(ends_ms),
                    Value::Int(given_up),
                ],
            ) => <[u8; 8]>::try_from(generation.as_slice()).ok().map(|generation| Beat {
                generation: u64::from_be_bytes(generation),
                abandoned: texts(abandoned),
                given_up: count(given_up),
                open: count(open),
                first_ends: Duration::from_millis(count(ends_ms)),
            }),
            _ => None,
        }
        .ok_or_else(|| TierError::new("Redis answered a heartbeat with something else"))
    }

    async fn repair(&self, lineage: Lineage, after: u64) -> Result<Option<Vec<Vec<u8>>>, TierError> {
        let (lineage, after) = (lineage.number().to_be_bytes(), after.to_string());
        let args: Vec<&[u8]> = vec![&lineage, after.as_bytes()];
        match self.one(&self.scripts.repair, vec![self.record.clone()], args).await? {
            Value::Array(messages) => Ok(Some(texts(messages))),
            Value::Nil => Ok(None),
            _ => Err(TierError::new("Redis answered a question for what was missed with something else")),
        }
    }

    /// Dropping the future closes the connection that was being opened.
    async fn subscribe(&self) -> Result<RedisSubscription, TierError> {
        let opened = self.link.subscription(&self.record, &self.channel).await;
        let pubsub =
            opened.map_err(|refusal| TierError::new("Redis did not open a subscription").caused_by(refusal))?;
        let (_, stream) = pubsub.split();
        Ok(RedisSubscription { stream })
    }
}

/// One subscription, on a connection of its own that closes with it.
pub struct RedisSubscription {
    stream: PubSubStream,
}

impl Subscription for RedisSubscription {
    async fn next(&mut self) -> Option<Vec<u8>> {
        self.stream.next().await.map(|message| message.get_payload_bytes().to_vec())
    }
}

impl fmt::Debug for RedisSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisSubscription")
    }
}

#[cfg(test)]
#[cfg(feature = "testkit")]
mod tests;
