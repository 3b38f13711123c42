//! The shared tier over Redis.

use super::shared::{Address, Offer, SharedTier, TierError};
use crate::Error;
use crate::redis_link::{Call, Lua, RedisLink};
use crate::sealed::Sealed;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// The shared tier in a Redis server, or spread over the nodes of a cluster.
///
/// Every operation is one round trip, bounded by the link's response time-out, and fails at once while there is no
/// connection. In a cluster it goes to all nodes at once, and a second and third time only while slots move.
#[derive(Debug, Clone)]
pub struct RedisTier {
    link: RedisLink,
    admit: Arc<Lua>,
}

impl RedisTier {
    /// The tier over this link, after a look at whether its commands are allowed. While there is no connection nothing
    /// is looked at.
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`Error::is_configuration`] where the Redis user lacks a right, with the `ACL SETUSER` that grants it.
    pub async fn open(link: RedisLink) -> Result<Self, Error> {
        let tier = Self { link, admit: Arc::new(admission()) };
        let name = tier.name(&Address { history: 0, key: crate::Digest::from_bytes([0; 16]) });
        let mut reads = redis::pipe();
        reads.cmd("GET").arg(&name).cmd("MGET").arg(&name).arg(&name);
        tier.link.misconfigured(tier.link.requests(&name, &mut reads).await)?;
        // Bytes that are no envelope are admitted nowhere, so this writes nothing.
        let offer = Call { keys: vec![name], args: vec![b"", b"1"] };
        tier.link.misconfigured(tier.link.run(&tier.admit, &[offer]).await)?;
        Ok(tier)
    }

    fn name(&self, address: &Address) -> String {
        entry_name(self.link.namespace(), address)
    }
}

/// The script that admits one entry or marker.
pub(crate) fn admission() -> Lua {
    Lua::new(concat!(include_str!("rule.lua"), include_str!("admit.lua")))
}

/// The key of an address.
pub(crate) fn entry_name(namespace: &str, address: &Address) -> String {
    format!("{namespace}:e:{:016x}:{}", address.history, address.key)
}

/// A life as Redis takes it: at least a millisecond, and below what overflows there.
pub(crate) fn life_ms(life: Duration) -> String {
    const CENTURY_MS: u128 = 100 * 365 * 24 * 3_600 * 1_000;
    life.as_millis().clamp(1, CENTURY_MS).to_string()
}

impl Sealed for RedisTier {}

impl SharedTier for RedisTier {
    async fn fetch(&self, addresses: &[Address]) -> Result<Vec<Option<Vec<u8>>>, TierError> {
        self.link.get(&addresses.iter().map(|address| self.name(address)).collect::<Vec<_>>()).await
    }

    async fn admit(&self, offers: Vec<Offer>) -> Result<(), TierError> {
        let lives: Vec<_> = offers.iter().map(|offer| life_ms(offer.life)).collect();
        let alive = offers.iter().zip(&lives).filter(|(offer, _)| offer.life >= Duration::from_millis(1));
        let calls: Vec<_> = alive
            .map(|(offer, life)| Call {
                keys: vec![self.name(&offer.address)],
                args: vec![offer.envelope.as_slice(), life.as_bytes()],
            })
            .collect();
        let outcomes = self.link.run(&self.admit, &calls).await?;
        let foreign = outcomes.iter().filter(|outcome| **outcome == Value::Int(-1)).count();
        if let Some(Value::ServerError(error)) =
            outcomes.iter().find(|outcome| matches!(outcome, Value::ServerError(_)))
        {
            return Err(TierError::new("Redis refused an entry").caused_by(redis::RedisError::from(error.clone())));
        }
        if foreign > 0 {
            return Err(TierError::new(format!(
                "{foreign} of {} entries were not stored: a value of another type lies at their address",
                offers.len()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(feature = "testkit")]
mod tests;
