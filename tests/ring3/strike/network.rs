//! What happens to connections.

use super::Target;
use crate::Result;
use highwater::testkit::Proxy;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;
use tokio::time::sleep;

impl Target<'_> {
    fn any_network(&self, chance: &mut StdRng) -> &Proxy {
        let networks = &self.scene.networks;
        &networks[chance.random_range(0..networks.len())]
    }

    pub(super) async fn cut_postgres(&self, chance: &mut StdRng) -> Result {
        let network = self.any_network(chance);
        for _ in 0..5 {
            network.sever().await?;
            sleep(Duration::from_millis(100)).await;
        }
        self.cut(network, chance).await
    }

    pub(super) async fn cut_redis(&self, chance: &mut StdRng) -> Result {
        self.cut(&self.scene.redis_network, chance).await
    }

    async fn cut(&self, network: &Proxy, chance: &mut StdRng) -> Result {
        network.cut().await?;
        self.last(chance).await;
        Ok(network.heal().await?)
    }

    pub(super) async fn half_open_postgres(&self, chance: &mut StdRng) -> Result {
        self.half_open(self.any_network(chance), chance).await
    }

    pub(super) async fn half_open_redis(&self, chance: &mut StdRng) -> Result {
        self.half_open(&self.scene.redis_network, chance).await
    }

    async fn half_open(&self, network: &Proxy, chance: &mut StdRng) -> Result {
        if chance.random() {
            network.blackhole_to_client()
        } else {
            network.blackhole_to_server()
        }
        self.last(chance).await;
        Ok(network.heal().await?)
    }

    pub(super) async fn lose_commit_replies(&self, chance: &mut StdRng) -> Result {
        let network = &self.scene.networks[self.scene.primary_number()];
        for _ in 0..chance.random_range(5..20) {
            network.cut_replies_after(b"COMMIT");
            sleep(Duration::from_millis(100)).await;
        }
        Ok(network.heal().await?)
    }
}
