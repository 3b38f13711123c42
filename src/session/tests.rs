//! What a session demands and keeps.

use super::*;
use crate::entry::Origin;
use crate::{Switch, Timeline};

fn stamp(origin: Origin, tag: u64, upper: u64) -> Stamp {
    Stamp { timeline: Timeline(1), tag: Lsn::new(tag), origin, upper: Some(Lsn::new(upper)) }
}

#[test]
fn a_session_only_rises_and_its_clones_share_it() {
    let history = History::new(7, Timeline(1), vec![]);
    let session = Session::new();
    let clone = session.clone();
    clone.raise(&history, Position::new(1, Lsn::new(50)), None);
    session.observe(&Token::at(&history, Position::new(1, Lsn::new(20))));
    assert_eq!(session.floor(&history, None, None).tag, Lsn::new(50));
}

#[test]
fn what_was_seen_is_kept_apart_by_origin() {
    let history = History::new(7, Timeline(1), vec![]);
    let session = Session::monotonic();
    session.saw(&history, &stamp(Origin::Standby, 10, 14), 1, &Seen::default());
    let before = session.floor(&history, None, None).seen;
    session.saw(&history, &stamp(Origin::Primary, 15, 20), 2, &before);
    let floor = session.floor(&history, None, None);
    assert_eq!((floor.seen_on_primary, floor.seen_on_standby), (Some(Lsn::new(20)), Some(Lsn::new(14))));
    assert_eq!((floor.tag, floor.seen.fill), (Lsn::ZERO, Some(2)));
    session.saw(&history, &stamp(Origin::Primary, 11, 12), 3, &before);
    assert_eq!(session.floor(&history, None, None).seen.fill, None, "it was loaded before the other was seen");
    let plain = Session::new();
    plain.saw(&history, &stamp(Origin::Standby, 10, 14), 1, &Seen::default());
    assert_eq!(plain.floor(&history, None, None).seen_on_standby, None);
}

#[test]
fn a_session_that_lives_through_many_failovers_does_not_forget() {
    let session = Session::new();
    for timeline in 1..=9 {
        let switch = |from| Switch { from: Timeline(from), at: Lsn::new(100 * u64::from(from)) };
        let history = History::new(7, Timeline(timeline), (1..timeline).map(switch).collect());
        session.raise(&history, Position::new(timeline, Lsn::new(100 * u64::from(timeline) - 10)), None);
        let top = Lsn::new(100 * u64::from(timeline) - 10);
        let floor = session.floor(&history, None, None);
        assert_eq!((floor.tag, floor.standing), (top, Standing::Floor(Lsn::ZERO)), "timeline {timeline}");
    }
}

#[test]
fn what_was_written_after_the_loss_was_told_is_not_accepted_with_it() {
    let (old, promoted) = (
        History::new(7, Timeline(1), vec![]),
        History::new(7, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(100) }]),
    );
    let session = Session::new();
    session.raise(&old, Position::new(1, Lsn::new(500)), None);
    session.tell_loss(session.moment());
    // Through an instance that has not noticed yet.
    session.raise(&old, Position::new(1, Lsn::new(510)), None);
    session.accept_loss(&promoted);
    assert_eq!(session.floor(&promoted, None, None).standing, Standing::Lost, "of the second nobody was told");
    session.tell_loss(session.moment());
    session.accept_loss(&promoted);
    assert_eq!(session.floor(&promoted, None, None).tag, Lsn::new(100));
}

#[test]
fn a_lost_sight_is_told_until_it_is_accepted() {
    let promoted = History::new(7, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(12) }]);
    let history = History::new(7, Timeline(1), vec![]);
    let session = Session::monotonic();
    session.saw(&history, &stamp(Origin::Standby, 10, 14), 1, &Seen::default());
    assert_eq!(session.floor(&promoted, None, None).standing, Standing::Lost);
    session.accept_loss(&promoted);
    assert!(matches!(session.floor(&promoted, None, None).standing, Standing::Floor(_)));
}
