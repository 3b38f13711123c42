//! A TCP proxy that spoils what passes through it.

mod gate;
mod link;
mod rules;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::testkit::TestkitError;
use crate::testkit::port::Port;
use rules::{Flow, Rules, Shared, Trap};

/// The listener opens and closes at once; longer means that the runtime is blocked.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest byte string that a trap can look for.
const NEEDLE_MAX: usize = 1_024;

/// A listener on 127.0.0.1 that passes bytes to a server and back, until told otherwise.
///
/// What it holds is bounded: 64 pieces of 16 KiB per direction and connection, beyond which the
/// sender has to wait as on a slow network. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    gate: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and passes connections to `target`.
    ///
    /// # Errors
    ///
    /// If no port is free.
    ///
    /// # Cancellation
    ///
    /// Safe: nothing is left open.
    pub async fn start(target: SocketAddr) -> Result<Self, TestkitError> {
        let port = Port::reserve()?;
        let listener = TcpListener::bind(port.address()).await.map_err(|_| TestkitError::NoFreePort { tried: 1 })?;
        let shared = Arc::new(Shared::new(Rules::pass_to(target)));
        let gate = tokio::spawn(gate::run(Arc::clone(&shared), listener, port.address()));
        Ok(Self { port, shared, gate })
    }

    /// Where clients connect; as text it fits into a URL.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The TCP port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The URL of a PostgreSQL [`Node`](crate::testkit::Node) behind this proxy.
    #[must_use]
    pub fn postgres_url(&self) -> String {
        format!("postgres://postgres@{}/postgres?sslmode=disable", self.address())
    }

    /// The URL of a Redis without a password behind this proxy.
    #[must_use]
    pub fn redis_url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Delivers each piece this much later, in each direction; a round trip takes twice as long.
    pub fn delay(&self, each_way: Duration) {
        self.shared.change(|rules| rules.delay = each_way);
    }

    /// Swallows both directions: connections are accepted and kept, and nothing ever arrives, not
    /// even that the other side hung up.
    pub fn blackhole(&self) {
        self.shared.change(|rules| {
            rules.to_server = Flow::Swallow;
            rules.to_client = Flow::Swallow;
        });
    }

    /// Swallows what clients send; what servers send still arrives.
    pub fn blackhole_to_server(&self) {
        self.shared.change(|rules| rules.to_server = Flow::Swallow);
    }

    /// Swallows what servers send; what clients send still arrives and takes effect.
    pub fn blackhole_to_client(&self) {
        self.shared.change(|rules| rules.to_client = Flow::Swallow);
    }

    /// Holds both directions: nothing arrives now, and all of it after [`heal`](Self::heal), as
    /// after an outage that TCP survived.
    pub fn stall(&self) {
        self.shared.change(|rules| {
            rules.to_server = Flow::Hold;
            rules.to_client = Flow::Hold;
        });
    }

    /// Lets another server answer new connections; those that exist stay where they are.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.change(|rules| rules.target = target);
    }

    /// Closes all connections and refuses new ones; returns when that is so.
    ///
    /// # Errors
    ///
    /// If the runtime is too busy to let the proxy run.
    ///
    /// # Cancellation
    ///
    /// The proxy goes on closing.
    pub async fn cut(&self) -> Result<(), TestkitError> {
        self.shared.change(|rules| rules.refuse = true);
        self.settled("close").await
    }

    /// Closes all connections, and goes on accepting new ones.
    ///
    /// # Errors
    ///
    /// If the runtime is too busy to let the proxy run.
    ///
    /// # Cancellation
    ///
    /// The proxy goes on closing.
    pub async fn sever(&self) -> Result<(), TestkitError> {
        self.shared.change(|rules| rules.severed += 1);
        self.settled("sever its connections").await
    }

    /// Ends delays, black holes, stalls, cuts and traps; the target stays.
    ///
    /// Connections that lost bytes in a black hole are closed, since what follows would make no
    /// sense to either side.
    ///
    /// # Errors
    ///
    /// If the port was taken meanwhile, or the runtime is too busy to let the proxy run.
    ///
    /// # Cancellation
    ///
    /// The proxy goes on healing.
    pub async fn heal(&self) -> Result<(), TestkitError> {
        self.shared.disarm();
        self.shared.change(|rules| {
            *rules = Rules { severed: rules.severed, ..Rules::pass_to(rules.target) };
        });
        self.settled("open").await
    }

    /// Sets a trap for the next client that sends `needle`: the server gets the bytes, but no
    /// answer comes back, and the connection breaks once the server has answered.
    ///
    /// With `COMMIT` as the needle this is the commit whose outcome the client never learns,
    /// although it took effect. The trap springs once; arming replaces what was armed.
    ///
    /// # Panics
    ///
    /// If `needle` is empty or longer than a kilobyte.
    pub fn cut_replies_after(&self, needle: &[u8]) {
        check(needle);
        self.shared.arm(Trap::LoseReply(needle.to_vec()));
    }

    /// Sets a trap for the next client that sends `needle`: the connection breaks before the
    /// server gets the piece that holds the needle, or what came before it in the same piece.
    ///
    /// The twin of [`cut_replies_after`](Self::cut_replies_after) that took no effect.
    ///
    /// # Panics
    ///
    /// If `needle` is empty or longer than a kilobyte.
    pub fn cut_before(&self, needle: &[u8]) {
        check(needle);
        self.shared.arm(Trap::LoseRequest(needle.to_vec()));
    }

    /// Sets a trap that breaks a connection when servers have sent `bytes` more bytes, counted over
    /// all connections; the last answer arrives torn.
    pub fn cut_after_reply_bytes(&self, bytes: usize) {
        self.shared.arm(Trap::TearReply(bytes));
    }

    /// How many traps have sprung since the start.
    #[must_use]
    pub fn traps_sprung(&self) -> u64 {
        self.shared.sprung()
    }

    /// Waits until the gate has done what the rules say about it.
    async fn settled(&self, what: &str) -> Result<(), TestkitError> {
        let wanted = self.shared.wanted();
        let mut state = self.shared.watch_gate();
        match timeout(PATIENCE, state.wait_for(|state| *state == wanted)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(TestkitError::Timeout {
                waiting_for: format!("the proxy on port {} to {what}", self.port()),
                after: PATIENCE,
                detail: "is something blocking the runtime?".to_owned(),
            }),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.gate.abort();
    }
}

fn check(needle: &[u8]) {
    assert!(!needle.is_empty() && needle.len() <= NEEDLE_MAX, "a needle has 1 to {NEEDLE_MAX} bytes");
}
