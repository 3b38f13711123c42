//! One connection through the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::NEEDLE_MAX;
use super::rules::{Direction, Flow, Loss, Rules, Shared};

const PIECE: usize = 16 * 1_024;
const PIECES: usize = 64;

/// How long a server may take to be reached, and to answer the request whose answer is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes on their way; none at all means that the sender has hung up.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    due: Instant,
    /// The answer to what this piece holds is to be lost.
    springs: bool,
}

/// How far a trap has got on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    /// The server has the request whose answer is to be lost.
    Asked,
    /// The server has answered it.
    Answered,
    /// The connection is to break at once.
    Break,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Trapped,
}

#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    rules: watch::Receiver<Rules>,
    stage: watch::Sender<Stage>,
    /// Answers go nowhere any more.
    muted: AtomicBool,
    /// Bytes are missing, so the connection is of no use once the network is healed.
    lossy: AtomicBool,
}

impl Link {
    /// Runs until one side hangs up or the rules end it. Dropping the future closes both sides.
    pub(super) async fn run(client: TcpStream, shared: Arc<Shared>) {
        let link = Self {
            rules: shared.watch_rules(),
            shared,
            stage: watch::Sender::new(Stage::Free),
            muted: AtomicBool::new(false),
            lossy: AtomicBool::new(false),
        };
        let Some(server) = link.reach_server().await else {
            return;
        };
        // Without this the kernel would hold back small pieces, a delay that nobody asked for.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut client_read, mut client_write) = client.into_split();
        let (mut server_read, mut server_write) = server.into_split();
        let both = join(
            link.pump(Direction::ToServer, &mut client_read, &mut server_write),
            link.pump(Direction::ToClient, &mut server_read, &mut client_write),
        );
        let end = tokio::select! {
            _ = both => End::Closed,
            end = link.ended() => end,
        };
        if end == End::Trapped {
            // Counted first, so that whoever sees the connection break finds it counted.
            link.shared.count_sprung();
            drop((client_read, client_write));
            part(server_read, server_write).await;
        }
    }

    /// Connects to the server, unless a black hole would have eaten the attempt.
    async fn reach_server(&self) -> Option<TcpStream> {
        let flow = self.rules.borrow().to_server;
        if flow != Flow::Pass {
            let mut rules = self.rules.clone();
            rules
                .wait_for(|rules| rules.to_server == Flow::Pass)
                .await
                .ok()?;
        }
        if flow == Flow::Swallow {
            return None;
        }
        let target = self.rules.borrow().target;
        timeout(PATIENCE, TcpStream::connect(target))
            .await
            .ok()?
            .ok()
    }

    async fn pump(&self, direction: Direction, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let (queue, pieces) = mpsc::channel(PIECES);
        join(
            self.collect(direction, from, queue),
            self.deliver(direction, to, pieces),
        )
        .await;
    }

    async fn collect(
        &self,
        direction: Direction,
        from: &mut OwnedReadHalf,
        queue: mpsc::Sender<Piece>,
    ) {
        let mut window = Vec::new();
        loop {
            let mut bytes = vec![0; PIECE];
            // A broken connection looks to the other side like one that was closed.
            let count = from.read(&mut bytes).await.unwrap_or(0);
            bytes.truncate(count);
            let loss = match direction {
                Direction::ToServer => self.watch_request(&mut window, &bytes),
                Direction::ToClient => None,
            };
            if loss == Some(Loss::Request) {
                self.stage.send_replace(Stage::Break);
                return;
            }
            let springs = loss == Some(Loss::Reply);
            if springs {
                self.muted.store(true, Ordering::Relaxed);
            }
            let due = Instant::now() + self.rules.borrow().delay;
            if queue
                .send(Piece {
                    bytes,
                    due,
                    springs,
                })
                .await
                .is_err()
                || count == 0
            {
                return;
            }
        }
    }

    /// Looks for an armed needle in what the client sent, also where it spans two pieces.
    fn watch_request(&self, window: &mut Vec<u8>, bytes: &[u8]) -> Option<Loss> {
        let seen = window.len();
        window.extend_from_slice(bytes);
        let loss = self.shared.sees_request(window, seen);
        window.drain(..window.len().saturating_sub(NEEDLE_MAX));
        loss
    }

    async fn deliver(
        &self,
        direction: Direction,
        to: &mut OwnedWriteHalf,
        mut pieces: mpsc::Receiver<Piece>,
    ) {
        while let Some(piece) = pieces.recv().await {
            if piece.due > Instant::now() {
                sleep_until(piece.due).await;
            }
            if self.flow(direction).await == Flow::Swallow {
                self.lossy.store(true, Ordering::Relaxed);
                continue;
            }
            let sent = match direction {
                Direction::ToServer => send(to, &piece.bytes).await,
                Direction::ToClient => self.answer(to, &piece.bytes).await,
            };
            if piece.springs {
                self.stage.send_replace(Stage::Asked);
            }
            if !sent {
                return;
            }
        }
    }

    /// Delivers an answer, or what a trap leaves of it; false when nothing more is to come.
    async fn answer(&self, to: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
        if self.muted.load(Ordering::Relaxed) {
            self.stage.send_if_modified(|stage| {
                let answered = *stage == Stage::Asked;
                if answered {
                    *stage = Stage::Answered;
                }
                answered
            });
            return true;
        }
        let Some(part) = self.shared.sees_reply(bytes.len()) else {
            return send(to, bytes).await;
        };
        if let Some(torn) = bytes.get(..part).filter(|torn| !torn.is_empty()) {
            send(to, torn).await;
        }
        self.stage.send_replace(Stage::Break);
        false
    }

    /// The flow of a direction, once it is not held.
    async fn flow(&self, direction: Direction) -> Flow {
        let mut rules = self.rules.clone();
        let free = |rules: &Rules| rules.flow(direction) != Flow::Hold;
        match rules.wait_for(free).await {
            Ok(rules) => rules.flow(direction),
            Err(_) => Flow::Swallow,
        }
    }

    /// Returns when a trap or a healed black hole ends this connection.
    async fn ended(&self) -> End {
        let mut rules = self.rules.clone();
        let mut stage = self.stage.subscribe();
        loop {
            let asked = match *stage.borrow_and_update() {
                Stage::Break | Stage::Answered => return End::Trapped,
                Stage::Asked => true,
                Stage::Free => false,
            };
            if rules.borrow_and_update().pass_all() && self.lossy.load(Ordering::Relaxed) {
                return End::Closed;
            }
            tokio::select! {
                _ = stage.changed() => {}
                _ = rules.changed() => {}
                () = sleep(PATIENCE), if asked => return End::Trapped,
            }
        }
    }
}

/// Sends a piece, or hangs up for an empty one; false when nothing more is to come.
async fn send(to: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        let _ = to.shutdown().await;
        return false;
    }
    to.write_all(bytes).await.is_ok()
}

/// Hangs up on the server without losing what was sent to it: closing a socket with unread bytes
/// resets the connection, and a reset may overtake the request.
async fn part(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = to.shutdown().await;
    let drain = async {
        let mut bytes = vec![0; PIECE];
        while from.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    };
    let _ = timeout(PATIENCE, drain).await;
}
