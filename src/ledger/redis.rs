//! The log of retractions over Redis: a hash for its record, a channel for its messages.

use super::{Beat, Ledger, Notice, Subscription, message};
use crate::Error;
use crate::redis_link::{Call, Lua, RedisLink, misconfigured};
use crate::sealed::Sealed;
use crate::tier::redis::{entry_name, life_ms};
use crate::tier::{Address, TierError, envelope};
use futures_util::StreamExt;
use redis::aio::PubSubStream;
use redis::{RedisError, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The log of retractions in a Redis server.
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
    retract: Lua,
    beat: Lua,
    check: Lua,
}

impl Scripts {
    fn new() -> Self {
        let retract = concat!(include_str!("../tier/rule.lua"), include_str!("log.lua"), include_str!("retract.lua"));
        let beat = concat!(include_str!("log.lua"), include_str!("beat.lua"));
        let check = concat!(include_str!("log.lua"), include_str!("check.lua"));
        Self { retract: Lua::new(retract), beat: Lua::new(beat), check: Lua::new(check) }
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
        let (namespace, database) = (link.namespace(), link.dial().database());
        // A channel is heard in all numbered databases, and the log's record lies in one.
        let (record, channel) = (format!("{namespace}:log"), format!("{namespace}:bus:{database}"));
        let ledger = Self { link, record, channel, scripts: Arc::new(Scripts::new()) };
        let (candidate, body) = (candidate(), message::heartbeat(rand::random()));
        let nowhere = Address { history: 0, key: crate::Digest::from_bytes([0; 16]) };
        let check = Call {
            keys: vec![ledger.record.clone(), entry_name(ledger.link.namespace(), &nowhere)],
            args: vec![ledger.channel.as_bytes(), &candidate, &body],
        };
        let answers = ledger.link.run(&ledger.scripts.check, &[check]).await;
        if let Ok([Value::ServerError(error)]) = answers.as_deref()
            && error.code() == "WRONGTYPE"
        {
            return Err(Error::configuration(ledger.taken()));
        }
        let reachable = answers.is_ok();
        misconfigured(answers)?;
        if reachable
            && let Err(refusal) = ledger.link.dial().subscription(&ledger.channel).await
            && let Some(remedy) = refusal.remedy()
        {
            return Err(Error::configuration_because(remedy, refusal));
        }
        Ok(ledger)
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

impl Sealed for RedisLedger {}

impl Sealed for RedisSubscription {}

impl Ledger for RedisLedger {
    type Subscription = RedisSubscription;

    async fn retract(&self, notice: &Notice, keep: Duration) -> Result<(), TierError> {
        let (marker, keep) = (envelope::marker(notice.position), life_ms(keep));
        let parts: Vec<_> =
            message::split(notice).map(|part| (message::retraction(&part), candidate(), part.keys)).collect();
        let calls: Vec<_> = parts
            .iter()
            .map(|(body, candidate, keys)| {
                let address = |key| entry_name(self.link.namespace(), &Address { history: notice.history, key });
                let keys = std::iter::once(self.record.clone()).chain(keys.iter().copied().map(address)).collect();
                Call { keys, args: vec![self.channel.as_bytes(), candidate, &marker, keep.as_bytes(), body] }
            })
            .collect();
        for answer in self.link.run(&self.scripts.retract, &calls).await? {
            match answer {
                Value::Int(0) => {}
                Value::Int(failed) => crate::trace::markers_not_left(failed),
                Value::ServerError(error) => return Err(self.refused(error.into())),
                _ => return Err(TierError::new("Redis answered a retraction with something else")),
            }
        }
        Ok(())
    }

    async fn beat(&self, nonce: u64, generation: u64) -> Result<Beat, TierError> {
        let unexpected = || TierError::new("Redis answered a heartbeat with something else");
        let (candidate, generation) = (candidate(), generation.to_be_bytes());
        let body = message::heartbeat(nonce);
        let args = vec![self.channel.as_bytes(), &candidate, &generation, &body];
        let answers = self.link.run(&self.scripts.beat, &[Call { keys: vec![self.record.clone()], args }]).await?;
        match answers.into_iter().next().ok_or_else(unexpected)? {
            Value::BulkString(bytes) => {
                let bytes = <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| unexpected())?;
                Ok(Beat { generation: u64::from_be_bytes(bytes) })
            }
            Value::ServerError(error) => Err(self.refused(error.into())),
            _ => Err(unexpected()),
        }
    }

    /// Dropping the future closes the connection that was being opened.
    async fn subscribe(&self) -> Result<RedisSubscription, TierError> {
        let opened = self.link.dial().subscription(&self.channel).await;
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
