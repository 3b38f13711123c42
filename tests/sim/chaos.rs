//! What goes wrong, one thing at a time or several at once, and how it is mended in the end.

mod failover;
mod shared;

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
use tokio::time::{Instant, sleep};

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
