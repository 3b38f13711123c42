//! What one seed decides before anything runs: every run is another mixture, so that rare faults are not drowned by
//! frequent ones.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::time::Duration;

/// Something that can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    Lag,
    Pause,
    ReportGap,
    Transit,
    RestartStandby,
    Stall,
    CrashPrimary,
    Freeze,
    Promote,
    Disconnect,
    Conflict,
    Tail,
    PageEnd,
    Lie,
    SharedDown,
    SharedWiped,
    SharedOlder,
    SharedEvicts,
    SharedFreezes,
    SharedFull,
    Deaf,
    CutOff,
}

impl Trouble {
    pub(crate) const ALL: [Self; 22] = [
        Self::Lag,
        Self::Pause,
        Self::ReportGap,
        Self::Transit,
        Self::RestartStandby,
        Self::Stall,
        Self::CrashPrimary,
        Self::Freeze,
        Self::Promote,
        Self::Disconnect,
        Self::Conflict,
        Self::Tail,
        Self::PageEnd,
        Self::Lie,
        Self::SharedDown,
        Self::SharedWiped,
        Self::SharedOlder,
        Self::SharedEvicts,
        Self::SharedFreezes,
        Self::SharedFull,
        Self::Deaf,
        Self::CutOff,
    ];
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) instances: usize,
    pub(crate) standbys: usize,
    pub(crate) clients: u64,
    /// Writers that do not use the library and retract nothing.
    pub(crate) strangers: u64,
    pub(crate) keys: u64,
    /// The greater, the more all want the same key.
    pub(crate) skew: u32,
    pub(crate) writes_percent: u32,
    pub(crate) monotonic_percent: u32,
    pub(crate) think_ms_max: u64,
    pub(crate) latency_ms_max: u64,
    pub(crate) cut_permille: u32,
    pub(crate) abandon_permille: u32,
    pub(crate) flush_ms: u64,
    pub(crate) visible_ms: u64,
    /// How far the wall clocks of the instances are apart.
    pub(crate) clock_skew_ms_max: u64,
    pub(crate) shared: bool,
    pub(crate) ledger: bool,
    pub(crate) messages_lost_percent: u32,
    pub(crate) messages_doubled_percent: u32,
    pub(crate) message_delay_ms_max: u64,
    pub(crate) time_to_live: Duration,
    pub(crate) floor_slots: usize,
    pub(crate) deaf_age_max: Duration,
    pub(crate) wait_budget: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) troubles: BTreeSet<Trouble>,
    pub(crate) trouble_pause_ms_max: u64,
    /// The old primary goes on after a promotion: reads of another instance's bounds cannot hold then.
    pub(crate) unfenced: bool,
    pub(crate) storm: Duration,
    pub(crate) calm: Duration,
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut pick = |choices: &[u64]| choices[dice.random_range(0..choices.len())];
        let mut plan = Self {
            seed,
            instances: pick(&[1, 2, 2, 3]) as usize,
            standbys: pick(&[0, 1, 1, 2, 2, 3]) as usize,
            clients: pick(&[2, 4, 6, 9]),
            strangers: pick(&[0, 0, 1]),
            keys: pick(&[1, 2, 5, 20]),
            skew: pick(&[1, 1, 2, 3]) as u32,
            writes_percent: pick(&[5, 20, 40]) as u32,
            monotonic_percent: pick(&[0, 30, 100]) as u32,
            think_ms_max: pick(&[5, 30, 150]),
            latency_ms_max: pick(&[0, 1, 3, 12]),
            cut_permille: pick(&[0, 0, 2, 20]) as u32,
            abandon_permille: pick(&[0, 0, 20, 150]) as u32,
            flush_ms: pick(&[0, 1, 4]),
            visible_ms: pick(&[0, 1, 8, 25]),
            clock_skew_ms_max: pick(&[0, 0, 20, 400]),
            shared: pick(&[0, 1, 1]) == 1,
            ledger: pick(&[0, 1, 1, 1]) == 1,
            messages_lost_percent: pick(&[0, 0, 10, 60]) as u32,
            messages_doubled_percent: pick(&[0, 0, 20]) as u32,
            message_delay_ms_max: pick(&[0, 2, 40, 900]),
            time_to_live: Duration::from_millis(pick(&[300, 3_000, 60_000])),
            floor_slots: pick(&[2, 64, 4_096]) as usize,
            deaf_age_max: Duration::from_millis(pick(&[0, 500, 5_000])),
            wait_budget: Duration::from_millis(pick(&[0, 20, 100, 400])),
            probe_interval: Duration::from_millis(pick(&[20, 250, 1_000])),
            troubles: BTreeSet::new(),
            trouble_pause_ms_max: pick(&[60, 300, 1_500]),
            unfenced: pick(&[0, 0, 1]) == 1,
            storm: Duration::from_millis(pick(&[4_000, 9_000])),
            calm: Duration::from_millis(2_000),
        };
        // What is shared must be retracted there, too.
        plan.ledger |= plan.shared;
        let corner = pick(&[0, 0, 0, 1, 2, 3]);
        let among = pick(&[0, 3, 8, 22]);
        for trouble in Trouble::ALL {
            if dice.random_range(0..22) < among {
                plan.troubles.insert(trouble);
            }
        }
        plan.corner(corner);
        plan
    }

    /// Goes where several rare choices have to meet.
    fn corner(&mut self, corner: u64) {
        let crowd = |plan: &mut Self| {
            (plan.keys, plan.think_ms_max) = (plan.keys.min(2), plan.think_ms_max.min(5));
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
                self.troubles = [Trouble::Promote, Trouble::Transit, Trouble::Tail, Trouble::Disconnect].into();
                self.trouble_pause_ms_max = 300;
            }
            // Tokens travel, the primary does not answer in time, and what is not flushed is lost.
            3 => {
                (self.instances, self.keys) = (self.instances.max(2), self.keys.min(2));
                (self.latency_ms_max, self.cut_permille) = (12, 5);
                let troubles = [Trouble::CrashPrimary, Trouble::Freeze, Trouble::Tail, Trouble::Disconnect];
                self.troubles = troubles.into();
                self.trouble_pause_ms_max = 300;
            }
            _ => {}
        }
    }

    /// A source of chance of its own for each part of the run, so that one more question here changes nothing there.
    pub(crate) fn dice(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (part + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}
