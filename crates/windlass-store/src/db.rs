//! Values on their way to a database and back, and the transaction that both engines offer.

use crate::{Result, StoreError};
use windlass_model::Micros;

/// What a statement is given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Param<'a> {
    Null,
    Int(i64),
    Bool(bool),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// What a statement answers.
#[derive(Debug, Clone, Default)]
pub(crate) enum Cell {
    #[default]
    Null,
    Int(i64),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
}

macro_rules! param_from {
    ($($type:ty: $value:ident => $param:expr,)*) => {
        $(impl<'a> From<$type> for Param<'a> {
            fn from($value: $type) -> Self {
                $param
            }
        })*
    };
}

param_from! {
    i64: value => Param::Int(value),
    u32: value => Param::Int(i64::from(value)),
    bool: value => Param::Bool(value),
    &'a str: value => Param::Text(value),
    &'a String: value => Param::Text(value),
    &'a [u8]: value => Param::Bytes(value),
    &'a Vec<u8>: value => Param::Bytes(value),
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Param::Null, Into::into)
    }
}

/// Parameters of a statement, `$1` first.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::db::Param::from($value)),*]
    };
}
pub(crate) use params;

/// A type that a column is read as.
pub(crate) trait FromCell: Sized {
    fn from_cell(cell: Cell) -> Option<Self>;
}

impl FromCell for i64 {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Int(value) => Some(value),
            _ => None,
        }
    }
}

impl FromCell for bool {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Bool(value) => Some(value),
            // SQLite has no type of its own for them.
            Cell::Int(value) => Some(value != 0),
            _ => None,
        }
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Text(value) => Some(value),
            _ => None,
        }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Bytes(value) => Some(value),
            _ => None,
        }
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

/// A row, read from its first column on.
pub(crate) struct Row(std::vec::IntoIter<Cell>);

impl Row {
    pub fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    /// The next column.
    pub fn take<T: FromCell>(&mut self) -> Result<T> {
        self.0.next().and_then(T::from_cell).ok_or_else(|| StoreError::Decode {
            what: "row",
            message: format!("a column is no {}", std::any::type_name::<T>()),
        })
    }
}

/// A type that a row is read as.
pub(crate) trait FromRow: Sized {
    fn from_row(row: &mut Row) -> Result<Self>;
}

impl FromRow for i64 {
    fn from_row(row: &mut Row) -> Result<Self> {
        row.take()
    }
}

impl FromRow for bool {
    fn from_row(row: &mut Row) -> Result<Self> {
        row.take()
    }
}

impl FromRow for String {
    fn from_row(row: &mut Row) -> Result<Self> {
        row.take()
    }
}

macro_rules! from_row_of_tuples {
    ($(($($name:ident),+))*) => {
        $(impl<$($name: FromCell),+> FromRow for ($($name,)+) {
            fn from_row(row: &mut Row) -> Result<Self> {
                Ok(($(row.take::<$name>()?,)+))
            }
        })*
    };
}

from_row_of_tuples! {
    (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G) (A, B, C, D, E, F, G, H)
    (A, B, C, D, E, F, G, H, I) (A, B, C, D, E, F, G, H, I, J) (A, B, C, D, E, F, G, H, I, J, K)
}

/// A statement with what it is given.
pub(crate) struct Ask<'a> {
    pub sql: &'static str,
    pub params: Vec<Param<'a>>,
}

impl<'a> Ask<'a> {
    pub fn new(sql: &'static str, params: &[Param<'a>]) -> Self {
        Self { sql, params: params.to_vec() }
    }
}

/// Rows of a statement as they are read.
pub(crate) fn read<T: FromRow>(mut rows: Vec<Row>) -> Result<Vec<T>> {
    rows.iter_mut().map(T::from_row).collect()
}

/// A connection of an engine. Statements are the same on both: parameters are `$1`, `$2` …, each used in the statement.
pub(crate) trait Link {
    fn rows(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>>;
    /// The same of several, one after the other, which share one way to the server and back.
    fn rows_each(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Row>>> {
        asks.iter().map(|ask| self.rows(ask.sql, &ask.params)).collect()
    }
    /// How many rows it changed.
    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64>;
    /// The database's own time.
    fn now(&mut self) -> Result<Micros>;
    /// Until the end of this transaction nobody else is between this and its own end with the same name.
    fn serialise(&mut self, name: &str) -> Result<()>;
    /// Whether each statement goes over a network to a server and back: then fewer, larger ones are better.
    fn is_remote(&self) -> bool;
}

/// An event as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub project: String,
    pub run: Option<String>,
    pub step: Option<String>,
    pub kind: String,
    pub subject: Option<String>,
    pub data: String,
    pub actor: Option<String>,
    pub reason: Option<String>,
    pub correlation: Option<String>,
    pub at: Micros,
}

impl EventRow {
    pub fn params(&self) -> [Param<'_>; 10] {
        [
            Param::from(&self.project),
            Param::from(self.run.as_deref()),
            Param::from(self.step.as_deref()),
            Param::from(&self.kind),
            Param::from(self.subject.as_deref()),
            Param::from(&self.data),
            Param::from(self.actor.as_deref()),
            Param::from(self.reason.as_deref()),
            Param::from(self.correlation.as_deref()),
            Param::from(self.at),
        ]
    }
}

/// How often something happened, as far as this process knows: what is waited for with [`crate::Store::changes`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Events were appended.
    pub events: u64,
    /// There may be something to do in a run, for whoever drives runs.
    pub work: u64,
    /// Logs have grown; of this process alone.
    pub logs: u64,
    /// Changes of forges are due; of this process alone.
    pub due: u64,
}

