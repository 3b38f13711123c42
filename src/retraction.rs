//! The names that a write changes.

use crate::cache::Cache;
use crate::digest::{Digest, KEY_BYTES_MAX};
use crate::repository::Repository;
use crate::source::Source;
use crate::{Error, Position};

/// The keys and groups that a write changes, to be retracted once it is committed.
///
/// A key that cannot be used is remembered as an error and told by the commit, before anything is sent: a write whose
/// retraction cannot be named must not go ahead.
#[derive(Debug, Default)]
pub struct Retraction {
    keys: Vec<Digest>,
    groups: Vec<Digest>,
    problem: Option<Error>,
}

/// The most names that one write can retract; beyond it, retract a group or a whole cache.
pub const NAMES_MAX: usize = 65_536;

impl Retraction {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Retracts one key of a cache.
    pub fn key<R: Repository<S::Conn>, S: Source>(&mut self, cache: &Cache<R, S>, key: &R::Key) -> &mut Self {
        match cache.names_of(key) {
            Ok(names) => self.keys.extend(names),
            Err(error) => self.refuse(error),
        }
        self.check_size()
    }

    /// Retracts every entry of a group, in all caches.
    pub fn group(&mut self, name: &str) -> &mut Self {
        if name.len() > KEY_BYTES_MAX {
            let text = format!("a group's name has {} bytes, and the limit is {KEY_BYTES_MAX}", name.len());
            self.refuse(Error::configuration(text));
        } else {
            self.groups.push(Digest::of_group(name));
        }
        self.check_size()
    }

    /// Retracts every entry of a cache.
    pub fn cache<R: Repository<S::Conn>, S: Source>(&mut self, cache: &Cache<R, S>) -> &mut Self {
        self.groups.push(Digest::of_cache(cache.name()));
        self.check_size()
    }

    fn check_size(&mut self) -> &mut Self {
        if self.keys.len() + self.groups.len() > NAMES_MAX {
            let text = format!("one write retracts more than {NAMES_MAX} names; retract a group or a whole cache");
            self.refuse(Error::configuration(text));
        }
        self
    }

    fn refuse(&mut self, error: Error) {
        self.problem.get_or_insert(error);
    }

    /// The names so far, unless something is wrong with one of them.
    pub(crate) fn names(&self) -> Option<Names> {
        let (keys, groups) = (self.keys.clone(), self.groups.clone());
        Self { keys, groups, problem: None }.into_names().ok().filter(|_| self.problem.is_none())
    }

    /// The names, each once, or what was wrong with one of them.
    pub(crate) fn into_names(mut self) -> Result<Names, Error> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        for names in [&mut self.keys, &mut self.groups] {
            names.sort_unstable();
            names.dedup();
        }
        Ok(Names { keys: self.keys, groups: self.groups })
    }
}

/// Names that are fit to be retracted.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) keys: Vec<Digest>,
    pub(crate) groups: Vec<Digest>,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(crate) fn count(&self) -> usize {
        self.keys.len() + self.groups.len()
    }

    /// The notice that tells them.
    pub(crate) fn notice(self, history: u64, position: Position) -> crate::ledger::Notice {
        crate::ledger::Notice { history, position, keys: self.keys, groups: self.groups }
    }
}
