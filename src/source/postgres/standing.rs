//! Where a server stands: what its own statements say, and which position that proves.

use super::super::{Fault, FaultKind};
use super::sqlstate::{self, Author};
use crate::rules::{Rule, holds};
use crate::{Lsn, Origin, Timeline, WalLayout};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Error, Row};

/// One unbroken run of a server: a position may be remembered within it and no longer.
///
/// The start of the postmaster is not enough: after the crash of a backend the postmaster lives on, and a standby
/// replays again from its last restart point, perhaps along another timeline, and a primary gives transaction ids out again
/// that it had not flushed. All processes are then new ones, the checkpointer among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) system_identifier: u64,
    /// `pg_postmaster_start_time()`, in microseconds.
    started: i64,
    /// Start of the checkpointer, in microseconds; `None` for lack of `pg_read_all_stats`.
    lives_since: Option<i64>,
}

/// The columns of [`Run`], for statements that tell it.
macro_rules! run_columns {
    () => {
        "(pg_control_system()).system_identifier, \
         (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8, \
         (select (extract(epoch from backend_start) * 1000000)::int8 from pg_stat_activity \
          where backend_type = 'checkpointer' limit 1)"
    };
}

/// The columns that every statement about the position begins with; `from_position` ends it.
macro_rules! position_columns {
    () => {
        "select r, lsn, timeline, (select concat(status, ':', received_tli) from pg_stat_wal_receiver where r)"
    };
}

/// Recovery is asked about once and first: asked twice, a promotion in between would pass a primary's position off as
/// a standby's. Then the position. The receiver comes last, because its subquery depends on the row with the position.
/// `offset 0` keeps the planner from folding the levels into one.
macro_rules! from_position {
    () => {
        " from (select r, \
         case when r then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end as lsn, \
         case when r then null else substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) end as timeline \
         from (select pg_is_in_recovery() as r offset 0) as server offset 0) as position"
    };
}

macro_rules! log_end_columns {
    () => {
        "select lsn, substr(pg_walfile_name(lsn), 1, 8), pg_current_wal_flush_lsn()"
    };
}

macro_rules! from_log {
    () => {
        " from (select pg_current_wal_insert_lsn() as lsn offset 0) as log"
    };
}

/// The last column tells who answers: on a direct connection always the same.
pub(super) const POSITION: &str = concat!(position_columns!(), ", pg_backend_pid()", from_position!());
pub(super) const POSITION_AND_RUN: &str = concat!(position_columns!(), ", ", run_columns!(), from_position!());

/// What the monitor asks: position and run, then the insert position of a primary, or the age of the last commit that
/// a standby has replayed.
pub(super) const PROBE: &str = concat!(
    position_columns!(),
    ", ",
    run_columns!(),
    ", case when not r then pg_current_wal_insert_lsn() end, \
     case when not r then null \
          when pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() then 0::float8 \
          else extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8 end, \
     pg_backend_pid()",
    from_position!()
);
pub(super) const RUN: &str = concat!(
    "select ",
    run_columns!(),
    ", wal_block_size, bytes_per_wal_segment, current_setting('server_version_num')::int4, pg_is_in_recovery(), \
     pg_backend_pid() ",
    "from pg_control_init()"
);

/// Where the primary's log ends now: at or above every commit that it has acknowledged.
///
/// The insert position, because flush and write may lie below a commit made with `synchronous_commit = off`. It fails
/// with 55000 on a standby.
pub(super) const LOG_END: &str = concat!(log_end_columns!(), from_log!());

/// The same and whose log it is, for connections that may lead anywhere: reading the control file takes 8 us and more.
pub(super) const LOG_END_AND_CLUSTER: &str =
    concat!(log_end_columns!(), ", (pg_control_system()).system_identifier", from_log!());

/// At or above everything that statements before this one saw.
///
/// On a standby a commit is visible before the replay position says so, while its record is still being applied; but a
/// record is applied only after it was received, so the greater of both covers it. That holds for a record that came
/// through the stream; hence the receiver must be seen streaming *before* the positions are read (the inner query):
/// then a record that came from a file earlier was applied to its end. And seen after them on the same timeline, or
/// the number could be counted on the next one. On the primary the insert position covers every commit, since a commit
/// is in the log before it is visible.
pub(super) const UPPER: &str = "select r, streams, \
    case when r then greatest(pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn()) else pg_current_wal_insert_lsn() end, \
    (select received_tli from pg_stat_wal_receiver where status = 'streaming') \
    from (select pg_is_in_recovery() as r, \
    (select received_tli from pg_stat_wal_receiver where status = 'streaming') as streams offset 0) as server";

/// What a server says of its role and position, raw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    pub(super) standby: bool,
    /// The replay position of a standby, the flush position of a primary.
    pub(super) lsn: Lsn,
    /// The timeline that a primary writes.
    pub(super) timeline: Option<Timeline>,
    /// What a standby tells of its WAL receiver, asked after its position.
    pub(super) receiver: Receiver,
}

