//! What the clients of one worker share.

use crate::messages::{Deed, Report, Task, now, send};
use crate::rows::Rows;
use crate::{Result, told};
use highwater::source::postgres::QueryError;
use highwater::wire::{Gate, Key, Keyring};
use highwater::{Cache, Error, Highwater, ReadError, Settings, WriteError};
use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// Stores in one process: a session that asks for monotonic reads roams between these, since what it saw is in no token.
const STORES: usize = 2;

/// How long rows live, present or absent.
const LIFE: Duration = Duration::from_secs(60);

/// How many clients work at a time. Every fourth one asks for monotonic reads.
pub(crate) const CLIENTS: usize = 10;

/// How many clients from elsewhere wait at most; beyond, the one who has waited longest goes home.
const WAITING_MAX: usize = 64;

pub(crate) struct Office {
    pub(crate) instances: Vec<Instance>,
    pub(crate) gate: Gate,
    pub(crate) line: Line,
    /// Whether clients are to stop.
    pub(crate) over: AtomicBool,
    /// By place, when the last read began that was answered.
    pub(crate) answered: [AtomicU64; CLIENTS],
    life: u64,
    next: AtomicU64,
    waiting: Mutex<VecDeque<(u64, String)>>,
}

/// A store and its cache of `rows`.
pub(crate) struct Instance {
    pub(crate) store: Highwater,
    pub(crate) rows: Cache<Rows>,
}

impl Office {
    pub(crate) async fn open(task: &Task, line: Line) -> Result<Self> {
        let mut instances = Vec::new();
        for _ in 0..STORES {
            instances.push(Instance::open(task, &line).await?);
        }
        let keyring = Keyring::new(Key::new(1, b"the same secret in all the processes")?);
        let gate = instances.iter().fold(Gate::builder(keyring), |gate, instance| gate.store(&instance.store)).build();
        Ok(Self {
            instances,
            gate,
            line,
            over: AtomicBool::new(true),
            answered: std::array::from_fn(|_| AtomicU64::new(0)),
            life: task.life,
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
        })
    }

    /// A number that nothing else in the ring has.
    pub(crate) fn number(&self) -> u64 {
        self.life << 32 | self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Another process's client comes in.
    pub(crate) fn wait(&self, from: u64, token: String) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back((from, token));
    }

    pub(crate) fn next_waiting(&self) -> Option<(u64, String)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn send_all_home(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Reports a read's error that no user could act on.
    pub(crate) fn weigh_read(&self, error: &ReadError<QueryError>) {
        let usual = match error {
            ReadError::Cache(error) => is_usual(error),
            ReadError::Load(error) => error.is_transient() || error.is_timeout(),
            _ => false,
        };
        if !usual {
            self.line.tell(&Report::Odd(format!("a read failed: {}", told(error))));
        }
    }

    /// Reports a write's error that no user could act on.
    pub(crate) fn weigh_write(&self, error: &WriteError<QueryError>) {
        let usual = match error {
            WriteError::Caller(error) => error.is_transient() || error.is_timeout(),
            WriteError::Unknown(_) => true,
            other => other.as_store().is_some_and(is_usual),
        };
        if !usual {
            self.line.tell(&Report::Odd(format!("a write failed: {}", told(error))));
        }
    }
}

fn is_usual(error: &Error) -> bool {
    error.is_transient() || error.is_write_lost()
}

impl Instance {
    /// Tries until there is a primary: a worker may be started in the midst of a fault.
    async fn open(task: &Task, line: &Line) -> Result<Self> {
        let store = loop {
            let builder = task.nodes.iter().fold(Highwater::builder(), |builder, node| builder.replica(node.as_str()));
            let settings = Settings { floor_slots: 1 << 16, ..Settings::default() };
            let builder = builder.redis(task.redis.as_str()).settings(settings);
            match builder.postgres(|postgres| postgres.pool_size(8)).connect().await {
                Ok(store) => break store,
                Err(error) if error.is_transient() => sleep(Duration::from_millis(100)).await,
                Err(error) => {
                    line.tell(&Report::Odd(format!("a store cannot start: {}", told(&error))));
                    sleep(Duration::from_secs(1)).await;
                }
            }
        };
        // Longer than anybody waits for a retraction: what is not heard stays.
        let rows =
            store.cache("rows", Rows::default()).time_to_live(LIFE).absent_time_to_live(LIFE).shared().build()?;
        Ok(Self { store, rows })
    }
}

/// The way to the parent. Its end is the end of the process.
pub(crate) struct Line(Mutex<BufWriter<UnixStream>>);

impl Line {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self(Mutex::new(BufWriter::new(stream)))
    }

    /// Says something, which arrives some milliseconds later.
    pub(crate) fn tell(&self, report: &Report) {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if send(report, &mut *out).is_err() {
            std::process::exit(0);
        }
    }

    /// Says something, which has arrived when this returns, whatever becomes of the process.
    pub(crate) fn tell_now(&self, report: &Report) {
        self.tell(report);
        self.flush();
    }

    pub(crate) fn flush(&self) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).flush().is_err() {
            std::process::exit(0);
        }
    }

    pub(crate) fn took(&self, from: u64, to: u64) {
        self.tell(&Report::Deed(Deed::Took { from, to, at: now() }));
    }
}
