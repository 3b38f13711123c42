//! What goes wrong, one thing at a time or several at once, and how it is mended in the end.

use crate::plan::Trouble;
use crate::world::World;
use highwater::memory::Delivery;
use highwater::source::{Role, Source as _};
use highwater::{Lsn, Timeline};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Sets off troubles until the storm is over, and waits until the last has ended.
pub(crate) async fn storm(world: &Arc<World>) {
    world.set_calm(false);
    let mut dice = world.plan.dice(500);
    let until = Instant::now() + world.plan.storm;
    let troubles: Vec<Trouble> = world.plan.troubles.iter().copied().collect();
    let mut under_way = JoinSet::new();
    while Instant::now() < until {
        sleep(below(&mut dice, world.plan.trouble_pause_ms_max)).await;
        if !troubles.is_empty() {
            let trouble = troubles[dice.random_range(0..troubles.len())];
            let dice = StdRng::seed_from_u64(dice.random());
            under_way.spawn(Chaos { world: Arc::clone(world), dice }.make(trouble));
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Mends everything: one primary, all others its standbys, and a shared server that works.
pub(crate) async fn heal(world: &Arc<World>) {
    world.set_calm(true);
    let (cluster, shared) = (&world.cluster, &world.shared);
    let primary = world.primary().await;
    for server in 0..=world.plan.standbys {
        cluster.freeze(server, false);
        cluster.stall(server, false);
        cluster.tell_the_truth(server);
    }
    cluster.start(primary);
    for server in (0..=world.plan.standbys).filter(|&server| server != primary) {
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
    for client in 0..world.plan.instances {
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
            Trouble::Stall | Trouble::CrashPrimary | Trouble::Tail | Trouble::PageEnd => {
                self.bad_primary(trouble).await;
            }
            Trouble::Promote => self.promote().await,
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
            Trouble::CrashPrimary => {
                self.world.note(format_args!("server {primary} is killed at {:?}", cluster.token(primary)));
                cluster.kill(primary);
                sleep(below(&mut self.dice, 500)).await;
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
        let Some(new) = self.follower_of(old).await else { return };
        if !world.plan.unfenced {
            cluster.kill(old);
        }
        let at = world.at();
        let replacement = world.recorder.record(|history| history.replaced(at));
        self.absorb_all();
        if !cluster.promote(new) {
            cluster.start(old);
            return;
        }
        world.truth.lock().unwrap().promoted(cluster, new, replacement);
        world.note(format_args!("server {new} was promoted in the place of {old}: {:?}", cluster.token(new)));
        roles.primary = new;
        let others: Vec<usize> = (0..=world.plan.standbys).filter(|&server| server != new && server != old).collect();
        others.iter().for_each(|&server| cluster.follow(server, new));
        sleep(self.ms(1_200)).await;
        self.absorb_all();
        if world.plan.unfenced {
            cluster.kill(old);
        }
        cluster.rebuild(old, new);
        for server in others {
            if !self.follows(server, new).await {
                sleep(self.ms(300)).await;
                cluster.rebuild(server, new);
            }
        }
    }

    fn absorb_all(&self) {
        let mut truth = self.world.truth.lock().unwrap();
        (0..=self.world.plan.standbys).for_each(|server| truth.absorb(&self.world.cluster, server));
    }

    /// Any standby that streams from the primary's history.
    async fn follower_of(&mut self, primary: usize) -> Option<usize> {
        let standby = self.dice.random_range(0..=self.world.plan.standbys);
        (standby != primary && self.follows(standby, primary).await).then_some(standby)
    }

    async fn follows(&self, standby: usize, primary: usize) -> bool {
        let Some(token) = self.world.cluster.token(primary) else { return false };
        let source = self.world.cluster.source();
        let role = tokio::time::timeout(Duration::from_millis(5), source.probe(standby)).await;
        match role {
            Ok(Ok(probe)) => matches!(probe.role, Role::Standby { timeline, .. } if timeline == Some(token.timeline)),
            _ => false,
        }
    }

    async fn bad_shared(&mut self, trouble: Trouble) {
        let shared = self.world.shared.clone();
        let client = self.dice.random_range(0..self.world.plan.instances);
        let hold = self.ms(6_000);
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

    fn ms(&mut self, most: u64) -> Duration {
        below(&mut self.dice, most)
    }

    fn server(&mut self) -> usize {
        self.dice.random_range(0..=self.world.plan.standbys)
    }

    async fn standby(&mut self) -> Option<usize> {
        let server = self.server();
        (server != self.world.primary().await).then_some(server)
    }
}

fn below(dice: &mut StdRng, most: u64) -> Duration {
    Duration::from_millis(dice.random_range(0..=most))
}