impl Reading {
    pub(super) fn of(row: &Row) -> Result<Self, Error> {
        let receiver: Option<&str> = row.try_get(3)?;
        Ok(Self {
            standby: row.try_get(0)?,
            lsn: lsn(row, 1)?,
            timeline: timeline(row, 2)?,
            receiver: receiver.map_or(Receiver::Absent, Receiver::told),
        })
    }
}

impl Run {
    /// Whether the two are for certain one unbroken run.
    pub(super) fn is_surely(&self, other: &Self) -> bool {
        self == other && self.lives_since.is_some()
    }

    /// When the postmaster started, in milliseconds since 1970.
    pub(super) fn started_ms(&self) -> u64 {
        u64::try_from(self.started / 1_000).unwrap_or_default()
    }

    /// Reads the three columns from `first` on.
    pub(super) fn of(row: &Row, first: usize) -> Result<Self, Error> {
        Ok(Self {
            system_identifier: row.try_get::<_, i64>(first)?.cast_unsigned(),
            started: row.try_get(first + 1)?,
            lives_since: row.try_get(first + 2)?,
        })
    }
}

/// An LSN of a row; a standby that has replayed nothing, has none.
pub(super) fn lsn(row: &Row, column: usize) -> Result<Lsn, Error> {
    let lsn: Option<PgLsn> = row.try_get(column)?;
    Ok(lsn.map_or(Lsn::ZERO, |lsn| Lsn::new(u64::from(lsn))))
}

/// A timeline in the eight hexadecimal digits that the name of a log file begins with.
pub(super) fn timeline(row: &Row, column: usize) -> Result<Option<Timeline>, Error> {
    let digits: Option<&str> = row.try_get(column)?;
    Ok(digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).map(Timeline))
}

/// What a standby says of its WAL receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiver {
    /// It streams this timeline.
    Streaming(Timeline),
    /// There is one, and the role may not look at it.
    Hidden,
    /// There is none, or it waits: replay may go on from files, perhaps along another timeline.
    Absent,
}

impl Receiver {
    /// From a status and a timeline with a colon between them; both are kept from a role that lacks the privilege.
    fn told(text: &str) -> Self {
        match text.split_once(':') {
            Some(("", _)) => Self::Hidden,
            Some(("streaming", timeline)) => {
                timeline.parse().map_or(Self::Absent, |number| Self::Streaming(Timeline(number)))
            }
            _ => Self::Absent,
        }
    }
}

/// The highest replay position that was confirmed to lie on a timeline, in one run of one standby.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Confirmed {
    run: Run,
    pub(super) timeline: Timeline,
    pub(super) replay: Lsn,
}

/// A position that is proven: everything at or below it is visible to statements sent afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) timeline: Timeline,
    pub(super) tag: Lsn,
    pub(super) origin: Origin,
}

/// The position that a primary's reading proves.
///
/// A commit is flushed before it is visible, so a flush position that *equals* a token proves nothing: hence one byte
/// less, and less after flooring, or a position past a page header would keep what it must give up.
pub(super) fn on_primary(node: &str, reading: Reading, layout: WalLayout) -> Result<Place, Fault> {
    let timeline = reading
        .timeline
        .ok_or_else(|| Fault::new(FaultKind::Unproven, node, "the primary did not tell its timeline"))?;
    let end = layout.normalize(reading.lsn);
    let tag = if holds(Rule::TagIsStrict) { end.just_below() } else { end };
    Ok(Place { timeline, tag, origin: Origin::Primary })
}

/// The position that a standby's reading proves, given what it told *afterwards* about its WAL receiver.
///
/// A standby cannot be asked which timeline it has replayed; its receiver tells which one it streams, and the startup
/// process streams only timelines that its replay position lies on. Asked in the other order the standby could move
/// to timeline 2 in between, and a position of timeline 2 labelled 1 would satisfy the token of a write that timeline
/// 1 lost. A receiver that is not streaming proves nothing, since replay may meanwhile read files of another timeline.
/// Then the position counts up to where it was confirmed earlier: replay only moves forward within a run, so that
/// much of the old timeline is there whatever followed it.
pub(super) fn on_standby(
    node: &str,
    reading: Reading,
    layout: WalLayout,
    run: Run,
    memory: &mut Option<Confirmed>,
) -> Result<Place, Fault> {
    let replay = layout.normalize(reading.lsn);
    let place = |timeline, tag| Place { timeline, tag, origin: Origin::Standby };
    let known = memory.filter(|known| known.run == run && run.lives_since.is_some());
    match (reading.receiver, known) {
        (Receiver::Streaming(timeline), _) => {
            // Answers of several connections may arrive out of order: the memory keeps the most.
            if known.is_none_or(|known| (known.timeline, known.replay) < (timeline, replay)) {
                *memory = Some(Confirmed { run, timeline, replay });
            }
            Ok(place(timeline, replay))
        }
        (Receiver::Hidden, _) => Err(Fault::new(
            FaultKind::Misconfigured,
            node,
            "the role may not see pg_stat_wal_receiver, so the standby's timeline cannot be confirmed: \
             GRANT pg_read_all_stats TO the role",
        )),
        (Receiver::Absent, Some(known)) => Ok(place(known.timeline, replay.min(known.replay))),
        (Receiver::Absent, None) => Err(Fault::new(
            FaultKind::Unproven,
            node,
            "the standby does not stream, and its timeline was not confirmed earlier in this run",
        )),
    }
}

