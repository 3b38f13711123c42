//! What the proxy does at the moment, shared between its tasks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Pass,
    Swallow,
    Hold,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) target: SocketAddr,
    pub(super) delay: Duration,
    pub(super) to_server: Flow,
    pub(super) to_client: Flow,
    pub(super) refuse: bool,
    /// Grows by one each time all connections are to be closed.
    pub(super) severed: u64,
}

impl Rules {
    pub(super) fn pass_to(target: SocketAddr) -> Self {
        Self {
            target,
            delay: Duration::ZERO,
            to_server: Flow::Pass,
            to_client: Flow::Pass,
            refuse: false,
            severed: 0,
        }
    }

    pub(super) fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }

    pub(super) fn pass_all(&self) -> bool {
        self.to_server == Flow::Pass && self.to_client == Flow::Pass
    }
}

/// Something that breaks one connection at an exact point.
#[derive(Debug)]
pub(super) enum Trap {
    LoseRequest(Vec<u8>),
    LoseReply(Vec<u8>),
    TearReply(usize),
}

/// What a trap takes from the connection that sprang it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Request,
    Reply,
}

/// What the gate has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GateState {
    pub(super) open: bool,
    pub(super) severed: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    rules: watch::Sender<Rules>,
    gate: watch::Sender<GateState>,
    trap: Mutex<Option<Trap>>,
    sprung: AtomicU64,
}

impl Shared {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules: watch::Sender::new(rules),
            gate: watch::Sender::new(GateState {
                open: true,
                severed: 0,
            }),
            trap: Mutex::new(None),
            sprung: AtomicU64::new(0),
        }
    }

    pub(super) fn change(&self, edit: impl FnOnce(&mut Rules)) {
        self.rules.send_modify(edit);
    }

    pub(super) fn watch_rules(&self) -> watch::Receiver<Rules> {
        self.rules.subscribe()
    }

    /// What the gate should come to.
    pub(super) fn wanted(&self) -> GateState {
        let rules = self.rules.borrow();
        GateState {
            open: !rules.refuse,
            severed: rules.severed,
        }
    }

    pub(super) fn gate_is(&self, state: GateState) {
        self.gate.send_replace(state);
    }

    pub(super) fn watch_gate(&self) -> watch::Receiver<GateState> {
        self.gate.subscribe()
    }

    pub(super) fn arm(&self, trap: Trap) {
        *self.trap() = Some(trap);
    }

    pub(super) fn disarm(&self) {
        *self.trap() = None;
    }

    /// Springs a trap whose needle ends in `window` after its first `seen` bytes.
    pub(super) fn sees_request(&self, window: &[u8], seen: usize) -> Option<Loss> {
        let mut trap = self.trap();
        let (needle, loss) = match trap.as_ref()? {
            Trap::LoseRequest(needle) => (needle, Loss::Request),
            Trap::LoseReply(needle) => (needle, Loss::Reply),
            Trap::TearReply(_) => return None,
        };
        // Bytes that passed before the trap was set must not spring it.
        let first = (seen + 1).saturating_sub(needle.len());
        let fresh = window.get(first..)?;
        if !fresh.windows(needle.len()).any(|part| part == needle) {
            return None;
        }
        *trap = None;
        Some(loss)
    }

    /// Springs a trap that lets only a part of these `length` bytes pass, and says how many.
    pub(super) fn sees_reply(&self, length: usize) -> Option<usize> {
        let mut trap = self.trap();
        let Some(Trap::TearReply(left)) = trap.as_mut() else {
            return None;
        };
        if length < *left {
            *left -= length;
            return None;
        }
        let part = *left;
        *trap = None;
        Some(part)
    }

    pub(super) fn count_sprung(&self) {
        self.sprung.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sprung(&self) -> u64 {
        self.sprung.load(Ordering::Relaxed)
    }

    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Loss, Rules, Shared, Trap};

    fn shared() -> Shared {
        Shared::new(Rules::pass_to(([127, 0, 0, 1], 1).into()))
    }

    #[test]
    fn a_needle_springs_once_also_across_pieces_but_not_for_the_past() {
        let shared = shared();
        shared.arm(Trap::LoseReply(b"COMMIT".to_vec()));
        assert_eq!(shared.sees_request(b"COMMIT then", 6), None);
        assert_eq!(shared.sees_request(b"xxCOMMIT", 5), Some(Loss::Reply));
        assert_eq!(shared.sees_request(b"COMMIT", 0), None);
    }

    #[test]
    fn a_reply_is_torn_at_the_byte() {
        let shared = shared();
        shared.arm(Trap::TearReply(10));
        assert_eq!(shared.sees_reply(7), None);
        assert_eq!(shared.sees_reply(7), Some(3));
        assert_eq!(shared.sees_reply(7), None);
    }
}
