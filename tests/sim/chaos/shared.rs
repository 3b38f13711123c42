//! What goes wrong with the server that instances share.

use super::{Chaos, below};
use crate::plan::Trouble;
use rand::RngExt;
use tokio::time::sleep;

impl Chaos {
    pub(super) async fn bad_shared(&mut self, trouble: Trouble) {
        let shared = self.world.shared.clone();
        let client = self.world.instance(self.dice.random_range(0..self.world.plan.instances as usize)).number;
        let hold = self.ms(5_000);
        match trouble {
            Trouble::SharedDown => {
                shared.set_down(true);
                sleep(hold).await;
                if self.dice.random_bool(0.5) {
                    shared.wipe();
                }
                shared.set_down(false);
            }
            Trouble::SharedWiped => shared.wipe(),
            Trouble::SharedOlder => {
                let copy = shared.copy();
                sleep(hold).await;
                shared.fall_back(&copy);
            }
            Trouble::SharedLags => {
                // What was on its way to the subscribers ends with the server.
                let half: Vec<usize> = self.some_clients();
                let copy = shared.copy();
                half.iter().for_each(|&client| shared.deafen(client, true));
                sleep(below(&mut self.dice, 60)).await;
                shared.fall_back(&copy);
                half.iter().for_each(|&client| shared.deafen(client, false));
            }
            Trouble::SharedSplit => {
                shared.split(self.some_clients());
                sleep(hold).await;
                shared.unite();
            }
            Trouble::SharedEvicts if self.dice.random_bool(0.3) => shared.evict_log(),
            Trouble::SharedEvicts => shared.evict(|_| self.dice.random_bool(0.5)),
            Trouble::SharedFreezes => {
                shared.freeze(true);
                sleep(hold).await;
                shared.freeze(false);
            }
            Trouble::SharedFull => {
                shared.set_full(true);
                sleep(hold).await;
                shared.set_full(false);
            }
            Trouble::Deaf => {
                shared.deafen(client, true);
                sleep(hold).await;
                shared.deafen(client, false);
            }
            _ => {
                shared.cut_off(client, true);
                sleep(hold).await;
                shared.cut_off(client, false);
            }
        }
    }

    /// About half of the instances that live.
    fn some_clients(&mut self) -> Vec<usize> {
        let instances = self.world.instances.lock().unwrap().clone();
        instances.iter().map(|instance| instance.number).filter(|_| self.dice.random_bool(0.5)).collect()
    }
}
