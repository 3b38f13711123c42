//! What hostile bytes are fed to. The fuzz targets in `tests/fuzz` and the replay of their corpora call the same
//! functions; each panics where a rule is broken.

mod bus;
mod device;
mod envelope;
mod hearing;
mod key;
mod lsn;
mod token;

pub use envelope::{KEY, TYPE, sealed};
pub use key::{AnyKey, name_of};

/// What became of an input, so that a replay can tell whether its corpus reaches everything.
pub type Outcome = &'static str;

/// What one kind of bytes is fed to.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of its corpus.
    pub name: &'static str,
    /// Makes of an input what an instance does with such bytes and nothing else: its memory is measured.
    pub read: for<'a> fn(&'a [u8]) -> Box<dyn Fn() + 'a>,
    /// The same with all that must hold of it.
    pub check: fn(&[u8]) -> Outcome,
    /// The size cap of what is read.
    pub bytes_max: usize,
    /// Every outcome that it has.
    pub outcomes: &'static [Outcome],
}

/// All targets.
pub const TARGETS: [Target; 7] =
    [envelope::TARGET, bus::TARGET, hearing::TARGET, lsn::TARGET, key::TARGET, token::TARGET, device::TARGET];

/// Feeds one input to the target of this name.
///
/// # Panics
///
/// Where a rule is broken, or where there is no such target.
pub fn check(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.map_or_else(|| panic!("no target is called {name:?}"), |target| (target.check)(input));
}
