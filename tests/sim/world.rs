//! What all parts of a run share: the servers, the clock, the history, and the way between them.

use crate::instance::Instance;
use crate::plan::{Plan, Trouble};
use crate::truth::Truth;
use highwater::Token;
use highwater::memory::{self, Call, Cluster, Delivery, Fate, Line, Network, Shared, Step, Way};
use highwater::testkit::history::{Recorder, SessionId};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a COMMIT takes that dawdles: about as long as an announcement is waited for, or longer.
const SLOW_MS: RangeInclusive<u64> = 1_200..=2_600;

/// How long what an instance does next is held up by the same pause, if it comes soon.
const PAUSE_MS: RangeInclusive<u64> = 10..=80;
const PAUSE_LEFT: Duration = Duration::from_millis(40);

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) cluster: Cluster,
    pub(crate) shared: Shared,
    pub(crate) recorder: Recorder,
    pub(crate) truth: Mutex<Truth>,
    pub(crate) roles: tokio::sync::Mutex<Roles>,
    /// Those that live; each is replaced where it stood.
    pub(crate) instances: Mutex<Vec<Instance>>,
    /// How many were ever started: each has a number of its own.
    pub(crate) started: AtomicU64,
    dead: Mutex<BTreeSet<usize>>,
    /// Until when the COMMIT that dawdled last took, by instance: a pause seldom ends with one step.
    dawdled: Mutex<BTreeMap<usize, Instant>>,
    /// Tokens that clients have left for each other, by the client, each under a session of its own for the checker.
    pub(crate) tokens: Mutex<BTreeMap<u64, Left>>,
    /// What went wrong when, for whoever reads about a failure.
    pub(crate) diary: Mutex<Vec<String>>,
    pub(crate) faults: Mutex<BTreeMap<Trouble, u64>>,
    /// Wakes clients, so that something happens while something goes wrong.
    pub(crate) rush: Notify,
    operations: AtomicU64,
    began: Instant,
    /// The faults have not begun, or are over.
    calm: AtomicBool,
    /// Nobody gets through but whoever asks the servers what they are.
    fenced: AtomicBool,
    /// Clients end.
    over: AtomicBool,
}

/// A token that was left for others.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub(crate) by: SessionId,
    pub(crate) token: Token,
    /// What its giver wrote lately.
    pub(crate) wrote: VecDeque<u64>,
}

/// Who is what, as whoever sets off failovers knows it.
#[derive(Debug)]
pub(crate) struct Roles {
    pub(crate) primary: usize,
    /// The server behind each node.
    pub(crate) routes: Vec<usize>,
}

