//! The one thread that starts every server.
//!
//! A server asks to be killed when its parent dies, and on Linux "parent" means the thread that
//! started it. Test threads and blocking-pool threads end long before the process does, so a
//! thread that lives as long as the process does the starting.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

struct Order {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

static ORDERS: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();

/// Starts `command` from the long-lived thread; returns as soon as the program runs.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    let (reply, answer) = mpsc::channel();
    ORDERS
        .get_or_init(start_thread)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(Order { command, reply })
        .map_err(|_| io::Error::other("the thread that starts servers could not be started"))?;
    answer
        .recv()
        .map_err(|_| io::Error::other("the thread that starts servers ended"))?
}

/// Makes `program` die with us if this system has a way to say so.
pub(crate) fn dying_with_us(program: &std::path::Path) -> Command {
    if has_setpriv() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Only the `setpriv` of util-linux knows the option, the one of busybox does not: so it is tried.
pub(crate) fn has_setpriv() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

fn start_thread() -> Mutex<Sender<Order>> {
    let (orders, inbox) = mpsc::channel();
    // Without a thread the inbox is dropped here, and `spawn` reports it.
    drop(
        thread::Builder::new()
            .name("testkit-spawner".to_owned())
            .spawn(move || serve(&inbox)),
    );
    Mutex::new(orders)
}

fn serve(inbox: &Receiver<Order>) {
    for mut order in inbox {
        // A child whose asker went away must not stay behind.
        if let Err(mpsc::SendError(Ok(mut child))) = order.reply.send(order.command.spawn()) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
