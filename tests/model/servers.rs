//! PostgreSQL as it was measured: a commit is in the log before it is visible, a standby gets what is flushed and shows a
//! commit before it says so, a crash takes what is not flushed and uses its positions again.

use crate::model::{Action, Bounds};
use crate::state::{Busy, State, bit};

impl Bounds {
    pub(crate) fn servers(&self, state: &mut State, action: Action) -> Option<()> {
        let primary = state.primary();
        match action {
            Action::Fill if state.spent.fillers < self.fillers => {
                state.spent.fillers += 1;
                state.servers[primary?].log.push(None);
            }
            Action::Flush => {
                let server = &mut state.servers[primary?];
                server.flushed = server.log.len();
            }
            Action::MakeVisible { write } => {
                let server = &mut state.servers[primary?];
                let flushed = server.commits(server.flushed) & bit(write) != 0;
                flushed.then(|| server.visible |= bit(write))?;
            }
            Action::Stream if self.gaps => stream(state)?,
            Action::Apply => {
                if !self.gaps {
                    stream(state)?;
                }
                let standby = state.servers.iter_mut().find(|server| !server.primary)?;
                (standby.applied < standby.log.len()).then(|| standby.applied += 1)?;
                standby.visible = standby.commits(standby.applied);
                if !self.gaps {
                    standby.reported = standby.applied;
                }
            }
            Action::Report if self.gaps => {
                let standby = state.servers.iter_mut().find(|server| !server.primary)?;
                standby.reported = standby.applied;
            }
            Action::Crash if state.spent.crashes < self.crashes => {
                state.spent.crashes += 1;
                let server = primary?;
                self.go_down(state, server);
                let server = &mut state.servers[server];
                server.log.truncate(server.flushed);
                (server.up, server.visible) = (true, server.commits(server.flushed));
            }
            Action::Promote if state.spent.promotions < self.promotions => {
                state.spent.promotions += 1;
                self.go_down(state, 0);
                let standby = &mut state.servers[1];
                let end = standby.insert();
                (standby.primary, standby.timeline, standby.switch) = (true, 2, Some(end));
                (standby.applied, standby.flushed) = (standby.log.len(), standby.log.len());
                standby.visible = standby.commits(standby.applied);
            }
            Action::ComeBack if self.comes_back && !state.servers[0].up => {
                let server = &mut state.servers[0];
                server.log.truncate(server.flushed);
                (server.up, server.visible) = (true, server.commits(server.flushed));
            }
            _ => return None,
        }
        Some(())
    }

    /// Whatever was under way on a server has lost its connection.
    fn go_down(&self, state: &mut State, server: usize) {
        state.servers[server].up = false;
        for client in &mut state.clients {
            if let Busy::Writing { write, server: on, timeline, instance } = client.busy
                && on == server
            {
                self.begin_unresolved(client, write, timeline, instance);
            }
        }
        for (instance, key) in (0..self.instances).flat_map(|instance| [(instance, 0), (instance, 1)]) {
            let at = state.instances[instance].flights[key].as_ref();
            if at.is_some_and(|flight| flight.is_on(server)) {
                self.end_flight(state, instance, key);
            }
        }
    }

    /// An instance asks the server that says it is the primary.
    pub(crate) fn look(&self, state: &mut State, instance: usize) -> Option<()> {
        // Where the log goes on for ever, there is nothing to be learned.
        (self.crashes + self.promotions > 0).then_some(())?;
        let server = &state.servers[state.primary()?];
        let known = &mut state.instances[instance].knowledge;
        let (timeline, switch) = (server.timeline, server.switch);
        let before = known.fingerprint();
        known.saw_primary(timeline, (server.insert(), server.flush()), switch);
        if known.fingerprint() != before {
            // What was retracted in the history that was replaced is no longer promised.
            state.instances[instance].retracted = 0;
        }
        Some(())
    }
}

/// The standby receives one more record, of what is flushed.
fn stream(state: &mut State) -> Option<()> {
    let [first, second] = &mut state.servers;
    let streams = first.up && first.primary && !second.primary;
    let next = second.log.len();
    (streams && next < first.flushed).then(|| second.log.push(first.log[next]))
}
