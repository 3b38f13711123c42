//! A child process that we own, with everything it forked.

use std::collections::BTreeSet;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::testkit::TestkitError;
use crate::testkit::guardian::Guardian;
use crate::testkit::process_table::ProcessTable;
use crate::testkit::recipe::Recipe;
use crate::testkit::spawner;

/// How often a signal's effect is looked at, and how many times: two seconds in all.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 1_000;

/// A running child. Dropping it kills it and all its descendants, and waits for them.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    frozen: bool,
    /// Called off as soon as the child has ended, while its number can be nobody else's.
    guardian: Option<Guardian>,
}

impl Process {
    pub(crate) fn spawn(recipe: &Recipe) -> Result<Self, TestkitError> {
        let child = spawner::spawn(recipe.command()?).map_err(|source| TestkitError::Spawn {
            command: recipe.line(),
            source,
        })?;
        let mut process = Self {
            child,
            frozen: false,
            guardian: None,
        };
        if !spawner::has_setpriv() {
            let guardian = Guardian::over(process.pid()).map_err(|source| TestkitError::Spawn {
                command: "sh".to_owned(),
                source,
            })?;
            process.guardian = Some(guardian);
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() {
            self.guardian = None;
        }
        status
    }

    /// Sends `signal` to the process alone.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // Not after it was waited for: the number may belong to somebody else by then.
        if self.ended().is_none() {
            send(self.raw_pid(), signal);
        }
    }

    /// Stops every process of the tree, and returns once none runs.
    pub(crate) fn freeze(&mut self) -> bool {
        if self.ended().is_some() {
            return false;
        }
        self.frozen = true;
        let (still, _) = self.still_tree();
        still
    }

    /// Lets the tree run again.
    pub(crate) fn thaw(&mut self) {
        if !std::mem::take(&mut self.frozen) || self.ended().is_some() {
            return;
        }
        for pid in ProcessTable::now().descendants(self.raw_pid()) {
            send(pid, Signal::CONT);
        }
        send(self.raw_pid(), Signal::CONT);
    }

    /// Kills the whole tree at once, as a power failure would.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // The root is stopped first, so it forks nobody after the list was made, and reaps nobody:
        // no number in the list can pass to a stranger.
        let root = self.raw_pid();
        let (_, family) = self.still_tree();
        for pid in &family {
            send(*pid, Signal::KILL);
        }
        send(root, Signal::KILL);
        self.guardian = None;
        drop(self.child.wait());
        poll(|| {
            let table = ProcessTable::now();
            family.iter().all(|pid| table.is_over(*pid))
        });
    }

    /// Stops the root and then, until there is nothing new, its descendants; says whether all
    /// stand still, and who the descendants are.
    fn still_tree(&self) -> (bool, BTreeSet<i32>) {
        let root = self.raw_pid();
        send(root, Signal::STOP);
        let mut family = BTreeSet::new();
        let still = poll(|| {
            let table = ProcessTable::now();
            let current = table.descendants(root);
            for pid in current.iter().filter(|pid| !table.is_still(**pid)) {
                send(*pid, Signal::STOP);
            }
            let still = table.is_still(root) && current.iter().all(|pid| table.is_still(*pid));
            family = current;
            still
        });
        (still, family)
    }

    fn raw_pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program that ends by itself, such as `initdb`, for at most `patience`.
///
/// Cancelling kills the program.
pub(crate) async fn run(recipe: &Recipe, patience: Duration) -> Result<(), TestkitError> {
    let mut process = Process::spawn(recipe)?;
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        match process.ended() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                return Err(TestkitError::Command {
                    command: recipe.line(),
                    status,
                    output: recipe.log_tail(),
                });
            }
            None => sleep(Duration::from_millis(5)).await,
        }
    }
    Err(TestkitError::Timeout {
        waiting_for: recipe.line(),
        after: patience,
        detail: recipe.log_tail(),
    })
}

/// Looks at `done` until it holds; for signals, whose effect is a matter of milliseconds.
pub(crate) fn poll(mut done: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|look| {
        if look > 0 {
            thread::sleep(LOOK);
        }
        done()
    })
}

pub(crate) fn send(pid: i32, signal: Signal) {
    // An error means that the process is gone, which is what most signals are sent for.
    let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
}