impl Roles {
    /// A node that leads to the server.
    fn node_of(&self, server: usize) -> usize {
        self.routes.iter().position(|&routed| routed == server).unwrap_or(server)
    }
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Arc<Self> {
        let cluster = Cluster::new(plan.standbys as usize);
        let ms = Duration::from_millis;
        cluster.set_commit_pace(ms(plan.flush_ms), ms(plan.visible_ms));
        plan.servers().for_each(|node| cluster.set_pooled(node, plan.pooled == 1));
        let world = Arc::new(Self {
            plan: plan.clone(),
            cluster,
            shared: Shared::new(plan.seed),
            recorder: Recorder::new(),
            truth: Mutex::default(),
            roles: tokio::sync::Mutex::new(Roles { primary: 0, routes: plan.servers().collect() }),
            instances: Mutex::default(),
            started: AtomicU64::new(0),
            dead: Mutex::default(),
            dawdled: Mutex::default(),
            tokens: Mutex::default(),
            diary: Mutex::default(),
            faults: Mutex::default(),
            rush: Notify::new(),
            operations: AtomicU64::new(0),
            began: Instant::now(),
            calm: AtomicBool::new(true),
            fenced: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&world);
        let dice = Mutex::new(plan.dice(1_000));
        world.shared.set_delivery(Delivery::new(move |_, _| match weak.upgrade() {
            Some(world) if !world.is_calm() => world.deliver(&mut dice.lock().unwrap()),
            _ => vec![Duration::ZERO],
        }));
        let weak = Arc::downgrade(&world);
        let dice = Mutex::new(plan.dice(1_001));
        let slow = Mutex::new(plan.dice(1_002));
        world.shared.set_line(Line::new(move |client, call, way| match weak.upgrade() {
            Some(world) if !world.is_dead(client) => {
                let fate = world.fate(&mut dice.lock().unwrap(), true);
                let plan = &world.plan;
                let (permille, ms) = match (call, way) {
                    (Call::Announce, Way::There) => (plan.announce_slow_permille, 0..=plan.line_slow_ms_max),
                    (Call::Retract, Way::There) if world.has_just_dawdled(client) => (1_000, PAUSE_MS),
                    _ => (plan.line_slow_permille, 0..=plan.line_slow_ms_max),
                };
                world.slowed(fate, &mut slow.lock().unwrap(), permille, ms)
            }
            Some(_) => Fate::Cut,
            None => Fate::Pass(Duration::ZERO),
        }));
        world
    }

    /// Microseconds since the run began.
    pub(crate) fn at(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn is_dead(&self, instance: usize) -> bool {
        self.dead.lock().unwrap().contains(&instance)
    }

    /// Nothing comes out of this instance any more, and nothing goes in.
    pub(crate) fn bury(&self, instance: usize) {
        self.dead.lock().unwrap().insert(instance);
    }

    /// The instance that stands at this place now.
    pub(crate) fn instance(&self, place: usize) -> Instance {
        self.instances.lock().unwrap()[place].clone()
    }

    /// One more operation.
    pub(crate) fn count(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there were as many operations as the plan wants.
    pub(crate) fn is_enough(&self) -> bool {
        self.operations.load(Ordering::Relaxed) >= self.plan.operations
    }

    pub(crate) fn note(&self, what: impl fmt::Display) {
        let line = format!("{:>10} us: {what}", self.at());
        self.diary.lock().unwrap().push(line);
    }

    /// A node that leads to the primary, or to the server that will be it when the failover under way is over.
    pub(crate) async fn primary(&self) -> usize {
        let roles = self.roles.lock().await;
        roles.node_of(roles.primary)
    }

    pub(crate) fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    pub(crate) fn set_fenced(&self, fenced: bool) {
        self.fenced.store(fenced, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.rush.notify_waiters();
    }

    /// One way to the servers; that of an instance ends with it.
    pub(crate) fn source(self: &Arc<Self>, part: u64, instance: Option<usize>) -> memory::Source {
        let weak = Arc::downgrade(self);
        let dice = Mutex::new(self.plan.dice(2_000 + part));
        let slow = Mutex::new(self.plan.dice(3_000 + part));
        self.cluster.source_over(Network::new(move |_, step| match weak.upgrade() {
            Some(world) => {
                let asked = matches!(step, Step::Connect | Step::Probe | Step::Timeline | Step::Answer);
                let fenced = !asked && world.fenced.load(Ordering::Relaxed);
                if fenced || instance.is_some_and(|instance| world.is_dead(instance)) {
                    return Fate::Cut;
                }
                let dear = matches!(step, Step::Acknowledge | Step::Commit);
                match world.fate(&mut dice.lock().unwrap(), dear) {
                    // Time stands still while anybody can go on, so what asks without end must take some.
                    Fate::Pass(time) if matches!(step, Step::Probe | Step::Connect) => {
                        Fate::Pass(time.max(Duration::from_millis(1)))
                    }
                    fate if step == Step::Commit => {
                        let slower =
                            world.slowed(fate, &mut slow.lock().unwrap(), world.plan.slow_writers_permille, SLOW_MS);
                        if let (Some(instance), Fate::Pass(time)) = (instance, slower)
                            && slower != fate
                        {
                            world.dawdled.lock().unwrap().insert(instance, Instant::now() + time);
                        }
                        slower
                    }
                    fate => fate,
                }
            }
            None => Fate::Pass(Duration::ZERO),
        }))
    }

    fn fate(&self, dice: &mut StdRng, dear: bool) -> Fate {
        let calm = self.is_calm();
        // A lost answer to a commit is worth more than a lost question.
        let cut = self.plan.cut_permille * if dear { 3 } else { 1 };
        if !calm && cut > 0 && dice.random_range(0..1_000) < cut {
            return Fate::Cut;
        }
        let most = if calm { self.plan.latency_ms_max.min(2) } else { self.plan.latency_ms_max };
        Fate::Pass(Duration::from_millis(dice.random_range(0..=most)))
    }

    fn has_just_dawdled(&self, instance: usize) -> bool {
        let until = self.dawdled.lock().unwrap().get(&instance).copied();
        until.is_some_and(|until| until <= Instant::now() && until.elapsed() < PAUSE_LEFT)
    }

    /// Now and then something takes longer than all else.
    fn slowed(&self, fate: Fate, dice: &mut StdRng, permille: u64, ms: RangeInclusive<u64>) -> Fate {
        let slow = permille > 0 && !self.is_calm() && dice.random_range(0..1_000) < permille;
        if slow && fate != Fate::Cut { Fate::Pass(Duration::from_millis(dice.random_range(ms))) } else { fate }
    }

    fn deliver(&self, dice: &mut StdRng) -> Vec<Duration> {
        let plan = &self.plan;
        if dice.random_range(0..100) < plan.messages_lost_percent {
            return Vec::new();
        }
        let copies = 1 + usize::from(dice.random_range(0..100) < plan.messages_doubled_percent);
        (0..copies).map(|_| Duration::from_millis(dice.random_range(0..=plan.message_delay_ms_max))).collect()
    }
}
