//! A client: it reads and writes for its session, and tells its parent what it was told.

use crate::messages::{Deed, End, Reading, Report, Shown, Wish, now};
use crate::office::{Instance, Office};
use crate::rows::Row;
use highwater::source::Outcome as Fate;
use highwater::source::postgres::QueryError;
use highwater::wire::Outcome;
use highwater::{
    Fallback, Freshness, Position, Read, ReadError, ReadOptions, Receipt, Rung, Session, Tx, Unknown, WriteError,
};
use rand::RngExt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How many rows the clients fight for; the lower ones more.
pub(crate) const ROWS: i64 = 16;

/// The longest pause between what one client does, and the most reads in a row.
const THINK_MS: u64 = 20;
const BURST: u64 = 32;

/// How long a client asks what became of a commit before it calls it unknown.
const PATIENCE: Duration = Duration::from_secs(5);

/// Raises the row's version by one under the row's lock, and notes who did.
const RAISE: &str = "with raised as (insert into rows values ($1, 1, $2, $3) on conflict (id) do update \
     set version = rows.version + 1, op = excluded.op, name = excluded.name returning version) \
     insert into made select $2, version from raised returning version";

pub(crate) struct Client {
    office: Arc<Office>,
    place: usize,
    first_row: i64,
    id: u64,
    session: Session,
}

/// Raises a row's version within a transaction.
pub(crate) async fn raise(tx: &Tx, row: i64, op: u64) -> Result<u64, QueryError> {
    let name = if row % 2 == 0 { "even/row" } else { "row" };
    let version: i64 = tx.query_one(RAISE, &[&row, &op.cast_signed(), &name]).await?.get(0);
    Ok(version.cast_unsigned())
}

impl Client {
    pub(crate) fn new(office: Arc<Office>, place: usize, first_row: i64) -> Self {
        let id = office.number();
        let session = if place.is_multiple_of(4) { Session::monotonic() } else { Session::new() };
        Self { office, place, first_row, id, session }
    }

