//! A connection borrowed from the pool.

use super::dial::Dialer;
use super::link::Link;
use deadpool::managed::Object;
use std::ops::Deref;

/// A borrowed connection. Dropped while an exchange is open, it is closed at once instead of given back: an open
/// transaction or a running statement ends with it, and the pool refuses to hand it on.
#[derive(Debug)]
pub(super) struct Held(Object<Dialer>);

impl Held {
    pub(super) fn new(link: Object<Dialer>) -> Self {
        Self(link)
    }
}

impl Deref for Held {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.0.is_idle() {
            self.0.sever();
        }
    }
}
