//! What can be done to the shared server.

use super::bus::Delivery;
use super::edge::Shared;
use super::redis::{Copy, Redis};
use crate::tier::Address;

impl Shared {
    /// Takes the server down with all connections, or brings it up again with what it held, as another process and under
    /// another replication id.
    pub fn set_down(&self, down: bool) {
        self.world.change(|redis| {
            redis.replication += u64::from(down);
            redis.up = !down;
            redis.server += u64::from(down);
            redis.break_connections();
        });
    }

    /// Stops the server in its tracks, or lets it go on: requests pile up and are carried out later.
    pub fn freeze(&self, frozen: bool) {
        self.world.change(|redis| redis.frozen = frozen);
    }

    /// Lets all writes fail for lack of memory, or succeed again.
    pub fn set_full(&self, full: bool) {
        self.world.change(|redis| redis.full = full);
    }

    /// Deletes everything, the log with it (`FLUSHALL`). Connections stay.
    pub fn wipe(&self) {
        self.world.change(|redis| redis.contents = Copy::default());
    }

    /// A copy of everything that the server holds.
    #[must_use]
    pub fn copy(&self) -> Copy {
        self.world.look(|redis| redis.contents.clone())
    }

    /// Puts an older copy in the place of what the server holds: a failover to a replica that was behind. Connections
    /// stay, as when the replica is promoted behind one address. A promotion changes the replication id.
    pub fn fall_back(&self, copy: &Copy) {
        self.world.change(|redis| {
            redis.replication += 1;
            redis.server += 1;
            redis.contents = copy.clone();
        });
    }

    /// Promotes a replica that lacks nothing, and leaves these clients with the old server, which goes on for them: two logs
    /// at once, of two lineages. All others have to subscribe again.
    pub fn split(&self, left: impl IntoIterator<Item = usize>) {
        self.world.change(|redis| redis.split(left.into_iter().collect()));
    }

    /// Leads these clients, and no others, to the old server that [`split`](Self::split) left behind, as an address does that
    /// is switched back to it.
    pub fn lead_back(&self, clients: impl IntoIterator<Item = usize>) {
        self.world.change(|redis| redis.lead_back(clients.into_iter().collect()));
    }

    /// Ends what [`split`](Self::split) began: the old server is lost, with what only it was told.
    pub fn unite(&self) {
        self.world.change(Redis::unite);
    }

    /// Breaks all connections; subscriptions end.
    pub fn disconnect(&self) {
        self.world.change(|redis| redis.break_connections());
    }

    /// Evicts the entries and markers that `choose` names.
    pub fn evict(&self, mut choose: impl FnMut(&Address) -> bool) {
        self.world.change(|redis| {
            let before = redis.contents.slots.len();
            redis.contents.slots.retain(|address, _| !choose(address));
            redis.server += (before - redis.contents.slots.len()) as u64;
        });
    }

    /// Evicts what is kept of the users' devices.
    pub fn evict_users(&self) {
        self.world.change(|redis| {
            redis.server += redis.contents.users.len() as u64;
            redis.contents.users.clear();
        });
    }

    /// Evicts the log: its id, its sequence number and its generation go together.
    pub fn evict_log(&self) {
        self.world.change(|redis| redis.contents.log = None);
    }

    /// Lets somebody change the stored bytes.
    pub fn tamper(&self, mut change: impl FnMut(&Address, &mut Vec<u8>)) {
        self.world.change(|redis| {
            redis.contents.slots.iter_mut().for_each(|(address, slot)| change(address, &mut slot.bytes));
        });
    }

    /// The same with what is kept of the users' devices.
    pub fn tamper_users(&self, mut change: impl FnMut(&mut Vec<u8>)) {
        self.world.change(|redis| redis.contents.users.values_mut().for_each(|slot| change(&mut slot.bytes)));
    }

    /// How many entries and markers the server holds, expired ones that nobody has asked for included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.world.look(|redis| redis.contents.slots.len())
    }

    /// Whether the server holds no entry and no marker.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the delivery in charge of all messages that are published from now on.
    pub fn set_delivery(&self, delivery: Delivery) {
        self.world.change(|redis| redis.bus.delivery = delivery);
    }

    /// Tells everybody who is subscribed something that is not of the log: another release, or a stranger.
    pub fn publish(&self, bytes: &[u8]) {
        self.world.change(|redis| redis.publish(bytes));
    }

    /// Makes a client deaf, or lets it hear again: its subscriptions stay open and new ones are confirmed, and nothing
    /// arrives.
    pub fn deafen(&self, client: usize, deaf: bool) {
        self.world.change(|redis| match deaf {
            true => redis.bus.deaf.insert(client),
            false => redis.bus.deaf.remove(&client),
        });
    }

    /// Drops everything between a client and the server, or lets it pass again: its calls are never answered, and its
    /// subscriptions hear nothing.
    pub fn cut_off(&self, client: usize, cut_off: bool) {
        self.world.change(|redis| match cut_off {
            true => redis.cut_off.insert(client),
            false => redis.cut_off.remove(&client),
        });
    }
}
