//! The ways to read.

use super::Client;
use crate::abandon;
use highwater::testkit::history::{Ask, KeyId, OpId, Outcome, SessionId};
use highwater::{Freshness, ReadOptions};
use rand::RngExt;
use std::sync::Arc;

impl Client {
    pub(super) async fn read(&mut self) {
        let key = self.key_to_read();
        self.read_one(key).await;
    }

    pub(super) async fn read_one(&mut self, key: u64) {
        let (options, ask) = self.options();
        let op = self.begin_read(key, ask);
        let polls = self.polls();
        let read = self.on.cache.get_with(&self.session, &key, &options);
        match abandon::after(polls, &self.on.death, read).await {
            Some(Ok(read)) => self.saw(op, &read),
            Some(Err(error)) => self.failed(&[op], &error),
            None => self.finish(op, Outcome::Failed),
        }
    }

    /// Reads what the primary had when it was asked, as after a message that says that something changed.
    pub(super) async fn read_at_least(&mut self) {
        let key = self.key_to_read();
        let ask = Ask::latest().own_writes().at(self.on.id());
        let op = self.begin_read(key, if self.session.is_monotonic() { ask.monotonic() } else { ask });
        let read = async {
            let token = self.on.store.token().await.ok()?;
            let options = ReadOptions::fresh(Freshness::AtLeast(token));
            Some(self.on.cache.get_with(&self.session, &key, &options).await)
        };
        match abandon::after(None, &self.on.death, read).await.flatten() {
            Some(Ok(read)) => self.saw(op, &read),
            Some(Err(error)) => self.failed(&[op], &error),
            None => self.finish(op, Outcome::Failed),
        }
    }

    /// Reads with one session on two instances at once.
    pub(super) async fn read_twice(&mut self) {
        let here = self.on.clone();
        let place = self.road.random_range(0..self.world.plan.instances as usize);
        let there = self.world.instance(place);
        let mut reads = Vec::new();
        for on in [here.clone(), there] {
            let (key, (options, _)) = (self.key_to_read(), self.options());
            let options = ReadOptions { freshness: Freshness::Session, ..options };
            let ask = Ask::session().at(on.id());
            let ask = if self.session.is_monotonic() { ask.monotonic() } else { ask };
            self.on = on.clone();
            reads.push((on, key, options, self.begin_read(key, ask)));
        }
        let (session, me) = (self.session.clone(), &*self);
        let read = |at: usize| {
            let (on, key, options, op) = &reads[at];
            let session = &session;
            async move {
                let read = on.cache.get_with(session, key, options);
                match abandon::after(None, &on.death, read).await {
                    Some(Ok(read)) => me.saw(*op, &read),
                    Some(Err(error)) => return Some((*op, error)),
                    None => me.finish(*op, Outcome::Failed),
                }
                None
            }
        };
        let (one, other) = tokio::join!(read(0), read(1));
        for (op, error) in [one, other].into_iter().flatten() {
            self.failed(&[op], &error);
        }
        self.on = here;
    }

    /// Reads for itself and for whoever has left a token, as a job that was handed one.
    pub(super) async fn read_for_another(&mut self) {
        let world = Arc::clone(&self.world);
        let at = self.road.random_range(0..world.plan.clients as usize);
        let Some(left) = world.tokens.lock().unwrap().values().nth(at).cloned() else {
            return self.read().await;
        };
        self.left += 1;
        let both = SessionId(2 << 40 | self.id << 20 | self.left);
        for one in [SessionId(self.id), left.by] {
            world.recorder.record(|history| history.hand(world.at(), one, both));
        }
        let theirs = left.wrote.back().copied();
        let key = theirs.filter(|_| self.road.random_bool(0.5)).unwrap_or_else(|| self.key_to_read());
        self.look();
        world.count();
        let ask = Ask::session().at(self.on.id());
        let op = world.recorder.record(|history| history.read(world.at(), both, KeyId(key), ask));
        let options = ReadOptions::fresh(Freshness::AtLeast(left.token));
        let read = self.on.cache.get_with(&self.session, &key, &options);
        match abandon::after(None, &self.on.death, read).await {
            Some(Ok(read)) => self.saw(op, &read),
            // Whoever was told of a loss has only this one read.
            _ => self.finish(op, Outcome::Failed),
        }
    }

    pub(super) async fn read_many(&mut self) {
        let (options, ask) = self.options();
        let mut keys: Vec<u64> = (0..self.dice.random_range(1..5)).map(|_| self.key_to_read()).collect();
        keys.sort_unstable();
        keys.dedup();
        let ops: Vec<OpId> = keys.iter().map(|&key| self.begin_read(key, ask)).collect();
        let polls = self.polls();
        let read = self.on.cache.get_many(&self.session, &keys, &options);
        match abandon::after(polls, &self.on.death, read).await {
            Some(Ok(reads)) => ops.iter().zip(&reads).for_each(|(&op, read)| self.saw(op, read)),
            Some(Err(error)) => self.failed(&ops, &error),
            None => ops.iter().for_each(|&op| self.finish(op, Outcome::Failed)),
        }
    }
}
