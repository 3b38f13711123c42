//! What one seed decides before anything runs: every run is another mixture, so that rare faults are not drowned by
//! frequent ones.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::time::Duration;

macro_rules! troubles {
    ($($name:ident,)+; $($later:ident,)+) => {
        /// Something that can go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Trouble {
            $($name,)+
            $($later,)+
        }

        impl Trouble {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)+ $(Self::$later,)+];
            /// Those that were drawn from the beginning: the others must not change what a seed decides about them.
            const FIRST: &[Self] = &[$(Self::$name,)+];
            const LATER: &[Self] = &[$(Self::$later,)+];
        }
    };
}

troubles! {
    // Standbys.
    Lag, Pause, ReportGap, Transit, RestartStandby, Conflict, Lie,
    // The primary.
    Stall, CrashPrimary, Tail, PageEnd, Promote, Fork, Restore,
    // Any server, and the way there.
    Freeze, Disconnect, Reroute,
    // An instance of the library dies.
    Death,
    // The shared server, and the way there.
    SharedDown, SharedWiped, SharedOlder, SharedEvicts, SharedFreezes, SharedFull, Deaf, CutOff,
    ;
    // A crash right after something was written that nobody waits for.
    LostTail,
    // The shared server fails over: to a copy that lacks the last moments, or not for everybody at once.
    SharedLags, SharedSplit,
}

