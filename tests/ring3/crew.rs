//! The workers, as their parent sees them: started, killed, told what to do and listened to.

use crate::Result;
use crate::messages::{Deed, Order, Report, TASK, Task, receive, send};
use crate::scene::Scene;
use rand::RngExt;
use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

/// Three processes. One reaches all servers directly, one PostgreSQL through networks that faults strike, one Redis too.
const WORKERS: usize = 3;

pub(crate) struct Crew {
    seats: Vec<Seat>,
    shared: Arc<Shared>,
    lives: AtomicU64,
}

struct Seat {
    nodes: Vec<String>,
    redis: String,
    process: Mutex<Option<Process>>,
    answers: tokio::sync::Mutex<UnboundedReceiver<Report>>,
    answer: UnboundedSender<Report>,
}

/// A worker's process, and the thread that listens to it.
struct Process {
    child: Child,
    ear: JoinHandle<()>,
}

/// What the listening threads work with.
struct Shared {
    /// By seat, the way to its worker.
    lines: Vec<Mutex<Option<UnixStream>>>,
    /// By seat, the tokens that clients of its worker hold.
    tokens: Vec<Mutex<BTreeMap<u64, String>>>,
    deeds: Mutex<Vec<Deed>>,
    odd: Mutex<Vec<String>>,
    /// The first row of the round, 0 between rounds.
    row: AtomicI64,
    moves: AtomicU64,
}

impl Crew {
    pub(crate) fn hire_all(scene: &Scene) -> Result<Self> {
        let direct: Vec<_> = scene.nodes().iter().map(|node| node.url()).collect();
        let through: Vec<_> = scene.networks.iter().map(highwater::testkit::Proxy::postgres_url).collect();
        let (redis, redis_through) = (scene.redis.url(), scene.redis_network.redis_url());
        let ways = [(&direct, &redis), (&through, &redis), (&through, &redis_through)];
        let seats = ways.into_iter().map(|(nodes, redis)| {
            let (answer, answers) = mpsc::unbounded_channel();
            let answers = tokio::sync::Mutex::new(answers);
            Seat { nodes: nodes.clone(), redis: redis.clone(), process: Mutex::new(None), answers, answer }
        });
        let shared = Shared {
            lines: (0..WORKERS).map(|_| Mutex::default()).collect(),
            tokens: (0..WORKERS).map(|_| Mutex::default()).collect(),
            deeds: Mutex::default(),
            odd: Mutex::default(),
            row: AtomicI64::new(0),
            moves: AtomicU64::new(0),
        };
        let crew = Self { seats: seats.collect(), shared: Arc::new(shared), lives: AtomicU64::new(0) };
        (0..crew.size()).try_for_each(|seat| crew.hire(seat))?;
        Ok(crew)
    }

    pub(crate) fn size(&self) -> usize {
        self.seats.len()
    }

