//! Which of a store's eras to believe.

use super::Exchanged;

/// The newest era that this instance has seen, and what it has reason not to believe.
///
/// An address can lead to a server that was there before: a primary that was taken for dead and answers again, with its data
/// and its era untouched, and without what was written elsewhere meanwhile. So nobody goes back to an era that began before the
/// newest one seen, and such a server is made to begin another.
#[derive(Debug, Default)]
pub(super) struct Eras {
    newest: Option<(u64, u64)>,
    pub(super) disbelieved: Option<u64>,
}

/// What an answer says about its store.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Standing {
    /// As before, or the first answer.
    Known,
    /// An era that began since the last answer: the store may have lost data.
    New,
    /// An era from before: this is not the store that was there since.
    Past,
}

impl Eras {
    pub(super) fn judge(&mut self, answer: &Exchanged) -> Standing {
        let standing = match self.newest {
            None => Standing::Known,
            Some((era, _)) if era == answer.era => Standing::Known,
            // Clocks of two servers differ: what was begun at our own wish is believed whatever it says.
            Some((_, begun_ms)) if answer.is_new || answer.begun_ms > begun_ms => Standing::New,
            Some(_) => Standing::Past,
        };
        if standing == Standing::Past {
            self.disbelieved = Some(answer.era);
        } else {
            self.newest = Some((answer.era, answer.begun_ms));
        }
        standing
    }
}