    pub(crate) async fn work(mut self) {
        while !self.office.over.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(draw(0..THINK_MS))).await;
            let went_well = match draw(0..100) {
                0..8 => self.write().await,
                8..16 => self.read_many().await,
                16 if !self.session.is_monotonic() => self.move_on(),
                _ => self.read_some().await,
            };
            if !went_well {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn any_row(&self) -> i64 {
        let within = 0..ROWS.cast_unsigned();
        self.first_row + draw(within.clone()).min(draw(within)).cast_signed()
    }

    /// Another place each time, so that a session knows what it saw elsewhere.
    fn any_instance<'a>(&self, office: &'a Office) -> &'a Instance {
        &office.instances[rand::rng().random_range(0..office.instances.len())]
    }

    async fn read_some(&self) -> bool {
        let office = Arc::clone(&self.office);
        let on = self.any_instance(&office);
        for _ in 0..draw(1..BURST) {
            let (wish, options) = wish();
            let (row, begun) = (self.any_row(), now());
            let read = on.rows.get_with(&self.session, &row, &options).await;
            let shown = read.as_ref().map(shown);
            self.told(wish, begun, &[(row, shown.ok())]);
            if let Err(error) = read {
                self.failed(on, &error);
                return false;
            }
        }
        true
    }

    async fn read_many(&self) -> bool {
        let office = Arc::clone(&self.office);
        let on = self.any_instance(&office);
        let (wish, options) = wish();
        let rows: Vec<_> = (0..draw(2..8)).map(|_| self.any_row()).collect();
        let begun = now();
        match on.rows.get_many(&self.session, &rows, &options).await {
            Ok(reads) => {
                let reads: Vec<_> = rows.iter().zip(&reads).map(|(row, read)| (*row, Some(shown(read)))).collect();
                self.told(wish, begun, &reads);
                true
            }
            Err(error) => {
                let reads: Vec<_> = rows.iter().map(|row| (*row, None)).collect();
                self.told(wish, begun, &reads);
                self.failed(on, &error);
                false
            }
        }
    }

    fn told(&self, wish: Wish, begun: u64, reads: &[(i64, Option<Shown>)]) {
        let ended = now();
        for &(row, shown) in reads {
            let (session, monotonic) = (self.id, self.session.is_monotonic());
            let reading = Reading { session, monotonic, row, wish, begun, ended, shown };
            self.office.line.tell(&Report::Deed(Deed::Read(reading)));
        }
        if reads.iter().all(|(_, shown)| shown.is_some_and(|shown| !shown.stale)) {
            self.office.answered[self.place].store(begun, Ordering::SeqCst);
        }
    }

    /// A loss is told to the user, who then goes on.
    fn failed(&self, on: &Instance, error: &ReadError<QueryError>) {
        self.office.weigh_read(error);
        if error.as_cache().is_some_and(highwater::Error::is_write_lost) {
            self.office.line.tell(&Report::Deed(Deed::LossTold { session: self.id, at: now() }));
            on.store.accept_loss(&self.session);
            self.holds();
        }
    }

    fn holds(&self) {
        if let Some(token) = self.office.gate.write(&self.session, None) {
            self.office.line.tell(&Report::Holds { session: self.id, token });
        }
    }

    /// Goes to another process; whoever came from one takes the place, or else a new client.
    fn move_on(&mut self) -> bool {
        if let Some(token) = self.office.gate.write(&self.session, None) {
            self.office.line.tell(&Report::Leaves { session: self.id, token });
        }
        (self.id, self.session) = (self.office.number(), Session::new());
        if let Some((from, token)) = self.office.next_waiting() {
            let outcome = self.office.gate.take_in(&self.session, token.as_bytes(), None);
            if outcome == Outcome::Valid {
                self.office.line.took(from, self.id);
            } else {
                self.office.line.tell(&Report::Odd(format!("a token of ours is {outcome:?}: {token}")));
            }
        }
        true
    }

    async fn write(&self) -> bool {
        let office = Arc::clone(&self.office);
        let on = self.any_instance(&office);
        let (op, row) = (office.number(), self.any_row());
        // It must be known before the row can name it, even if this process dies the next moment.
        office.line.tell_now(&Report::Deed(Deed::WriteBegun { op, session: self.id, row, at: now() }));
        let end = match draw(0..10) {
            0 => self.roll_back(on, row, op).await,
            1..4 => self.write_by_closure(on, row, op).await,
            _ => self.write_by_hand(on, row, op).await,
        };
        let end = match end {
            Ok(end) => end,
            Err(error) => {
                office.weigh_write(&error);
                End::RolledBack
            }
        };
        let went_well = !matches!(end, End::RolledBack);
        // The token first: should the process die in between, whoever takes it over knows more than was told, not less.
        self.holds();
        office.line.tell(&Report::Deed(Deed::WriteEnded { op, end, at: now() }));
        went_well
    }

    async fn write_by_hand(&self, on: &Instance, row: i64, op: u64) -> Result<End, WriteError<QueryError>> {
        let mut tx = on.store.begin(&self.session).await.map_err(WriteError::Store)?;
        let version = match raise(&tx, row, op).await {
            Ok(version) => version,
            Err(error) => {
                tx.rollback().await;
                return Err(WriteError::Caller(error));
            }
        };
        self.retract(&mut tx, on, row);
        match tx.commit().await {
            Ok(receipt) => Ok(committed(version, &receipt)),
            Err(WriteError::Unknown(unknown)) => Ok(unsure(version, &unknown).await),
            Err(WriteError::RolledBack(error)) => Err(WriteError::RolledBack(error)),
            Err(error) => Err(WriteError::Store(error.as_store().cloned().unwrap_or_else(|| unreachable!()))),
        }
    }

    async fn write_by_closure(&self, on: &Instance, row: i64, op: u64) -> Result<End, WriteError<QueryError>> {
        let mut made = 0;
        let written = on.store.write(&self.session, async |tx| {
            made = raise(tx, row, op).await?;
            self.retract(tx, on, row);
            Ok(())
        });
        match written.await {
            Ok(((), receipt)) => Ok(committed(made, &receipt)),
            Err(WriteError::Unknown(unknown)) => Ok(unsure(made, &unknown).await),
            Err(error) => Err(error),
        }
    }

    async fn roll_back(&self, on: &Instance, row: i64, op: u64) -> Result<End, WriteError<QueryError>> {
        let tx = on.store.begin(&self.session).await.map_err(WriteError::Store)?;
        let raised = raise(&tx, row, op).await;
        if draw(0..2) == 0 {
            tx.rollback().await
        } else {
            drop(tx)
        }
        raised.map(|_| End::RolledBack).map_err(WriteError::Caller)
    }

    /// By its key, its group or the whole cache.
    fn retract(&self, tx: &mut Tx, on: &Instance, row: i64) {
        match draw(0..20) {
            0 => tx.retract_cache(&on.rows),
            1..4 if row % 2 == 0 => tx.retract_group("even").retract(&on.rows, &row),
            _ => tx.retract(&on.rows, &row),
        };
    }
}

/// What a read asks for, in the words of the ring and of the library.
fn wish() -> (Wish, ReadOptions) {
    match draw(0..100) {
        0..3 => (Wish::Latest, ReadOptions::fresh(Freshness::Latest)),
        3..8 => {
            let bound = draw(100..2_000);
            (Wish::WithinMs(bound), ReadOptions::fresh(Freshness::Within(Duration::from_millis(bound))))
        }
        8..12 => (Wish::Any, ReadOptions::fresh(Freshness::Any)),
        12..17 => (Wish::Own, ReadOptions::default().or_else(Fallback::Stale)),
        _ => (Wish::Own, ReadOptions::default()),
    }
}

fn shown(read: &Read<Row>) -> Shown {
    let rung = match read.rung {
        Rung::Local => 0,
        Rung::Shared => 1,
        Rung::Replica => 2,
        _ => 3,
    };
    let row = read.value.as_deref();
    let (version, maker) = (row.map_or(0, |row| row.version), row.map(|row| row.op));
    Shown { version, maker, rung, stale: read.stale, place: place(read.position) }
}

fn committed(version: u64, receipt: &Receipt) -> End {
    End::Committed { version, place: place(receipt.position) }
}

async fn unsure(version: u64, unknown: &Unknown) -> End {
    match timeout(PATIENCE, unknown.resolve()).await {
        // No position is told with it, so none is held against it.
        Ok(Fate::Committed) => End::Committed { version, place: 0 },
        Ok(Fate::Aborted) => End::RolledBack,
        _ => End::Unknown { version },
    }
}

/// A position as the checker compares it; timelines follow each other.
fn place(position: Position) -> u64 {
    u64::from(position.timeline.0) << 48 | position.lsn.offset()
}

/// The generator is the thread's own, and must not be kept over an await.
fn draw(range: Range<u64>) -> u64 {
    rand::rng().random_range(range)
}