/// Names each option with what the seed picks from. The first is the simplest: what a failing run is shrunk to.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $choices:expr,)+; $($(#[$ldoc:meta])* $lname:ident: $lchoices:expr,)+; $($(#[$sdoc:meta])* $sname:ident: $schoices:expr,)+) => {
        /// One run.
        #[derive(Debug, Clone)]
        pub(crate) struct Plan {
            pub(crate) seed: u64,
            pub(crate) troubles: BTreeSet<Trouble>,
            $($(#[$doc])* pub(crate) $name: u64,)+
            $($(#[$ldoc])* pub(crate) $lname: u64,)+
            $($(#[$sdoc])* pub(crate) $sname: u64,)+
        }

        impl Plan {
            /// Each option by its name, and what is picked from.
            pub(crate) const OPTIONS: &[(&str, &[u64])] = &[
                $((stringify!($name), &$choices),)+
                $((stringify!($lname), &$lchoices),)+
                $((stringify!($sname), &$schoices),)+
            ];

            fn pick(seed: u64, pick: impl Fn(&mut StdRng, &[u64]) -> u64, [dice, later, last]: [&mut StdRng; 3]) -> Self {
                Self {
                    seed,
                    troubles: BTreeSet::new(),
                    $($name: pick(dice, &$choices),)+
                    $($lname: pick(later, &$lchoices),)+
                    $($sname: pick(last, &$schoices),)+
                }
            }

            pub(crate) fn option(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    $(stringify!($lname) => Some(&mut self.$lname),)+
                    $(stringify!($sname) => Some(&mut self.$sname),)+
                    _ => None,
                }
            }
        }
    };
}

options! {
    /// The storm lasts for at least so many operations and so long.
    operations: [300, 300, 300, 300, 400],
    storm_ms: [300, 800, 2_000],
    /// Whether all is mended in the end, and everybody must be answered.
    healed: [0, 0, 1],
    instances: [1, 2, 2, 3, 4],
    standbys: [0, 1, 1, 2, 2, 3, 5],
    clients: [2, 4, 6, 9],
    /// Writers that do not use the library and retract nothing.
    strangers: [0, 0, 1],
    keys: [1, 2, 5, 20],
    /// The greater, the more all want the same key.
    skew: [1, 1, 2, 3],
    writes_percent: [5, 20, 40],
    monotonic_percent: [0, 30, 100],
    /// Reads that ask for nothing.
    any_percent: [8, 8, 60],
    /// Clients think, and then do several things in a row.
    think_ms_max: [20, 50, 120],
    burst: [2, 4, 8],
    latency_ms_max: [0, 1, 3, 12],
    cut_permille: [0, 0, 2, 20],
    abandon_permille: [0, 0, 20, 150],
    flush_ms: [0, 1, 4],
    visible_ms: [0, 1, 8, 25],
    /// Commits that do not wait for the flush. What a crash takes of them was never promised, so then there is none.
    asynchronous_percent: [0, 0, 0, 0, 0, 50],
    /// How far the wall clocks of the instances are apart.
    clock_skew_ms_max: [0, 0, 20, 400],
    /// Poolers stand before the servers.
    pooled: [0, 0, 0, 1],
    shared: [0, 1, 1],
    ledger: [0, 1, 1, 1],
    messages_lost_percent: [0, 0, 10, 60],
    messages_doubled_percent: [0, 0, 20],
    message_delay_ms_max: [0, 2, 40, 900],
    time_to_live_ms: [60_000, 3_000, 300],
    floor_slots: [4_096, 64, 2],
    deaf_age_ms_max: [0, 500, 5_000],
    wait_budget_ms: [0, 20, 100, 400],
    probe_interval_ms: [250, 50, 1_000],
    trouble_pause_ms_max: [300, 60, 1_000],
    /// How long troubles last, of their longest.
    trouble_percent: [100, 30],
    /// The old primary goes on after a promotion: reads of another instance's bounds cannot hold then.
    unfenced: [0, 0, 0, 1],
    // Drawn from another source, so that what stands above stays what it was for each seed.
    ;
    /// How often a session goes to another instance before its next step, as an object or as a token in text.
    roam_percent: [0, 0, 10, 40],
    /// How often it reads something that it wrote lately.
    again_percent: [0, 0, 30, 60],
    /// How often it goes elsewhere right after a write, and reads that there.
    follow_percent: [0, 0, 30, 80],
    /// How often the way to the shared server takes up to so long: with announcements, and with all else.
    announce_slow_permille: [0, 0, 0, 20, 300],
    line_slow_permille: [0, 0, 0, 20, 100],
    line_slow_ms_max: [30, 100, 240],
    /// Writers that dawdle before their COMMIT, or whose COMMIT does on its way, for longer than they are waited for.
    slow_writers_permille: [0, 0, 0, 0, 20],
    /// Writers that name what they change before they do.
    named_first_percent: [0, 50],
    // And from a third.
    ;
    /// Caches that ask only for what a session wrote of the key: none, those of all instances, those of every second.
    scoped: [0, 0, 1, 2],
    /// How long a read waits for the watermark rather than load.
    watermark_wait_ms: [0, 0, 2, 30],
}

/// Of the sources of what is drawn later.
const LATER: u64 = 0x5bd1_e995_7b93_b1a7;
const LAST: u64 = 0x2545_f491_4f6c_dd1d;

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let [mut dice, mut later, mut last] = [0, LATER, LAST].map(|source| StdRng::seed_from_u64(seed ^ source));
        let one_of = |dice: &mut StdRng, choices: &[u64]| choices[dice.random_range(0..choices.len())];
        let mut plan = Self::pick(seed, one_of, [&mut dice, &mut later, &mut last]);
        let corner = dice.random_range(0..8);
        let first = Trouble::FIRST.len();
        let among = [0, 3, 8, first][dice.random_range(0..4)];
        for (dice, troubles) in [(&mut dice, Trouble::FIRST), (&mut later, Trouble::LATER)] {
            for &trouble in troubles {
                if dice.random_range(0..first) < among {
                    plan.troubles.insert(trouble);
                }
            }
        }
        plan.corner(corner);
        if corner > 4 && later.random_range(0..4) > 0 {
            plan.corner_of_the_log(&mut later);
        }
        plan.settle();
        plan
    }

    /// Goes where several rare choices have to meet.
    fn corner(&mut self, corner: u64) {
        let crowd = |plan: &mut Self| {
            (plan.keys, plan.think_ms_max, plan.burst) = (plan.keys.min(2), 20, 8);
            (plan.clients, plan.latency_ms_max) = (plan.clients.max(6), plan.latency_ms_max.min(1));
        };
        match corner {
            // Everybody wants what is in the log and not visible yet.
            1 => {
                crowd(self);
                (self.standbys, self.visible_ms) = (self.standbys.max(1), 25);
                (self.monotonic_percent, self.writes_percent) = (self.monotonic_percent.max(30), 20);
                self.troubles = [Trouble::Stall, Trouble::Tail, Trouble::PageEnd].into();
            }
            // One failover after the other, with little between.
            2 => {
                crowd(self);
                (self.standbys, self.instances) = (self.standbys.max(2), self.instances.max(2));
                let troubles = [Trouble::Promote, Trouble::Fork, Trouble::Transit, Trouble::Tail, Trouble::Disconnect];
                (self.troubles, self.trouble_pause_ms_max) = (troubles.into(), 300);
            }
            // Tokens travel, the primary does not answer in time, and what is not flushed is lost.
            3 => {
                (self.instances, self.keys) = (self.instances.max(2), self.keys.min(2));
                (self.latency_ms_max, self.cut_permille) = (12, 5);
                let troubles = [Trouble::CrashPrimary, Trouble::Freeze, Trouble::Tail, Trouble::Disconnect];
                (self.troubles, self.trouble_pause_ms_max) = (troubles.into(), 300);
            }
            // Everything is learned from the log of retractions, or not at all.
            4 => {
                (self.standbys, self.instances, self.ledger, self.healed) = (0, self.instances.max(2), 1, 1);
                (self.deaf_age_ms_max, self.message_delay_ms_max, self.clock_skew_ms_max) = (0, 40, 0);
                (self.time_to_live_ms, self.floor_slots, self.keys) = (60_000, 4_096, 20);
                (self.any_percent, self.monotonic_percent, self.skew) = (60, 0, 1);
                let all = Trouble::FIRST.iter().copied().filter(|&trouble| trouble >= Trouble::SharedDown);
                self.troubles = all.collect();
            }
            _ => {}
        }
    }

    /// Entries are extended by what is known of the log, for sessions that go elsewhere after each write, and read what they
    /// wrote; and one thing of what the log has to stand goes wrong.
    fn corner_of_the_log(&mut self, later: &mut StdRng) {
        (self.instances, self.clients, self.strangers) = (self.instances.clamp(2, 3), self.clients.max(6), 0);
        (self.ledger, self.unfenced, self.standbys, self.pooled) = (1, 0, self.standbys.min(1), 0);
        (self.keys, self.skew, self.writes_percent, self.any_percent) = (5, 1, 20, 8);
        (self.think_ms_max, self.burst, self.abandon_permille) = (20, 4, 0);
        (self.latency_ms_max, self.flush_ms, self.visible_ms) = (self.latency_ms_max.min(3), 1, self.visible_ms.min(1));
        (self.monotonic_percent, self.asynchronous_percent) = (0, 0);
        (self.time_to_live_ms, self.floor_slots, self.deaf_age_ms_max) = (60_000, 4_096, 5_000);
        (self.messages_lost_percent, self.messages_doubled_percent, self.message_delay_ms_max) = (0, 0, 40);
        (self.roam_percent, self.again_percent, self.follow_percent, self.cut_permille) = (30, 40, 60, 0);
        (self.announce_slow_permille, self.line_slow_permille, self.slow_writers_permille) = (0, 0, 0);
        (self.trouble_pause_ms_max, self.trouble_percent, self.named_first_percent) = (1_000, 30, 0);
        (self.storm_ms, self.line_slow_ms_max, self.troubles) = (2_000, 240, BTreeSet::new());
        match later.random_range(0..8) {
            // Announcements that come late.
            0 => {
                (self.announce_slow_permille, self.line_slow_permille) = (300, 50);
            }
            // Writers that take longer than anybody waits for them.
            1 | 2 => {
                (self.keys, self.writes_percent, self.slow_writers_permille) = (20, 5, 60);
                (self.operations, self.storm_ms, self.think_ms_max) = (1_000, 4_000, 60);
            }
            // Positions are used a second time.
            3 => self.troubles.extend([Trouble::LostTail]),
            // Two logs at once.
            4 => {
                self.think_ms_max = 60;
                self.troubles.extend([Trouble::SharedSplit]);
            }
            // A log that lacks what it had told.
            5 => self.troubles.extend([Trouble::SharedLags]),
            // Some instances cannot tell anybody. What is read at once elsewhere is not old there any more.
            6 => {
                (self.instances, self.follow_percent, self.again_percent, self.trouble_pause_ms_max) = (3, 0, 60, 300);
                self.troubles.extend([Trouble::CutOff]);
            }
            // Messages are lost, and asked for again.
            _ => (self.messages_lost_percent, self.latency_ms_max, self.line_slow_permille) = (20, 12, 20),
        }
    }

    /// Takes out what contradicts itself.
    pub(super) fn settle(&mut self) {
        // What is shared must be retracted there, too.
        self.ledger |= self.shared;
        // An instance that starts after the primary was set back has not seen how far its log was.
        if self.troubles.is_superset(&[Trouble::Restore, Trouble::Death].into()) {
            self.troubles.remove(if self.seed.is_multiple_of(2) { &Trouble::Death } else { &Trouble::Restore });
        }
        if self.asynchronous_percent > 0 {
            let losing = [Trouble::CrashPrimary, Trouble::LostTail, Trouble::Promote, Trouble::Fork, Trouble::Restore];
            self.troubles.retain(|trouble| !losing.contains(trouble));
        }
    }

    /// Whether positions of two logs may bear the number of one timeline, before everybody has noticed.
    pub(crate) fn forks(&self) -> bool {
        let forking = [Trouble::Fork, Trouble::Restore];
        self.unfenced == 1 || forking.iter().any(|trouble| self.troubles.contains(trouble))
    }

    /// How long after a write was told to the other instances none of them shows anything older, even to those who ask for
    /// nothing: until they notice that they hear nothing, and then as long as such an entry is served. `None` where what
    /// they load may itself be old.
    pub(crate) fn told_within(&self) -> Option<Duration> {
        // Of two logs at once, each tells its own half.
        let halved = [Trouble::Restore, Trouble::SharedSplit].iter().any(|trouble| self.troubles.contains(trouble));
        let lags = self.standbys > 0 || self.unfenced == 1 || halved;
        let deaf_ms = 3_000 + self.deaf_age_ms_max;
        let ms = deaf_ms + self.message_delay_ms_max + self.clock_skew_ms_max + 1_000;
        (self.ledger == 1 && !lags).then_some(Duration::from_millis(ms))
    }

    /// Replaces options, each as `name=value`; `troubles` stand in one word, with commas, and `without` takes some out.
    pub(crate) fn set(&mut self, text: &str) {
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("{word} is not name=value"));
            let named = |trouble: &Trouble| value.split(',').any(|name| name == format!("{trouble:?}"));
            if name == "troubles" {
                self.troubles = Trouble::ALL.iter().copied().filter(named).collect();
            } else if name == "without" {
                self.troubles.retain(|trouble| !named(trouble));
            } else {
                let option = self.option(name).unwrap_or_else(|| panic!("there is no option {name}"));
                *option = value.parse().unwrap_or_else(|_| panic!("{word} is no number"));
            }
        }
        self.settle();
    }

    /// What [`set`](Self::set) has to be told to make this plan from the seed alone.
    pub(crate) fn changes(&self) -> String {
        let (mut drawn, mut own) = (Self::draw(self.seed), self.clone());
        let mut words = Vec::new();
        for (name, _) in Self::OPTIONS {
            if let (Some(drawn), Some(own)) = (drawn.option(name), own.option(name))
                && drawn != own
            {
                words.push(format!("{name}={own}"));
            }
        }
        if drawn.troubles != self.troubles {
            let names: Vec<_> = self.troubles.iter().map(|trouble| format!("{trouble:?}")).collect();
            words.push(format!("troubles={}", names.join(",")));
        }
        words.join(" ")
    }

    /// A source of chance of its own for each part of the run, so that one more question here changes nothing there.
    pub(crate) fn dice(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (part + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(crate) fn servers(&self) -> std::ops::RangeInclusive<usize> {
        0..=self.standbys as usize
    }
}
