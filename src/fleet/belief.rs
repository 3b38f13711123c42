//! What is believed of the servers, and which of them a read goes to. No I/O: beliefs come in, a choice comes out.

use crate::source::{FaultKind, NodeId, Role};
use crate::{Lsn, Timeline};
use std::time::Duration;

/// What is believed of one server. It can be wrong without harm: the position that counts is read on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Belief {
    pub(crate) standing: Standing,
    /// Smoothed time of one question and its answer.
    pub(crate) latency: Duration,
    /// Counts the questions that were begun; an answer that carries `n` was asked for after `n - 1` others.
    pub(crate) probes: u64,
    pub(crate) zone: Option<String>,
}

/// Whether a server may be used, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not asked yet.
    Unknown,
    /// It answered, and belongs to the present history.
    Up(Role),
    /// Taken out, until a question is answered well again.
    Out { why: FaultKind, note: String },
}

impl Belief {
    pub(crate) fn unknown(zone: Option<String>) -> Self {
        Self { standing: Standing::Unknown, latency: Duration::from_millis(1), probes: 0, zone }
    }

    fn standby(&self) -> Option<(Option<Timeline>, Lsn)> {
        match &self.standing {
            Standing::Up(Role::Standby { timeline, replay, .. }) => Some((*timeline, *replay)),
            _ => None,
        }
    }

    /// Whether a question begun after the first `probes` was left without an answer.
    pub(crate) fn is_silent_since(&self, probes: u64) -> bool {
        self.probes > probes && matches!(self.standing, Standing::Out { why: FaultKind::TimedOut, .. })
    }

    pub(crate) fn is_primary(&self, timeline: Timeline) -> bool {
        matches!(&self.standing, Standing::Up(Role::Primary { timeline: own, .. }) if *own == timeline)
    }
}

/// What a read needs of a replica.
#[derive(Debug)]
pub(crate) struct Want<'a> {
    pub(crate) timeline: Timeline,
    pub(crate) floor: Lsn,
    pub(crate) zone: Option<&'a str>,
    /// Servers that were tried for this load and fell short.
    pub(crate) tried: &'a [NodeId],
    /// Loads under way at each server.
    pub(crate) busy: Vec<usize>,
}

/// A detour into another zone must save this factor in load and latency before it is taken.
const OTHER_ZONE: u128 = 4;

/// The replica to ask: among those believed to be at the floor the one whose answer is likely to come first, by its
/// latency, the loads it has already, and its zone. `None` where none is believed to be there.
pub(crate) fn choose(beliefs: &[Belief], want: &Want<'_>) -> Option<NodeId> {
    // A timeline that the monitor could not confirm is left to the connection that answers.
    let at_floor = |belief: &Belief| {
        let right = |timeline: Option<Timeline>| timeline.is_none_or(|timeline| timeline == want.timeline);
        belief.standby().is_some_and(|(timeline, replay)| right(timeline) && replay >= want.floor)
    };
    let cost = |node: NodeId, belief: &Belief| {
        let queue = want.busy.get(node).copied().unwrap_or(0) as u128 + 1;
        let abroad = want.zone.is_some() && belief.zone.as_deref() != want.zone;
        belief.latency.as_micros().max(1) * queue * if abroad { OTHER_ZONE } else { 1 }
    };
    let candidates = beliefs.iter().enumerate().filter(|(node, belief)| !want.tried.contains(node) && at_floor(belief));
    candidates.min_by_key(|(node, belief)| cost(*node, belief)).map(|(node, _)| node)
}

/// Whether any replica that was not tried might still come to the floor, so that waiting makes sense.
pub(crate) fn may_arrive(beliefs: &[Belief], want: &Want<'_>) -> bool {
    beliefs.iter().enumerate().any(|(node, belief)| {
        !want.tried.contains(&node)
            && (belief.standby().is_some_and(|(timeline, _)| timeline == Some(want.timeline))
                || belief.standing == Standing::Unknown)
    })
}

