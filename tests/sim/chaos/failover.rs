//! Histories that are replaced.

use super::{Chaos, node_of};
use crate::plan::Trouble;
use crate::world::Roles;
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

impl Chaos {
    /// A failover to any standby that is on the present timeline, however far behind.
    pub(super) async fn promote(&mut self) {
        let world = Arc::clone(&self.world);
        let (cluster, mut roles) = (&world.cluster, world.roles.lock().await);
        let old = roles.primary;
        let Some(new) = self.follower_of(old) else { return };
        if world.plan.unfenced == 0 {
            cluster.kill(old);
        }
        if !self.take_over(Trouble::Promote, &mut roles, new) {
            cluster.start(old);
            return;
        }
        let others: Vec<usize> = world.plan.servers().filter(|&server| server != new && server != old).collect();
        others.iter().for_each(|&server| cluster.follow(server, new));
        sleep(self.ms(1_200)).await;
        self.absorb_all();
        if world.plan.unfenced == 1 {
            cluster.kill(old);
        }
        cluster.rebuild(old, new);
        for server in others {
            if cluster.upstream(server).is_none_or(|(upstream, _)| upstream != new) {
                sleep(self.ms(300)).await;
                cluster.rebuild(server, new);
            }
        }
    }

    /// A failover that is taken back: the new primary dies for good, and another standby of the old one is promoted, to a
    /// timeline of the same number.
    pub(super) async fn fork(&mut self) {
        let world = Arc::clone(&self.world);
        let (cluster, mut roles) = (&world.cluster, world.roles.lock().await);
        let old = roles.primary;
        let (Some(first), Some(second)) = (self.follower_of(old), self.follower_of(old)) else { return };
        if first == second {
            return;
        }
        // Two timelines that began at one place could not be told apart by anybody.
        cluster.set_transit(first, Duration::ZERO);
        cluster.set_transit(second, Duration::from_secs(3_600));
        cluster.write_unflushed(old, 1_000);
        cluster.flush(old);
        cluster.kill(old);
        cluster.set_transit(second, Duration::ZERO);
        if !self.take_over(Trouble::Fork, &mut roles, first) {
            cluster.start(old);
            return;
        }
        sleep(self.ms(600)).await;
        world.set_fenced(true);
        cluster.kill(first);
        if !self.take_over(Trouble::Fork, &mut roles, second) {
            cluster.start(first);
            roles.primary = first;
        }
        let primary = roles.primary;
        world.plan.servers().filter(|&server| server != primary).for_each(|server| cluster.rebuild(server, primary));
        self.unfence().await;
    }

    /// Promotes a standby. Sometimes the name of the old primary leads to it at once, but not where nobody could tell which
    /// of two logs with one number a transaction went to.
    fn take_over(&mut self, trouble: Trouble, roles: &mut Roles, new: usize) -> bool {
        let world = Arc::clone(&self.world);
        let replacement = world.recorder.record(|history| history.replaced(world.at()));
        self.absorb_all();
        if !world.cluster.promote(new) {
            return false;
        }
        world.truth.lock().unwrap().replaced(&world.cluster, new, replacement);
        let old = roles.primary;
        world.note(format_args!("server {new} was promoted in the place of {old}: {:?}", world.cluster.token(new)));
        if trouble == Trouble::Promote
            && self.dice.random_range(0..4) == 0
            && let (Some(one), Some(other)) = (node_of(roles, old), node_of(roles, new))
        {
            self.swap(roles, one, other);
        }
        roles.primary = new;
        true
    }

    /// The primary is set back to an older copy of itself, on the same timeline. What it had is lost; that is noticed by
    /// whoever has seen how far its log was, as long as the new log is shorter.
    pub(super) async fn restore(&mut self) {
        let world = Arc::clone(&self.world);
        let (cluster, roles) = (&world.cluster, world.roles.lock().await);
        let primary = roles.primary;
        let backup = cluster.backup(primary);
        // More than the log can grow before all have noticed: whatever is lost lies above it.
        cluster.write_unflushed(primary, 1 << 16);
        cluster.flush(primary);
        sleep(self.ms(600)).await;
        cluster.switch_segment(primary);
        if !self.all_have_looked().await {
            return;
        }
        let replacement = world.recorder.record(|history| history.replaced(world.at()));
        self.absorb_all();
        world.set_fenced(true);
        world.plan.servers().for_each(|server| cluster.kill(server));
        self.absorb_all();
        cluster.restore(primary, &backup);
        world.truth.lock().unwrap().replaced(cluster, primary, replacement);
        world.note(format_args!("server {primary} was set back to {:?}", cluster.token(primary)));
        world.plan.servers().filter(|&server| server != primary).for_each(|server| cluster.rebuild(server, primary));
        self.unfence().await;
    }

    /// Lets everybody through again, once all instances have asked the primary where it is: nothing but the log's own state
    /// tells two logs with the number of one timeline apart, and whoever has not looked is promised nothing.
    async fn unfence(&self) {
        while !self.all_have_looked().await {
            sleep(Duration::from_millis(20)).await;
        }
        self.world.set_fenced(false);
    }

    /// Whether all instances have asked the primary where it is.
    async fn all_have_looked(&self) -> bool {
        let instances = self.world.instances.lock().unwrap().clone();
        for instance in instances {
            let looked = matches!(timeout(Duration::from_secs(2), instance.store.token()).await, Ok(Ok(_)));
            if !looked && !self.world.is_dead(instance.number) {
                return false;
            }
        }
        true
    }

    fn absorb_all(&self) {
        let mut truth = self.world.truth.lock().unwrap();
        self.world.plan.servers().for_each(|server| truth.absorb(&self.world.cluster, server));
    }

    /// Any standby that streams from the primary's history.
    fn follower_of(&mut self, primary: usize) -> Option<usize> {
        let standby = self.server();
        let cluster = &self.world.cluster;
        let timeline = cluster.token(primary)?.timeline;
        cluster.upstream(standby).is_some_and(|followed| followed == (primary, timeline)).then_some(standby)
    }
}
