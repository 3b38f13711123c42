//! What a repository layer adds to what it has.

use serde::Serialize;
use std::borrow::Cow;
use std::error::Error;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

/// How one kind of row is loaded. `C` is what the loader runs its statements on: over PostgreSQL
/// [`Routed`](crate::Routed), over the in-memory source [`memory::View`](crate::memory::View).
///
/// A loader must read through `on` and nothing else: the position that makes its answer trustworthy is read on the same
/// connection. It may run several statements. It is called in a task of its own, so a reader that goes away does not
/// cancel it; a load that runs past its deadline is dropped at an await.
pub trait Repository<C = crate::Routed>: Send + Sync + 'static {
    /// What a row is asked for by. Its serialized form is its identity on every instance.
    type Key: Clone + Eq + Hash + Serialize + Send + Sync + 'static;
    /// What a row is read as. It must be serializable where a shared tier is used.
    type Value: Send + Sync + 'static;
    /// What can go wrong in the loader itself; handed on untouched.
    type Error: Error + Send + Sync + 'static;

    /// Loads the row of `key`, or `None` where there is none.
    fn load(&self, on: &C, key: &Self::Key) -> impl Future<Output = Result<Option<Self::Value>, Self::Error>> + Send;

    /// Loads many rows, in the order of `keys`; one query where the repository can. Defaults to one by one.
    fn load_many(
        &self,
        on: &C,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<Vec<Option<Self::Value>>, Self::Error>> + Send
    where
        C: Sync,
    {
        async move {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(self.load(on, key).await?);
            }
            Ok(values)
        }
    }

    /// The groups that this row belongs to: a write that retracts one of them retracts the row. Names of at most
    /// [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX) bytes, at most [`GROUPS_MAX`]. Defaults to none.
    fn groups(&self, key: &Self::Key, value: Option<&Self::Value>) -> impl IntoIterator<Item = Cow<'static, str>> {
        let _ = (key, value);
        std::iter::empty()
    }

    /// How long this row may be cached, where that should be shorter than the cache's time to live; zero is not at all.
    /// The cache's own is the longest: no retraction is remembered beyond it. Defaults to the cache's.
    fn time_to_live(&self, key: &Self::Key, value: Option<&Self::Value>) -> Option<Duration> {
        let _ = (key, value);
        None
    }
}

/// The most groups that one entry can belong to. A row with more is not cached.
pub const GROUPS_MAX: usize = 64;
