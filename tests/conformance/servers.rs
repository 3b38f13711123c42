//! Redis of each kind: in memory, a real one, a real cluster.

use crate::Result;
use highwater::devices::{DeviceStore, RedisDevices};
use highwater::ledger::{Ledger, RedisLedger};
use highwater::memory::Shared;
use highwater::testkit::{RedisCluster, RedisServer};
use highwater::tier::{RedisTier, SharedTier};
use highwater::{RedisLink, RedisSettings};

/// A Redis of either kind: its tier and its ledger.
pub(crate) trait Server: Sized {
    type Tier: SharedTier;
    type Ledger: Ledger;
    type Devices: DeviceStore;

    async fn devices(&self) -> Result<Self::Devices>;
    async fn start() -> Result<Self>;
    async fn open(&self) -> Result<(Self::Tier, Self::Ledger)>;
    /// Everything in it is lost, and it is back when this returns.
    async fn lose_everything(&self) -> Result;
}

impl Server for Shared {
    type Tier = Self;
    type Ledger = Self;
    type Devices = Self;

    async fn devices(&self) -> Result<Self> {
        Ok(self.client(3))
    }

    async fn start() -> Result<Self> {
        Ok(Self::new(1))
    }

    async fn open(&self) -> Result<(Self, Self)> {
        Ok((self.client(1), self.client(2)))
    }

    async fn lose_everything(&self) -> Result {
        self.set_down(true);
        self.wipe();
        self.set_down(false);
        Ok(())
    }
}

async fn both(link: RedisLink) -> Result<(RedisTier, RedisLedger)> {
    Ok((RedisTier::open(link.clone()).await?, RedisLedger::open(link).await?))
}

pub(crate) struct Redis(pub(crate) RedisServer);

impl Redis {
    pub(crate) async fn link(&self) -> Result<RedisLink> {
        Ok(RedisLink::connect(RedisSettings::new(self.0.url()).namespace("shop")).await?)
    }
}

impl Server for Redis {
    type Tier = RedisTier;
    type Ledger = RedisLedger;
    type Devices = RedisDevices;

    async fn devices(&self) -> Result<RedisDevices> {
        Ok(RedisDevices::open(self.link().await?).await?)
    }

    async fn start() -> Result<Self> {
        Ok(Self(RedisServer::start().await?))
    }

    async fn open(&self) -> Result<(RedisTier, RedisLedger)> {
        both(self.link().await?).await
    }

    async fn lose_everything(&self) -> Result {
        self.0.kill().await?;
        Ok(self.0.start_again().await?)
    }
}

/// Its nodes have the keys among them.
pub(crate) struct Clustered(RedisCluster);

impl Clustered {
    async fn link(&self) -> Result<RedisLink> {
        Ok(RedisLink::connect(RedisSettings::cluster(self.0.urls()).namespace("shop")).await?)
    }
}

impl Server for Clustered {
    type Tier = RedisTier;
    type Ledger = RedisLedger;
    type Devices = RedisDevices;

    async fn devices(&self) -> Result<RedisDevices> {
        Ok(RedisDevices::open(self.link().await?).await?)
    }

    async fn start() -> Result<Self> {
        Ok(Self(RedisCluster::start().await?))
    }

    async fn open(&self) -> Result<(RedisTier, RedisLedger)> {
        both(self.link().await?).await
    }

    async fn lose_everything(&self) -> Result {
        for server in self.0.servers() {
            server.kill().await?;
        }
        for server in self.0.servers() {
            server.start_again().await?;
        }
        Ok(self.0.wait_until_whole().await?)
    }
}