impl std::ops::Add for Changes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            work: self.work + other.work,
            logs: self.logs + other.logs,
            due: self.due + other.due,
        }
    }
}

impl Changes {
    /// Of somebody else, who did not say what happened.
    pub(crate) const ANY: Self = Self { events: 1, work: 1, logs: 0, due: 0 };

    /// What an engine writes about what it drives itself is no work for anybody.
    pub(crate) fn of(events: &[EventRow]) -> Self {
        let work = |event: &EventRow| {
            ["run.created", "run.woken", "run.resumed", "run.cancel_requested", "step.settled"]
                .contains(&event.kind.as_str())
        };
        Self { events: u64::from(!events.is_empty()), work: u64::from(events.iter().any(work)), ..Self::default() }
    }

    pub(crate) fn tell(self, changed: &tokio::sync::watch::Sender<Self>) {
        if self != Self::default() {
            changed.send_modify(|known| *known = *known + self);
        }
    }
}

/// Statements on one connection; those of a write are one transaction.
pub(crate) struct Tx<'a> {
    link: &'a mut dyn Link,
    /// What a test has set, or the database's time once it was asked for.
    now: Option<Micros>,
    pub(crate) events: Vec<EventRow>,
    told: Changes,
}

impl<'a> Tx<'a> {
    pub fn new(link: &'a mut dyn Link, now: Option<Micros>) -> Self {
        Self { link, now, events: Vec::new(), told: Changes::default() }
    }

    /// The same throughout a transaction.
    pub fn now(&mut self) -> Result<Micros> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let now = self.link.now()?;
        self.now = Some(now);
        Ok(now)
    }

    pub fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        self.link.execute(sql, params)
    }

    pub fn rows<T: FromRow>(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<T>> {
        read(self.link.rows(sql, params)?)
    }

    /// The rows of each, in the order of the statements, none of which needs the answer of another.
    pub fn rows_each(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Row>>> {
        self.link.rows_each(asks)
    }

    /// The same of as many as are known here.
    pub fn rows_of<const N: usize>(&mut self, asks: &[Ask<'_>; N]) -> Result<[Vec<Row>; N]> {
        <[_; N]>::try_from(self.link.rows_each(asks)?).map_err(|_| StoreError::Closed)
    }

    /// The first row.
    pub fn row<T: FromRow>(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Option<T>> {
        self.link.rows(sql, params)?.first_mut().map(T::from_row).transpose()
    }

    pub fn is_remote(&self) -> bool {
        self.link.is_remote()
    }

    /// The text for the engine, where both have no word in common.
    pub fn pick(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        if self.link.is_remote() { postgres } else { sqlite }
    }

    pub fn serialise(&mut self, name: &str) -> Result<()> {
        self.link.serialise(name)
    }

    /// Appended at the end of the transaction: from then on until the commit, nobody else appends.
    pub fn event(&mut self, event: EventRow) {
        self.events.push(event);
    }

    /// The events that are to be appended, and what there is to be told of once they are.
    pub(crate) fn take(&mut self) -> (Vec<EventRow>, Changes) {
        let events = std::mem::take(&mut self.events);
        let told = self.told + Changes::of(&events);
        (events, told)
    }

    /// Who follows logs is told that there is more.
    pub fn logged(&mut self) {
        self.told.logs += 1;
    }

    /// Who looks at changes of forges is told that some are due.
    pub fn due(&mut self) {
        self.told.due += 1;
    }
}

/// What a thread with a connection is asked to do. It may be done again from its beginning, after a rollback.
pub(crate) trait Work: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    fn end(self: Box<Self>, result: Result<()>);
}

struct Typed<T, F> {
    work: F,
    value: Option<T>,
    reply: tokio::sync::oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> Result<T> + Send> Work for Typed<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        // A panic ends this transaction, not the thread that others wait for.
        let body = std::panic::AssertUnwindSafe(|| (self.work)(tx));
        let done = std::panic::catch_unwind(body).unwrap_or_else(|panic| Err(StoreError::panicked(&*panic)));
        self.value = Some(done?);
        Ok(())
    }

    fn end(self: Box<Self>, result: Result<()>) {
        let value = self.value;
        let result = result.and_then(|()| value.ok_or(StoreError::Closed));
        // Whoever asked may have gone away.
        let _ = self.reply.send(result);
    }
}

/// The work, and where its result comes back.
pub(crate) fn work<T: Send + 'static>(
    work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> (Box<dyn Work>, tokio::sync::oneshot::Receiver<Result<T>>) {
    let (reply, result) = tokio::sync::oneshot::channel();
    (Box::new(Typed { work, value: None, reply }), result)
}

/// An array of objects as the text that a server reads rows from. It takes no text with NUL, in no way of writing it.
pub(crate) fn rows_as_json(mut rows: Vec<serde_json::Value>) -> String {
    let fields = rows.iter_mut().filter_map(serde_json::Value::as_object_mut).flat_map(|row| row.values_mut());
    for field in fields {
        if let serde_json::Value::String(text) = field
            && text.contains('\0')
        {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    serde_json::Value::from(rows).to_string()
}
