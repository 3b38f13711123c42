//! What goes wrong, one thing at a time or several at once, and how it is mended in the end.

use crate::instance::Instance;
use crate::plan::Trouble;
use crate::world::{Roles, World};
use highwater::memory::Delivery;
use highwater::source::Role;
use highwater::{Lsn, Timeline};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Longer than any storm takes to reach its number of operations.
const STORM_MAX: Duration = Duration::from_secs(600);

/// More than anybody does to one cluster within the life of a token.
const RESTORES_MAX: u64 = 3;

/// Sets off troubles until the storm is over, and waits until the last has ended.
pub(crate) async fn storm(world: &Arc<World>) {
    world.set_calm(false);
    let mut dice = world.plan.dice(500);
    let began = Instant::now();
    let troubles: Vec<Trouble> = world.plan.troubles.iter().copied().collect();
    let mut under_way = JoinSet::new();
    let storm = Duration::from_millis(world.plan.storm_ms);
    while began.elapsed() < storm || !world.is_enough() {
        assert!(began.elapsed() < STORM_MAX, "the operations do not come to an end");
        sleep(below(&mut dice, world.plan.trouble_pause_ms_max)).await;
        // Enough of that: what is left is to reach the number of operations.
        if !troubles.is_empty() && began.elapsed() < 4 * storm {
            let trouble = troubles[dice.random_range(0..troubles.len())];
            let mut faults = world.faults.lock().unwrap();
            let times = faults.entry(trouble).or_default();
            if trouble == Trouble::Restore && *times >= RESTORES_MAX {
                continue;
            }
            *times += 1;
            drop(faults);
            let dice = StdRng::seed_from_u64(dice.random());
            under_way.spawn(Chaos { world: Arc::clone(world), dice }.make(trouble));
        }
        sleep(below(&mut dice, 10)).await;
        world.rush.notify_waiters();
    }
    // Where nothing is mended, troubles need not end.
    while world.plan.healed == 1 && under_way.join_next().await.is_some() {}
}

/// Mends everything: one primary, all others its standbys, and a shared server that works.
pub(crate) async fn heal(world: &Arc<World>) {
    world.set_calm(true);
    let (cluster, shared) = (&world.cluster, &world.shared);
    let primary = {
        let mut roles = world.roles.lock().await;
        roles.routes = world.plan.servers().collect();
        roles.primary
    };
    for server in world.plan.servers() {
        cluster.reroute(server, server);
        cluster.freeze(server, false);
        cluster.stall(server, false);
        cluster.tell_the_truth(server);
    }
    cluster.start(primary);
    for server in world.plan.servers().filter(|&server| server != primary) {
        world.truth.lock().unwrap().absorb(cluster, server);
        cluster.set_lag(server, Duration::ZERO);
        cluster.set_report_gap(server, Duration::ZERO);
        cluster.set_transit(server, Duration::ZERO);
        cluster.rebuild(server, primary);
    }
    shared.set_delivery(Delivery::default());
    shared.set_full(false);
    shared.freeze(false);
    shared.set_down(false);
    shared.unite();
    for client in 0..world.started.load(Ordering::Relaxed) as usize {
        shared.deafen(client, false);
        shared.cut_off(client, false);
    }
}

struct Chaos {
    world: Arc<World>,
    dice: StdRng,
}

impl Chaos {
    async fn make(mut self, trouble: Trouble) {
        let world = Arc::clone(&self.world);
        world.note(format_args!("{trouble:?} begins"));
        match trouble {
            Trouble::Lag | Trouble::Pause | Trouble::ReportGap | Trouble::Transit => self.slow_standby(trouble).await,
            Trouble::RestartStandby | Trouble::Conflict | Trouble::Lie => self.bad_standby(trouble).await,
            Trouble::Stall | Trouble::CrashPrimary | Trouble::LostTail | Trouble::Tail | Trouble::PageEnd => {
                self.bad_primary(trouble).await;
            }
            Trouble::Promote => self.promote().await,
            Trouble::Fork => self.fork().await,
            Trouble::Restore => self.restore().await,
            Trouble::Reroute => self.reroute().await,
            Trouble::Death => self.kill_instance().await,
            Trouble::Freeze => {
                let server = self.server();
                self.world.cluster.freeze(server, true);
                sleep(self.ms(1_500)).await;
                self.world.cluster.freeze(server, false);
            }
            Trouble::Disconnect => {
                let server = self.server();
                self.world.cluster.disconnect(server);
            }
            _ => self.bad_shared(trouble).await,
        }
        world.note(format_args!("{trouble:?} is over"));
    }

    async fn slow_standby(&mut self, trouble: Trouble) {
        let Some(standby) = self.standby().await else { return };
        let (time, hold) = (self.ms(400), self.ms(2_000));
        let cluster = self.world.cluster.clone();
        let set = |time| match trouble {
            Trouble::Lag => cluster.set_lag(standby, time),
            Trouble::ReportGap => cluster.set_report_gap(standby, time / 8),
            Trouble::Transit => cluster.set_transit(standby, time),
            _ => cluster.pause(standby, !time.is_zero()),
        };
        set(time);
        sleep(hold).await;
        set(Duration::ZERO);
    }

