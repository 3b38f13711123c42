//! What the store did not take, to be told again.

use crate::{Digest, Token};
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// How many users are remembered here. Beyond it the first is dropped.
pub(super) const USERS_MAX: usize = 10_000;

/// Tokens that the store did not take, by user, and in the order in which they are told again.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    users: BTreeMap<Digest, Due>,
    order: VecDeque<Digest>,
    /// A task is telling them again.
    pub(super) is_told: bool,
}

/// A token to be told until then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Due {
    pub(super) token: Token,
    pub(super) until: Instant,
}

impl Deferred {
    /// Keeps a token. Returns whether that of another user had to go for it.
    pub(super) fn put(&mut self, user: Digest, due: Due) -> bool {
        if let Some(own) = self.users.get_mut(&user) {
            own.token.merge(&due.token);
            own.until = due.until;
            return false;
        }
        let is_full = self.order.len() >= USERS_MAX;
        if is_full && let Some(oldest) = self.order.pop_front() {
            self.users.remove(&oldest);
        }
        self.users.insert(user, due);
        self.order.push_back(user);
        is_full
    }

    pub(super) fn of(&self, user: &Digest) -> Option<&Token> {
        self.users.get(user).map(|due| &due.token)
    }

    /// The one that came first.
    pub(super) fn first(&self) -> Option<(Digest, Due)> {
        let user = self.order.front()?;
        Some((*user, self.users.get(user)?.clone()))
    }

    /// Forgets the one that came first, unless it was raised meanwhile.
    pub(super) fn remove_first(&mut self, told: &Due) {
        let same = |user: &Digest| self.users.get(user) == Some(told);
        if self.order.front().is_some_and(same)
            && let Some(user) = self.order.pop_front()
        {
            self.users.remove(&user);
        }
    }

    /// Puts the one that came first behind the others: what the store does not take of one user must not hold up the rest.
    pub(super) fn postpone_first(&mut self, user: &Digest) {
        if self.order.front() == Some(user) {
            self.order.rotate_left(1);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}
