//! What one read demands.

use super::{Demand, Shelf};
use crate::entry::Floor;
use crate::epoch::Epoch;
use crate::freshness::{Freshness, ReadOptions};
use crate::history::Standing;
use crate::named::Brief;
use crate::repository::Repository;
use crate::rules::{Rule, holds};
use crate::session::Session;
use crate::source::Source;
use crate::token::worst;
use crate::{Error, Lsn, Position};
use tokio::time::Instant;

impl<R: Repository<S::Conn>, S: Source> Shelf<R, S> {
    /// What the read of these keys demands in this epoch.
    pub(super) fn floor(
        &self,
        session: &Session,
        options: &ReadOptions,
        epoch: &Epoch,
        keys: &[Brief],
    ) -> Result<Demand, Standing> {
        let own = session.floor(&epoch.history, epoch.lineage(), self.scoped.then_some(keys));
        let mut floor = Floor {
            tag: own.tag,
            vouched: own.vouched.filter(|_| self.extends),
            seen_on_primary: own.seen_on_primary,
            seen_on_standby: own.seen_on_standby,
            bound: None,
            latest: own.primary_only,
            monotonic: session.is_monotonic(),
        };
        let mut standing = own.standing;
        match &options.freshness {
            Freshness::Session => {}
            // Whatever it is about: this is how a scoped cache is asked for everything.
            Freshness::AtLeast(token) => {
                let demand = token.demand(&epoch.history, epoch.lineage());
                floor = floor.join(Floor {
                    tag: demand.floor,
                    vouched: demand.vouched.filter(|_| self.extends),
                    ..Floor::default()
                });
                standing = worst(standing, demand.standing);
            }
            Freshness::Within(bound) => floor.bound = Some(self.store.fleet.bound(*bound, self.clock().now_ms())),
            Freshness::Latest => floor.latest = true,
            Freshness::Any => {
                let (history, floor) = (epoch.fingerprint, Floor::default());
                return Ok(Demand { history, floor, seen: own.seen });
            }
        }
        match standing {
            Standing::Floor(_) => Ok(Demand { history: epoch.fingerprint, floor, seen: own.seen }),
            problem => Err(problem),
        }
    }

    /// What the read of these keys demands, after looking at the servers where what is known does not suffice.
    pub(super) async fn demand(
        &self,
        session: &Session,
        options: &ReadOptions,
        keys: &[Brief],
        deadline: Instant,
    ) -> Result<Demand, Error> {
        self.store.check_open()?;
        let fleet = &self.store.fleet;
        // A position of the primary that was read after the session was looked at, and so covers all it had been told.
        let mut read = None;
        let mut looked = false;
        loop {
            let epoch = self.store.epochs.current().clone();
            let moment = session.moment();
            match self.floor(session, options, &epoch, keys) {
                Err(Standing::Ahead) if !looked => {
                    fleet.look_for_primary(epoch.history.timeline().next(), deadline).await;
                }
                Err(Standing::Ahead) => {
                    return Err(Error::not_fresh("the token is of a timeline that no reachable primary is on"));
                }
                Err(_) => {
                    session.tell_loss(moment);
                    return Err(Error::write_lost(None));
                }
                Ok(mut demand) => {
                    let no_bound = demand.floor.bound.is_some_and(|bound| bound.tag == Lsn::MAX);
                    let beyond = demand.floor.tag > self.store.epochs.high_water().insert();
                    // No position is known that is young enough, or the token lies beyond all that was seen: from another
                    // instance, or from before a crash. With the primary away, what is known has to do.
                    if !looked && (no_bound || beyond) && fleet.primary().is_some() {
                        read = fleet.primary_position(deadline).await.ok().map(|position| (moment, position));
                        looked = true;
                        continue;
                    }
                    let is_above = |top: &Position| {
                        let above = top.timeline == epoch.history.timeline() && demand.floor.tag > top.lsn;
                        above && holds(Rule::AboveIsClamped)
                    };
                    if let Some((moment, top)) = read.filter(|(_, top)| is_above(top)) {
                        session.clamp(&moment, epoch.history.system_identifier(), top);
                        (demand.floor.tag, demand.floor.vouched) = (top.lsn, None);
                        self.store.counters.tokens_clamped.add_one();
                    }
                    return Ok(demand);
                }
            }
            looked = true;
        }
    }
}