    /// Starts a worker on a free seat, in the midst of a round or between two.
    pub(crate) fn hire(&self, seat: usize) -> Result {
        let life = self.lives.fetch_add(1, Ordering::SeqCst) + 1;
        let Seat { nodes, redis, process, answer, .. } = &self.seats[seat];
        let (ours, theirs) = UnixStream::pair()?;
        let task = Task { life, nodes: nodes.clone(), redis: redis.clone() };
        let child = Command::new(std::env::current_exe()?)
            .args(["worker", "--exact", "--ignored", "--nocapture"])
            .env(TASK, serde_json::to_string(&task)?)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let (shared, answer, line) = (Arc::clone(&self.shared), answer.clone(), ours.try_clone()?);
        *lock(&shared.lines[seat]) = Some(line);
        let ear = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.listen(seat, ours, &answer)
        });
        *lock(process) = Some(Process { child, ear });
        let row = shared.row.load(Ordering::SeqCst);
        if row > 0 {
            shared.order(seat, &Order::Begin { row });
        }
        Ok(())
    }

    /// Kills a worker; what it has said until then is heard, and its clients go elsewhere with the tokens they hold.
    pub(crate) fn kill(&self, seat: usize) -> Result {
        let Some(mut process) = lock(&self.seats[seat].process).take() else { return Ok(()) };
        *lock(&self.shared.lines[seat]) = None;
        process.child.kill()?;
        process.child.wait()?;
        process.ear.join().map_err(|_| "an ear panicked")?;
        let orphans = std::mem::take(&mut *lock(&self.shared.tokens[seat]));
        orphans.into_iter().for_each(|(from, token)| self.shared.pass_on(seat, from, token));
        Ok(())
    }

    /// Lets clients work on the rows from this one on.
    pub(crate) fn begin(&self, row: i64) {
        self.shared.row.store(row, Ordering::SeqCst);
        (0..self.size()).for_each(|seat| self.shared.order(seat, &Order::Begin { row }));
    }

    /// Has every worker do the same, and waits until all have answered.
    pub(crate) async fn ask_all(&self, order: &Order, longest: Duration) -> Result<Vec<Report>> {
        let answers = (0..self.size()).map(|seat| self.ask(seat, order, longest));
        futures_util::future::try_join_all(answers).await
    }

    pub(crate) async fn ask(&self, seat: usize, order: &Order, longest: Duration) -> Result<Report> {
        let mut answers = self.seats[seat].answers.lock().await;
        self.shared.order(seat, order);
        match timeout(longest, answers.recv()).await {
            Ok(Some(answer)) => Ok(answer),
            _ => Err(format!("worker {seat} has not answered {order:?} within {longest:?}").into()),
        }
    }

    pub(crate) fn flood(&self, seat: usize) {
        let row = self.shared.row.load(Ordering::SeqCst);
        self.shared.order(seat, &Order::Flood { row });
    }

    /// What was done since the last time; nobody is at work any more.
    pub(crate) fn take_deeds(&self) -> Vec<Deed> {
        self.shared.row.store(0, Ordering::SeqCst);
        self.shared.tokens.iter().for_each(|tokens| lock(tokens).clear());
        std::mem::take(&mut lock(&self.shared.deeds))
    }

    pub(crate) fn take_odd(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.odd))
    }

    /// How many sessions went from one process to another.
    pub(crate) fn moves(&self) -> u64 {
        self.shared.moves.load(Ordering::Relaxed)
    }

    pub(crate) fn pids(&self) -> Vec<Option<u32>> {
        self.seats.iter().map(|seat| lock(&seat.process).as_ref().map(|process| process.child.id())).collect()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for seat in 0..self.size() {
            // Whatever hinders it: a worker ends by itself once nobody is at the other end of its line.
            let _ = self.kill(seat);
        }
    }
}

impl Shared {
    fn listen(&self, seat: usize, line: UnixStream, answer: &UnboundedSender<Report>) {
        let mut line = BufReader::new(line);
        while let Some(report) = receive(&mut line) {
            match report {
                Report::Deed(deed) => lock(&self.deeds).push(deed),
                Report::Odd(text) => lock(&self.odd).push(format!("worker {seat}: {text}")),
                Report::Holds { session, token } => drop(lock(&self.tokens[seat]).insert(session, token)),
                Report::Leaves { session, token } => {
                    lock(&self.tokens[seat]).remove(&session);
                    self.pass_on(seat, session, token);
                }
                other => drop(answer.send(other)),
            }
        }
    }

    /// Takes a client to any other worker that is there.
    fn pass_on(&self, seat: usize, from: u64, token: String) {
        let others: Vec<_> =
            (0..WORKERS).filter(|&other| other != seat && lock(&self.lines[other]).is_some()).collect();
        if let Some(&other) = others.get(rand::rng().random_range(0..others.len().max(1))) {
            self.moves.fetch_add(1, Ordering::Relaxed);
            self.order(other, &Order::Take { from, token });
        }
    }

    /// A worker that is not there does nothing.
    fn order(&self, seat: usize, order: &Order) {
        if let Some(line) = &mut *lock(&self.lines[seat]) {
            let _ = send(order, line);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
