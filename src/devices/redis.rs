//! Users' records in Redis.

use super::record::BYTES_MAX;
use super::{DeviceStore, Exchange, Exchanged};
use crate::redis_link::{Call, Lua, RedisLink};
use crate::sealed::Sealed;
use crate::tier::TierError;
use crate::tier::redis::life_ms;
use crate::{Digest, Error};
use redis::Value;
use std::sync::Arc;

/// Users' records in a Redis server.
///
/// An exchange is one round trip, bounded by the link's response time-out, and fails at once while there is no connection.
#[derive(Debug, Clone)]
pub struct RedisDevices {
    link: RedisLink,
    era: String,
    exchange: Arc<Lua>,
}

impl RedisDevices {
    /// The store over this link, after a look at whether it can be used. While there is no connection nothing is looked at.
    ///
    /// Dropping the future leaves nothing behind but perhaps the store's era.
    ///
    /// # Errors
    ///
    /// [`Error::is_configuration`] where the Redis user lacks a right, or where the name of the store's era is taken.
    pub async fn open(link: RedisLink) -> Result<Self, Error> {
        let era = format!("{}:devices", link.namespace());
        let devices = Self { link, era, exchange: Arc::new(Lua::new(include_str!("exchange.lua"))) };
        // A record of nothing, for nobody, that lives for a millisecond.
        let record = super::Record::default().encode();
        let exchange = Exchange { record, from: Vec::new(), life: std::time::Duration::ZERO, disbelieved: None };
        let answers = devices.run(Digest::from_bytes([0; 16]), &exchange).await;
        if let Ok([Value::ServerError(error)]) = answers.as_deref()
            && error.code() == "WRONGTYPE"
        {
            return Err(Error::configuration(format!(
                "the Redis key {:?}, which the device store needs, holds a value of another type: delete it, or choose \
                 another namespace",
                devices.era
            )));
        }
        devices.link.misconfigured(answers)?;
        Ok(devices)
    }

    async fn run(&self, user: Digest, exchange: &Exchange) -> Result<Vec<Value>, TierError> {
        let Exchange { record, from, life, disbelieved } = exchange;
        let life = life_ms(*life);
        // From a generator seeded by the operating system, since an id that was used before would hide a loss.
        let candidate = rand::random::<u64>().max(1).to_be_bytes();
        let disbelieved = disbelieved.map(u64::to_be_bytes);
        let disbelieved = disbelieved.as_ref().map_or(&[][..], |id| id);
        let call = Call {
            // In a cluster all records lie where the era does, which the braces say.
            keys: vec![self.era.clone(), format!("{}:d:{{{}}}:{user}", self.link.namespace(), self.era)],
            args: vec![record, from, life.as_bytes(), &candidate, disbelieved],
        };
        self.link.run(&self.exchange, &[call]).await
    }
}

impl Sealed for RedisDevices {}

impl DeviceStore for RedisDevices {
    async fn exchange(&self, user: Digest, exchange: Exchange) -> Result<Exchanged, TierError> {
        match self.run(user, &exchange).await?.pop() {
            Some(Value::ServerError(error)) => {
                Err(TierError::new("Redis refused to exchange a device's record")
                    .caused_by(redis::RedisError::from(error)))
            }
            answer => answered(answer.as_ref())
                .ok_or_else(|| TierError::new("Redis answered an exchange of a device's record with something else")),
        }
    }
}

fn answered(answer: Option<&Value>) -> Option<Exchanged> {
    let Some(Value::Array(fields)) = answer else { return None };
    let [Value::BulkString(era), Value::Int(begun_ms), Value::Int(old), Value::Int(new), Value::BulkString(record)] =
        fields.as_slice()
    else {
        return None;
    };
    let era = u64::from_be_bytes(era.as_slice().try_into().ok()?);
    // One byte more than a record has is taken for one that cannot be read.
    if era == 0 || record.len() > BYTES_MAX + 1 {
        return None;
    }
    Some(Exchanged {
        era,
        begun_ms: u64::try_from(*begun_ms).ok()?,
        is_old: *old == 1,
        is_new: *new == 1,
        record: record.clone(),
    })
}