/// How far behind the nearest replica of `timeline` says it is, if none is believed to be at `floor`. Zero where it does not
/// say; `None` where one is there, or there is none to wait for.
pub(crate) fn lag(beliefs: &[Belief], timeline: Timeline, floor: Lsn) -> Option<Duration> {
    let standbys = beliefs.iter().filter_map(|belief| match &belief.standing {
        Standing::Up(Role::Standby { timeline: Some(own), replay, lag }) if *own == timeline => Some((*replay, *lag)),
        _ => None,
    });
    let (replay, lag) = standbys.max_by_key(|(replay, _)| *replay)?;
    (replay < floor).then(|| lag.unwrap_or_default())
}

/// The replicas of `timeline`, and those whose timeline is not confirmed.
pub(crate) fn replicas(beliefs: &[Belief], timeline: Timeline) -> Vec<NodeId> {
    let right = |theirs: Option<Timeline>| theirs.is_none_or(|theirs| theirs == timeline);
    let is_one = |belief: &Belief| belief.standby().is_some_and(|(theirs, _)| right(theirs));
    beliefs.iter().enumerate().filter(|(_, belief)| is_one(belief)).map(|(node, _)| node).collect()
}

/// The server that is the primary of `timeline`.
pub(crate) fn primary(beliefs: &[Belief], timeline: Timeline) -> Option<NodeId> {
    beliefs.iter().position(|belief| belief.is_primary(timeline))
}

/// Smooths latency: an eighth of the new measurement, as TCP does for its round trips.
pub(crate) fn smooth(known: Duration, measured: Duration) -> Duration {
    (known * 7 + measured) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(replay: u64, latency_us: u64, zone: &str) -> Belief {
        let role = Role::Standby { timeline: Some(Timeline(1)), replay: Lsn::new(replay), lag: None };
        Belief {
            standing: Standing::Up(role),
            latency: Duration::from_micros(latency_us),
            probes: 1,
            zone: Some(zone.to_owned()),
        }
    }

    fn pick(beliefs: &[Belief], floor: u64, zone: Option<&str>, tried: &[NodeId], busy: &[usize]) -> Option<NodeId> {
        choose(beliefs, &Want { timeline: Timeline(1), floor: Lsn::new(floor), zone, tried, busy: busy.to_vec() })
    }

    #[test]
    fn only_replicas_at_the_floor_are_asked() {
        let fleet = [replica(10, 100, "a"), replica(20, 900, "a")];
        assert_eq!(pick(&fleet, 5, None, &[], &[0, 0]), Some(0));
        assert_eq!(pick(&fleet, 15, None, &[], &[0, 0]), Some(1));
        assert_eq!(pick(&fleet, 25, None, &[], &[0, 0]), None);
        assert_eq!(pick(&fleet, 5, None, &[0], &[0, 0]), Some(1));
    }

    #[test]
    fn load_latency_and_zone_decide() {
        let fleet = [replica(10, 100, "a"), replica(10, 150, "b")];
        assert_eq!(pick(&fleet, 5, None, &[], &[0, 0]), Some(0));
        assert_eq!(pick(&fleet, 5, None, &[], &[3, 0]), Some(1), "three loads wait there");
        assert_eq!(pick(&fleet, 5, Some("b"), &[], &[0, 0]), Some(1), "its own zone is near enough");
        assert_eq!(pick(&fleet, 5, Some("b"), &[], &[0, 30]), Some(0), "until it is overrun");
    }

    #[test]
    fn another_timeline_is_no_replica() {
        let mut fleet = [replica(99, 1, "a")];
        let want = |tried| Want { timeline: Timeline(2), floor: Lsn::ZERO, zone: None, tried, busy: vec![0] };
        assert_eq!(choose(&fleet, &want(&[])), None);
        assert!(!may_arrive(&fleet, &want(&[])));
        fleet[0].standing = Standing::Unknown;
        assert!(may_arrive(&fleet, &want(&[])) && !may_arrive(&fleet, &want(&[0])));
    }
}
