//! One process of the ring: it opens an office and does what it is told.

use crate::Result;
use crate::client::Client;
use crate::messages::{Order, Report, TASK, Task, now, receive};
use crate::office::{CLIENTS, Line, Office};
use highwater::ledger::NOTICE_NAMES_MAX;
use highwater::{BusState, Session};
use std::env;
use std::io::{BufReader, stdin};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long what clients saw stays in the process, but for writes.
const FLUSH: Duration = Duration::from_millis(5);

/// Whoever waits this long for calm says what is amiss, before the parent gives up.
const COMPLAINT_NS: u64 = 20_000_000_000;

pub(crate) fn run() -> Result {
    let Ok(task) = env::var(TASK) else { return Ok(()) };
    let task: Task = serde_json::from_str(&task)?;
    let stream = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
    report_panics(Line::new(stream.try_clone()?));
    let (heard, orders) = mpsc::unbounded_channel();
    let ear = stream.try_clone()?;
    thread::spawn(move || {
        let mut ear = BufReader::new(ear);
        while let Some(order) = receive::<Order>(&mut ear) {
            if heard.send(order).is_err() {
                break;
            }
        }
        // The parent is gone, and so is everything that was to be done.
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(work(&task, Line::new(stream), orders))
}

/// What panics in a task of the library ends nothing, and must not go unnoticed.
fn report_panics(line: Line) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        line.tell_now(&Report::Odd(format!("panicked: {panic}")));
    }));
}

async fn work(task: &Task, line: Line, mut orders: UnboundedReceiver<Order>) -> Result {
    let office = Arc::new(Office::open(task, line).await?);
    let flushing = Arc::clone(&office);
    tokio::spawn(async move {
        loop {
            sleep(FLUSH).await;
            flushing.line.flush();
        }
    });
    let mut clients = JoinSet::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Begin { row } => begin(&office, &mut clients, row),
            Order::Take { from, token } => office.wait(from, token),
            Order::Calm => {
                calm(&office).await;
                office.line.tell_now(&Report::Calm);
            }
            Order::End => {
                office.over.store(true, Ordering::SeqCst);
                while let Some(ended) = clients.join_next().await {
                    ended?;
                }
                office.send_all_home();
                office.line.tell_now(&Report::Over);
            }
            Order::Look { row } => {
                let looked = look(&office, row).await;
                office.line.tell_now(&Report::Looked(looked));
            }
            Order::Write { row } => {
                let version = write(&office, row, 1).await;
                office.line.tell_now(&Report::Wrote(version));
            }
            Order::Flood { row } => drop(tokio::spawn(flood(Arc::clone(&office), row))),
        }
    }
    Ok(())
}

fn begin(office: &Arc<Office>, clients: &mut JoinSet<()>, row: i64) {
    office.over.store(false, Ordering::SeqCst);
    for place in 0..CLIENTS {
        clients.spawn(Client::new(Arc::clone(office), place, row).work());
    }
}

/// Waits until every session was answered from now on, and every bus is live.
async fn calm(office: &Office) {
    let asked = now();
    let answered = || office.answered.iter().all(|at| at.load(Ordering::SeqCst) > asked);
    let heard = || office.instances.iter().all(|instance| instance.store.stats().bus == BusState::Live);
    let mut told = false;
    while !(answered() || office.over.load(Ordering::SeqCst)) || !heard() {
        if !told && now() - asked > COMPLAINT_NS {
            let waiting: Vec<_> = office.answered.iter().map(|at| at.load(Ordering::SeqCst) > asked).collect();
            let stats: Vec<_> = office.instances.iter().map(|instance| instance.store.stats()).collect();
            office.line.tell(&Report::Odd(format!("it does not calm down: answered {waiting:?}, {stats:#?}")));
            told = true;
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// The version that somebody without a token sees at each instance.
async fn look(office: &Office, row: i64) -> Vec<u64> {
    let mut versions = Vec::new();
    for instance in &office.instances {
        versions.push(loop {
            match instance.rows.get(&Session::new(), &row).await {
                Ok(read) => break read.value.map_or(0, |row| row.version),
                Err(error) => office.weigh_read(&error),
            }
            sleep(Duration::from_millis(20)).await;
        });
    }
    versions
}

/// Writes a row of no history and retracts as many names as asked for.
async fn write(office: &Office, row: i64, names: usize) -> u64 {
    let instance = &office.instances[0];
    let session = Session::new();
    loop {
        let written = instance.store.write(&session, async |tx| {
            let version = crate::client::raise(tx, row, office.number()).await?;
            for row in (row..).take(names) {
                tx.retract(&instance.rows, &row);
            }
            Ok(version)
        });
        match written.await {
            Ok((version, _)) => return version,
            Err(error) => office.weigh_write(&error),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn flood(office: Arc<Office>, row: i64) {
    for _ in 0..4 {
        write(&office, row - 1, NOTICE_NAMES_MAX).await;
        sleep(Duration::from_millis(400)).await;
    }
}
