//! A server that can be stopped, killed, frozen and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::testkit::TestkitError;
use crate::testkit::process::{Process, poll};
use crate::testkit::recipe::Recipe;

/// How often a starting or stopping server is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How to see that a server answers.
#[derive(Debug)]
pub(crate) enum Probe {
    /// PostgreSQL writes its state into this file of its data folder.
    PostmasterFile(PathBuf),
    /// Redis answers PING, even if only to ask for a password.
    Redis(u16),
    /// The port accepts connections.
    Tcp(u16),
}

/// One server and the process that is it, while there is one.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    recipe: Recipe,
    probe: Probe,
    patience: Duration,
    slot: Mutex<Slot>,
    /// Held while starting or stopping, so that two tasks do not do so at once.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
enum Slot {
    Down,
    Up(Process),
    /// The owner was dropped; nothing may start any more.
    Retired,
}

impl Server {
    pub(crate) fn new(name: String, recipe: Recipe, probe: Probe, patience: Duration) -> Self {
        Self { name, recipe, probe, patience, slot: Mutex::new(Slot::Down), turn: tokio::sync::Mutex::new(()) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn log_tail(&self) -> String {
        self.recipe.log_tail()
    }

    /// The process number, while the server runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.with_process(|process| process.pid())
    }

    /// Starts the server and waits until it answers; does nothing if it runs.
    ///
    /// Cancelling ends the half-started server.
    pub(crate) async fn start(&self) -> Result<(), TestkitError> {
        let _turn = self.turn.lock().await;
        if self.pid().is_some() {
            return Ok(());
        }
        self.set(Slot::Down)?;
        self.probe.clear();
        let mut process = Process::spawn(&self.recipe)?;
        let deadline = Instant::now() + self.patience;
        while !self.probe.answers(process.pid()).await {
            if let Some(status) = process.ended() {
                return Err(self.exited(status));
            }
            if Instant::now() > deadline {
                return Err(self.too_late("to become ready"));
            }
            sleep(LOOK).await;
        }
        self.set(Slot::Up(process))
    }

    /// Asks the server to end with `signal`, and waits until it has; kills it if it does not.
    ///
    /// Cancelling leaves it ending.
    pub(crate) async fn stop(&self, signal: Signal) -> Result<(), TestkitError> {
        let _turn = self.turn.lock().await;
        self.with_process(|process| {
            process.thaw();
            process.signal(signal);
        });
        let deadline = Instant::now() + self.patience;
        while self.pid().is_some() {
            if Instant::now() > deadline {
                self.kill_now();
                return Err(self.too_late("to stop, and killed it"));
            }
            sleep(LOOK).await;
        }
        self.set(Slot::Down)
    }

    /// Kills the server and all its processes; returns when none is left.
    ///
    /// Cancelling before the first poll does nothing; afterwards there is no pause to cancel at,
    /// but for a start or stop in progress.
    pub(crate) async fn kill(&self) -> Result<(), TestkitError> {
        let _turn = self.turn.lock().await;
        self.kill_now();
        Ok(())
    }

    pub(crate) fn freeze(&self) -> Result<(), TestkitError> {
        let frozen = self.with_process(Process::freeze).ok_or_else(|| self.not_running())?;
        if frozen { Ok(()) } else { Err(self.too_late("to stand still")) }
    }

    pub(crate) fn thaw(&self) -> Result<(), TestkitError> {
        self.with_process(Process::thaw).ok_or_else(|| self.not_running())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), TestkitError> {
        self.with_process(|process| process.signal(signal)).ok_or_else(|| self.not_running())
    }

    /// Asks the server to end for good, without waiting.
    pub(crate) fn ask_to_end(&self, signal: Signal) {
        self.with_process(|process| {
            process.thaw();
            process.signal(signal);
        });
    }

    /// Ends the server for good: waits a little for one that was asked to, then kills it.
    pub(crate) fn retire(&self) {
        poll(|| self.pid().is_none());
        self.retire_now();
    }

    /// Kills the server for good.
    pub(crate) fn retire_now(&self) {
        *self.slot() = Slot::Retired;
    }

    pub(crate) fn not_running(&self) -> TestkitError {
        TestkitError::NotRunning {
            server: self.name.clone(),
            advice: "start it first; it cannot be started after its owner was dropped",
        }
    }

    fn kill_now(&self) {
        // Dropping the process is what kills it.
        drop(self.set(Slot::Down));
    }

    fn with_process<T>(&self, act: impl FnOnce(&mut Process) -> T) -> Option<T> {
        let mut slot = self.slot();
        let Slot::Up(process) = &mut *slot else {
            return None;
        };
        let running = process.ended().is_none();
        running.then(|| act(process))
    }

    fn set(&self, next: Slot) -> Result<(), TestkitError> {
        let mut slot = self.slot();
        if matches!(*slot, Slot::Retired) {
            return Err(self.not_running());
        }
        *slot = next;
        Ok(())
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exited(&self, status: std::process::ExitStatus) -> TestkitError {
        TestkitError::Exited {
            server: self.name.clone(),
            status,
            command: self.recipe.line(),
            log: self.recipe.log().to_path_buf(),
            log_tail: self.log_tail(),
        }
    }

    fn too_late(&self, what: &str) -> TestkitError {
        TestkitError::Timeout {
            waiting_for: format!("{} {what}", self.name),
            after: self.patience,
            detail: self.log_tail(),
        }
    }
}

impl Probe {
    /// Takes away what a server leaves that was killed while it created its lock files: PostgreSQL refuses to start beside an
    /// empty one, which could be another server's that is just starting. Here there is none.
    fn clear(&self) {
        let Self::PostmasterFile(path) = self else { return };
        let files = path.parent().and_then(|data| std::fs::read_dir(data).ok()).into_iter().flatten().flatten();
        for file in files {
            let name = file.file_name();
            let name = name.to_string_lossy();
            let is_lock = name == "postmaster.pid" || name.starts_with(".s.PGSQL.") && name.ends_with(".lock");
            if is_lock && file.metadata().is_ok_and(|file| file.len() == 0) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }

    async fn answers(&self, pid: u32) -> bool {
        match self {
            Self::PostmasterFile(path) => postmaster_is_ready(path, pid),
            Self::Redis(port) => redis_answers(*port).await.unwrap_or(false),
            Self::Tcp(port) => connect(*port).await.is_ok(),
        }
    }
}

/// The first line must be our child's number, for a crash leaves the old file behind; the eighth
/// says whether connections are accepted.
fn postmaster_is_ready(path: &std::path::Path, pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else {
        return false;
    };
    let mut lines = text.lines();
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

async fn redis_answers(port: u16) -> std::io::Result<bool> {
    let mut stream = connect(port).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut reply = [0; 7];
    timeout(Duration::from_secs(1), stream.read_exact(&mut reply)).await??;
    Ok(reply.starts_with(b"+PONG") || reply.starts_with(b"-NOAUTH"))
}

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    timeout(Duration::from_secs(1), TcpStream::connect(address)).await?
}