    async fn bad_standby(&mut self, trouble: Trouble) {
        let Some(standby) = self.standby().await else { return };
        let cluster = self.world.cluster.clone();
        match trouble {
            Trouble::RestartStandby => {
                let _roles = self.world.roles.lock().await;
                if cluster.token(standby).is_none() {
                    cluster.kill(standby);
                    sleep(below(&mut self.dice, 400)).await;
                    let (back, hold) = (self.dice.random_range(0..30), below(&mut self.dice, 300));
                    cluster.start_back(standby, back, hold);
                }
            }
            Trouble::Conflict => (0..self.dice.random_range(1..6)).for_each(|_| cluster.conflict(standby)),
            _ => {
                let told = if self.dice.random_bool(0.6) { Lsn::new(u64::MAX / 2) } else { Lsn::ZERO };
                let timeline = Timeline(self.dice.random_range(1..4));
                let lie_of_timeline = self.dice.random_bool(0.3);
                cluster.lie(standby, move |mut probe| {
                    if let Role::Standby { timeline: known, replay, .. } = &mut probe.role {
                        *replay = told;
                        *known = if lie_of_timeline { Some(timeline) } else { *known };
                    }
                    probe
                });
                sleep(self.ms(1_500)).await;
                cluster.tell_the_truth(standby);
            }
        }
    }

    async fn bad_primary(&mut self, trouble: Trouble) {
        let (cluster, roles) = (self.world.cluster.clone(), self.world.roles.lock().await);
        let primary = roles.primary;
        match trouble {
            Trouble::CrashPrimary | Trouble::LostTail => {
                if trouble == Trouble::LostTail {
                    // Somebody's long transaction goes on writing, and each commit flushes what it wrote until then.
                    for _ in 0..self.dice.random_range(10..60) {
                        cluster.write_unflushed(primary, self.dice.random_range(100..2_000));
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                self.world.note(format_args!("server {primary} is killed at {:?}", cluster.token(primary)));
                cluster.kill(primary);
                sleep(below(&mut self.dice, if trouble == Trouble::LostTail { 50 } else { 500 })).await;
                cluster.start(primary);
                self.world.note(format_args!("server {primary} starts at {:?}", cluster.token(primary)));
            }
            Trouble::Stall => {
                drop(roles);
                cluster.stall(primary, true);
                sleep(below(&mut self.dice, 600)).await;
                cluster.stall(primary, false);
            }
            Trouble::Tail => cluster.write_unflushed(primary, self.dice.random_range(1..20_000)),
            _ => cluster.fill_page(primary),
        }
    }

    /// A failover to any standby that is on the present timeline, however far behind.
    async fn promote(&mut self) {
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
    async fn fork(&mut self) {
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
    async fn restore(&mut self) {
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

    /// A name leads to another server for a while, as behind a pooler or in DNS.
    async fn reroute(&mut self) {
        let world = Arc::clone(&self.world);
        let (one, other) = (self.server(), self.server());
        let swap = |chaos: &Self, roles: &mut Roles| chaos.swap(roles, one, other);
        swap(self, &mut *world.roles.lock().await);
        sleep(self.ms(1_000)).await;
        swap(self, &mut *world.roles.lock().await);
    }

    fn swap(&self, roles: &mut Roles, one: usize, other: usize) {
        roles.routes.swap(one, other);
        for node in [one, other] {
            self.world.cluster.reroute(node, roles.routes[node]);
        }
    }

    /// An instance dies, and another is started in its place.
    async fn kill_instance(&mut self) {
        let world = Arc::clone(&self.world);
        let place = self.dice.random_range(0..world.plan.instances as usize);
        let old = world.instance(place);
        if world.is_dead(old.number) {
            return;
        }
        old.die(&world);
        world.note(format_args!("instance {} dies", old.number));
        sleep(self.ms(400)).await;
        while !world.is_over() {
            if let Some(new) = Instance::start(&world).await {
                world.note(format_args!("instance {} stands in its place", new.number));
                world.instances.lock().unwrap()[place] = new;
                break;
            }
        }
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

    async fn bad_shared(&mut self, trouble: Trouble) {
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

    fn ms(&mut self, most: u64) -> Duration {
        below(&mut self.dice, most * self.world.plan.trouble_percent / 100)
    }

    fn server(&mut self) -> usize {
        self.dice.random_range(self.world.plan.servers())
    }

    async fn standby(&mut self) -> Option<usize> {
        let server = self.server();
        (server != self.world.roles.lock().await.primary).then_some(server)
    }
}

fn node_of(roles: &Roles, server: usize) -> Option<usize> {
    roles.routes.iter().position(|&routed| routed == server)
}

fn below(dice: &mut StdRng, most: u64) -> Duration {
    Duration::from_millis(dice.random_range(0..=most))
}
