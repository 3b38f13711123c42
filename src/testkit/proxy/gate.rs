//! The task that accepts connections and owns their tasks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::link::Link;
use super::rules::{GateState, Shared};

/// Beyond this many connections new ones wait in the listener's queue.
const LINKS_MAX: usize = 2_048;

/// The pause after a failure of the listener, so that it is not tried in a tight loop.
const BREATH: Duration = Duration::from_millis(10);

/// Runs until aborted; dropping it closes all connections.
pub(super) async fn run(shared: Arc<Shared>, first: TcpListener, address: SocketAddr) {
    let mut rules = shared.watch_rules();
    let mut listener = Some(first);
    let mut links = JoinSet::new();
    let mut severed = 0;
    loop {
        let now = *rules.borrow_and_update();
        if now.refuse {
            listener = None;
        }
        if now.refuse || now.severed != severed {
            severed = now.severed;
            links.shutdown().await;
        }
        if now.refuse {
            shared.gate_is(GateState {
                open: false,
                severed,
            });
            if rules.changed().await.is_err() {
                return;
            }
            continue;
        }
        let accepting = match listener.take() {
            Some(accepting) => accepting,
            None => match TcpListener::bind(address).await {
                Ok(bound) => bound,
                Err(_) => {
                    sleep(BREATH).await;
                    continue;
                }
            },
        };
        shared.gate_is(GateState {
            open: true,
            severed,
        });
        tokio::select! {
            accepted = accepting.accept(), if links.len() < LINKS_MAX => match accepted {
                Ok((client, _)) => { links.spawn(Link::run(client, Arc::clone(&shared))); }
                Err(_) => sleep(BREATH).await,
            },
            Some(_) = links.join_next() => {}
            changed = rules.changed() => if changed.is_err() { return },
        }
        listener = Some(accepting);
    }
}