/// The upper bound in an answer to [`UPPER`], for a load that was placed at `place`.
///
/// Floored, like tokens and tags: no commit ends inside a page header, so the floored position is as much of an upper
/// bound as the raw one; and the raw one would be above every tag of an idle cluster for many seconds.
pub(super) fn upper(node: &str, row: &Row, place: Place, layout: WalLayout) -> Result<Lsn, Fault> {
    let fault = |error| sqlstate::fault(node, Author::Us, "reading the upper bound", error);
    let standby: bool = row.try_get(0).map_err(fault)?;
    if standby != (place.origin == Origin::Standby) {
        return Err(Fault::new(FaultKind::WrongRole, node, "the standby was promoted during the load"));
    }
    for column in [1, 3] {
        let streams: Option<i32> = row.try_get(column).map_err(fault)?;
        if standby && streams.map(i32::cast_unsigned) != Some(place.timeline.0) {
            let text = "a standby that does not stream its timeline cannot tell an upper bound of what it shows";
            return Err(Fault::new(FaultKind::Unproven, node, text));
        }
    }
    Ok(layout.normalize(lsn(row, 2).map_err(fault)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN_ONE: Run = Run { system_identifier: 7, started: 1, lives_since: Some(1) };

    fn stand(lsn: u64, receiver: Receiver, run: Run, memory: &mut Option<Confirmed>) -> Result<(u32, u64), FaultKind> {
        let reading = Reading { standby: true, lsn: Lsn::new(lsn), timeline: None, receiver };
        on_standby("s", reading, WalLayout::DEFAULT, run, memory)
            .map(|place| (place.timeline.0, place.tag.offset()))
            .map_err(|fault| fault.kind)
    }

    #[test]
    fn the_tag_of_a_primary_is_floored_first_and_lowered_then() {
        let flushed = |lsn| Reading {
            standby: false,
            lsn: Lsn::new(lsn),
            timeline: Some(Timeline(1)),
            receiver: Receiver::Absent,
        };
        let tag = |lsn| on_primary("p", flushed(lsn), WalLayout::DEFAULT).unwrap().tag.offset();
        assert_eq!(tag(0xD00_2018), 0xD00_1FFF, "24 bytes past a page start");
        assert_eq!(tag(0xD00_0028), 0xCFF_FFFF, "40 bytes past a segment start");
        assert_eq!(tag(0xD00_3000 + 100), 0xD00_3000 + 99);
    }

    #[test]
    fn what_a_receiver_tells() {
        assert_eq!(Receiver::told("streaming:3"), Receiver::Streaming(Timeline(3)));
        assert_eq!(Receiver::told(":"), Receiver::Hidden);
        for unproven in ["waiting:3", "stopping:3", "streaming:", "restarting:2", "connecting:"] {
            assert_eq!(Receiver::told(unproven), Receiver::Absent, "{unproven}");
        }
    }

    #[test]
    fn without_a_stream_only_what_was_confirmed_counts() {
        let one = Receiver::Streaming(Timeline(1));
        let mut memory = None;
        assert_eq!(stand(20_000, Receiver::Absent, RUN_ONE, &mut memory), Err(FaultKind::Unproven));
        assert_eq!(stand(20_000, one, RUN_ONE, &mut memory), Ok((1, 20_000)));
        assert_eq!(
            stand(30_000, Receiver::Absent, RUN_ONE, &mut memory),
            Ok((1, 20_000)),
            "30,000 may lie on timeline 2"
        );
        assert_eq!(stand(19_000, one, RUN_ONE, &mut memory), Ok((1, 19_000)), "an answer that was overtaken");
        assert_eq!(stand(30_000, Receiver::Absent, RUN_ONE, &mut memory), Ok((1, 20_000)));
        assert_eq!(stand(31_000, Receiver::Streaming(Timeline(2)), RUN_ONE, &mut memory), Ok((2, 31_000)));
        assert_eq!(stand(32_000, Receiver::Absent, RUN_ONE, &mut memory), Ok((2, 31_000)));
        assert_eq!(stand(32_000, Receiver::Hidden, RUN_ONE, &mut memory), Err(FaultKind::Misconfigured));
    }

    #[test]
    fn nothing_is_remembered_over_a_restart_of_recovery() {
        let mut memory = None;
        assert_eq!(stand(20_000, Receiver::Streaming(Timeline(1)), RUN_ONE, &mut memory), Ok((1, 20_000)));
        for run in [
            Run { started: 2, ..RUN_ONE },
            Run { lives_since: Some(2), ..RUN_ONE },
            Run { lives_since: None, ..RUN_ONE },
        ] {
            assert_eq!(stand(20_000, Receiver::Absent, run, &mut memory), Err(FaultKind::Unproven), "{run:?}");
        }
    }
}
