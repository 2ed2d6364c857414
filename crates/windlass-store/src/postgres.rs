//! PostgreSQL: some threads with a connection each. A transaction is one message to a thread; one that lost its connection before
//! its commit, or met another, is done again.

use crate::db::{Ask, Cell, Changes, EventRow, Link, Param, Row, Tx, Work};
use crate::queue::{Receiver, Sender, channel};
use crate::sqlite::{GROUP, Job};
use crate::{Durability, MIGRATIONS_POSTGRES, Result, StoreError};
use postgres::SimpleQueryMessage;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use windlass_model::Micros;

/// How long a transaction waits for a database that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a transaction that met another is done again at once.
const ATTEMPTS: u32 = 8;

/// Key of the advisory lock under which events are appended and schemas changed: "WLSS".
pub(crate) const EVENTS: &str = "1464619859";

const CHANNEL: &str = "windlass";

pub(crate) struct Postgres {
    pub writer: Sender<Job>,
    pub reader: Sender<Box<dyn Work>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Without it the thread that listens ends.
    _alive: Arc<()>,
}

/// What the threads share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub config: Arc<Config>,
    /// For messages: host and database, never the password.
    pub place: Arc<str>,
    pub tls: MakeRustlsConnect,
    pub clock: Option<Arc<AtomicI64>>,
    pub changed: Arc<tokio::sync::watch::Sender<Changes>>,
    /// What this process is called in notifications: its own it knows already.
    name: Arc<str>,
}

/// Reads an address such as `postgres://user@host/database?sslmode=require`.
///
/// # Errors
/// It is no such address.
pub(crate) fn shared(
    url: &str,
    clock: Option<Arc<AtomicI64>>,
    changed: Arc<tokio::sync::watch::Sender<Changes>>,
) -> Result<Shared> {
    let mut config: Config = url.parse().map_err(|error: postgres::Error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        StoreError::Address(why)
    })?;
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            postgres::config::Host::Tcp(name) => name.clone(),
            postgres::config::Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let place = format!("{} at {}", config.get_dbname().unwrap_or("postgres"), hosts.join(", "));
    config
        .application_name("windlass")
        .connect_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(15));
    Ok(Shared {
        config: Arc::new(config),
        place: place.into(),
        tls: tls()?,
        clock,
        changed,
        name: ulid::Ulid::generate().to_string().into(),
    })
}

fn tls() -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    // What cannot be read is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Address(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

impl Postgres {
    /// Connects, brings the schema up to date and starts `connections` threads. Blocks; not for a thread of the runtime.
    pub fn open(shared: &Shared, connections: usize) -> Result<Self> {
        migrate(shared)?;
        let ((write, jobs), (read, questions)) = (channel(), channel());
        let mut threads = Vec::new();
        // A question never waits behind a transaction, which may wait for a lock. Transactions end one after the other, since each
        // appends events: what waits meanwhile goes together, which many writers would prevent.
        let readers = (connections * 2 / 3).max(1);
        for number in 0..connections.max(2) {
            let (shared, jobs, questions) = (shared.clone(), jobs.clone(), questions.clone());
            let body = move || if number < readers { read_all(&shared, &questions) } else { write_all(&shared, &jobs) };
            threads.push(crate::sqlite::spawn("store", body));
        }
        let alive = Arc::new(());
        let (listener, until) = (shared.clone(), Arc::downgrade(&alive));
        crate::sqlite::spawn("store-listen", move || listen(&listener, &until));
        Ok(Self { writer: write, reader: read, threads, _alive: alive })
    }

    pub fn close(self) {
        drop((self.writer, self.reader, self._alive));
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn connect(shared: &Shared) -> Result<PostgresLink<'_>> {
    let of = |error| StoreError::of_postgres(&shared.place, &error);
    let away = |error: std::io::Error| {
        let (place, message) = (shared.place.to_string(), error.to_string());
        StoreError::Unreachable { place, message }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(away)?;
    let (client, connection) = runtime.block_on(shared.config.connect(shared.tls.clone())).map_err(of)?;
    // It goes on while somebody waits for an answer. Why it ended is told by whatever is asked then.
    runtime.spawn(async { _ = connection.await });
    // Whoever has locks and is not heard of any more, as a process that was stopped, loses them to those who wait.
    let first = "SET idle_in_transaction_session_timeout TO '10s';
        PREPARE windlass_begun AS SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT), txid_current()";
    runtime.block_on(client.batch_execute(first)).map_err(of)?;
    let (place, name) = (&*shared.place, &*shared.name);
    let statements = HashMap::new();
    Ok(PostgresLink { runtime, client, statements, place, name, heard: None, now: None, begin: None, begun: None })
}

/// A connection for whoever asks one thing after the other.
pub(crate) fn connect_plain(shared: &Shared) -> Result<postgres::Client> {
    let config = postgres::Config::from((*shared.config).clone());
    config.connect(shared.tls.clone()).map_err(|error| StoreError::of_postgres(&shared.place, &error))
}

fn migrate(shared: &Shared) -> Result<()> {
    let mut client = connect_plain(shared)?;
    let of = |error| StoreError::of_postgres(&shared.place, &error);
    // Of several servers that start at once, one does it.
    client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({EVENTS})")).map_err(of)?;
    client.batch_execute("CREATE TABLE IF NOT EXISTS windlass_schema (version BIGINT NOT NULL)").map_err(of)?;
    let version: i64 =
        client.query_one("SELECT COALESCE(MAX(version), 0) FROM windlass_schema", &[]).map_err(of)?.get(0);
    let newest = MIGRATIONS_POSTGRES.last().map_or(0, |(number, _)| *number);
    if version > newest {
        return Err(StoreError::Newer { place: shared.place.to_string(), found: version, known: newest });
    }
    for (number, text) in MIGRATIONS_POSTGRES.iter().filter(|(number, _)| *number > version) {
        client.batch_execute(text).map_err(of)?;
        client.execute("INSERT INTO windlass_schema (version) VALUES ($1)", &[number]).map_err(of)?;
    }
    client.batch_execute("COMMIT").map_err(of)
}

fn write_all(shared: &Shared, jobs: &Receiver<Job>) {
    let mut link: Option<PostgresLink<'_>> = None;
    while let Some(mut group) = jobs.receive_group(GROUP, Job::takes) {
        let together = link.as_mut().filter(|_| group.len() > 1).map(|link| write(link, &mut group, shared));
        let settled = match together {
            Some(Ok(())) => Some(Ok(())),
            Some(Err(Failed::InCommit(error, begun))) => {
                link = None;
                let mut is_undone = false;
                let result = firmly(shared, &mut link, Some((begun, error)), false, |_| {
                    is_undone = true;
                    Ok(())
                });
                if result.is_err() {
                    // Nobody knows, but some of them may be done twice.
                    let others: Vec<Job>;
                    (group, others) = group.into_iter().partition(|job| job.is_repeatable);
                    others.into_iter().for_each(|job| job.work.end(result.clone()));
                    None
                } else {
                    (!is_undone).then_some(result)
                }
            }
            // One of them failed, or met somebody.
            Some(Err(Failed::Before(_))) | None => None,
        };
        match settled {
            Some(result) => group.into_iter().for_each(|job| job.work.end(result.clone())),
            // Each has a transaction of its own.
            None => {
                for job in group {
                    let (is_repeatable, mut alone) = (job.is_repeatable, [job]);
                    let body = |link: &mut PostgresLink<'_>| write(link, &mut alone, shared);
                    let result = firmly(shared, &mut link, None, is_repeatable, body);
                    let [job] = alone;
                    job.work.end(result);
                }
            }
        }
    }
    // The thread that listens hears that it has nobody to tell any more, and does not keep its connection.
    let _ = link.map(|link| link.say(&format!("NOTIFY {CHANNEL}")));
}

fn read_all(shared: &Shared, questions: &Receiver<Box<dyn Work>>) {
    let mut link = None;
    while let Some(mut work) = questions.receive() {
        let result = firmly(shared, &mut link, None, true, |link| {
            link.now = link.fresh();
            work.run(&mut Tx::new(link, now(shared))).map_err(Failed::Before)
        });
        work.end(result);
    }
}

fn now(shared: &Shared) -> Option<Micros> {
    shared.clock.as_ref().map(|clock| clock.load(Ordering::SeqCst))
}

/// When something failed: whether it may have happened all the same.
enum Failed {
    Before(StoreError),
    InCommit(StoreError, Begun),
}

/// How long it is known what time it is at the server without asking.
const FRESH: Duration = Duration::from_secs(1);

/// A transaction, to ask for it later.
#[derive(Debug, Clone, Copy)]
struct Begun {
    id: i64,
    /// The database's time.
    at: Micros,
}

/// Whether a transaction was committed that lost its connection while it was; `None` when nobody knows.
fn committed(link: &mut PostgresLink<'_>, begun: Begun, since: Instant) -> Result<Option<bool>> {
    let of = |error: postgres::Error| StoreError::of_postgres(link.place, &error);
    // After a crash of the server numbers of transactions that left no trace are given again. There was none as long as somebody is
    // connected who was so before: another of ours, or, for a role that may see them, the server's own processes.
    let sql = format!(
        "SELECT txid_status({}), EXISTS (SELECT 1 FROM pg_stat_activity WHERE backend_start < to_timestamp({} / 1000000.0))",
        begun.id, begun.at
    );
    loop {
        let row = match link.runtime.block_on(link.client.query_one(&sql, &[])) {
            Ok(row) => row,
            // Its number was not given yet: there was a crash, and it left no trace.
            Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => return Ok(Some(false)),
            Err(error) => return Err(of(error)),
        };
        match (row.get::<_, Option<&str>>(0), row.get::<_, bool>(1)) {
            (Some("committed"), true) => return Ok(Some(true)),
            (Some("aborted"), _) => return Ok(Some(false)),
            // The server has not noticed yet that we went.
            (Some("in progress"), _) if since.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            _ => return Ok(None),
        }
    }
}

/// Does it on a connection that works, again when it met another transaction, and for some time when there is no connection.
/// `unanswered` is an attempt whose commit was not answered, and why: it is done only when that did not happen, or, where it is
/// repeatable, when nobody knows.
fn firmly<'s>(
    shared: &'s Shared,
    link: &mut Option<PostgresLink<'s>>,
    mut unanswered: Option<(Begun, StoreError)>,
    is_repeatable: bool,
    mut body: impl FnMut(&mut PostgresLink<'s>) -> std::result::Result<(), Failed>,
) -> Result<()> {
    let since = Instant::now();
    let mut met = 0;
    let mut wait = Duration::from_millis(20);
    loop {
        let connected = match link {
            Some(link) => Ok(link),
            None => connect(shared).map(|fresh| link.insert(fresh)),
        };
        let result = match connected {
            Err(error) => Err(Failed::Before(error)),
            Ok(link) => match &unanswered {
                None => body(link),
                Some((begun, why)) => match committed(link, *begun, since) {
                    Ok(Some(true)) => return Ok(()),
                    Ok(None) if !is_repeatable => return Err(why.clone().unknown()),
                    Ok(_) => {
                        unanswered = None;
                        body(link)
                    }
                    Err(error) => Err(Failed::Before(error)),
                },
            },
        };
        let error = match result {
            Ok(()) => return Ok(()),
            Err(Failed::InCommit(error, begun)) => {
                unanswered = Some((begun, error.clone()));
                error
            }
            Err(Failed::Before(error)) => error,
        };
        match &error {
            StoreError::Met(_) if met < ATTEMPTS => met += 1,
            StoreError::Unreachable { .. } if since.elapsed() < PATIENCE => {
                *link = None;
                std::thread::sleep(wait);
                wait = (wait * 2).min(Duration::from_secs(1));
            }
            _ => return Err(unanswered.map_or(error, |(_, why)| why.unknown())),
        }
    }
}

/// All of the group in one transaction, or nothing.
fn write(link: &mut PostgresLink<'_>, group: &mut [Job], shared: &Shared) -> std::result::Result<(), Failed> {
    let lazy = group.iter().all(|job| job.durability == Durability::Lazy);
    let lazily = if lazy { "SET LOCAL synchronous_commit TO off; " } else { "" };
    // Two groups can wait for each other, which single transactions do not: they do not wait long, and go on one by one.
    let briefly = if group.len() > 1 { "SET LOCAL lock_timeout TO '200ms'; " } else { "" };
    // The time comes with the answer to the beginning, and the number to ask by when the commit is not answered.
    link.begin(format!("BEGIN; {lazily}{briefly}EXECUTE windlass_begun")).map_err(Failed::Before)?;
    // Events come last, all at once: from then on until the commit nobody else appends.
    let mut tx = Tx::new(link, now(shared));
    let done = group.iter_mut().try_for_each(|job| job.work.run(&mut tx)).map(|()| tx.take());
    let committed = done.map_err(Failed::Before).and_then(|(events, told)| {
        link.commit(&events)?;
        Ok(told)
    });
    match committed {
        Ok(told) => {
            told.tell(&shared.changed);
            Ok(())
        }
        Err(failed) => {
            if matches!(failed, Failed::Before(_)) && link.begin.take().is_none() {
                // A connection that cannot do that is closed, which does it.
                let _ = link.say("ROLLBACK");
            }
            Err(failed)
        }
    }
}

/// Tells that events were appended, by whichever server, as long as somebody is `alive`.
fn listen(shared: &Shared, alive: &Weak<()>) {
    while alive.strong_count() > 0 {
        // Every failure is mended by connecting anew, which also tells what happened meanwhile.
        let _ = listen_once(shared, alive);
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn listen_once(shared: &Shared, alive: &Weak<()>) -> std::result::Result<(), postgres::Error> {
    let mut client = postgres::Config::from((*shared.config).clone()).connect(shared.tls.clone())?;
    client.batch_execute(&format!("LISTEN {CHANNEL}"))?;
    Changes::ANY.tell(&shared.changed);
    while alive.strong_count() > 0 {
        let heard = client.notifications().timeout_iter(Duration::from_secs(10)).next()?;
        match heard {
            // What this process did it was told already.
            Some(heard) => match heard.payload().split_once(' ') {
                Some((name, _)) if name == &*shared.name => {}
                Some((_, "events")) => Changes { work: 0, ..Changes::ANY }.tell(&shared.changed),
                _ => Changes::ANY.tell(&shared.changed),
            },
            None => client.is_valid(Duration::from_secs(5))?,
        }
    }
    Ok(())
}

/// A connection, and what moves it on while its thread waits.
struct PostgresLink<'s> {
    runtime: Runtime,
    client: Client,
    statements: HashMap<&'static str, Statement>,
    place: &'s str,
    name: &'s str,
    /// The time of the server as it said last, and when it did.
    heard: Option<(Instant, Micros)>,
    /// Of the present transaction.
    now: Option<Micros>,
    /// What begins the present transaction, where it was not said yet: it goes with the first statement.
    begin: Option<String>,
    begun: Option<Begun>,
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut postgres::types::private::BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Param::Null => Ok(IsNull::Yes),
            Param::Int(value) if *ty == Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
            Param::Int(value) => value.to_sql(ty, out),
            Param::Bool(value) => value.to_sql(ty, out),
            // The one character that PostgreSQL cannot store; output of programs has it now and then.
            Param::Text(value) if value.contains('\0') => value.replace('\0', "\u{fffd}").to_sql(ty, out),
            Param::Text(value) => value.to_sql(ty, out),
            Param::Bytes(value) => value.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl PostgresLink<'_> {
    fn statement(&mut self, sql: &'static str) -> Result<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.runtime.block_on(self.client.prepare(sql)).map_err(|error| self.failed(&error))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    fn failed(&self, error: &postgres::Error) -> StoreError {
        StoreError::of_postgres(self.place, error)
    }

    fn say(&self, sql: &str) -> std::result::Result<(), postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(sql))
    }

    /// Begins a transaction: at once where it is not known what time it is at the server, and otherwise with its first statement.
    fn begin(&mut self, text: String) -> Result<()> {
        (self.begin, self.begun, self.now) = (Some(text), None, self.fresh());
        if self.now.is_none() {
            self.said(async |_| Ok(()))?;
            self.now = self.begun.map(|begun| begun.at);
        }
        Ok(())
    }

    /// What time it is at the server, where that is known without asking.
    fn fresh(&self) -> Option<Micros> {
        let (at, then) = self.heard?;
        let since = at.elapsed();
        (since < FRESH).then(|| then.saturating_add(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
    }

    /// What is asked of the server, behind what begins the transaction where that was not said yet: both are sent together.
    fn said<T>(&mut self, work: impl AsyncFnOnce(&Client) -> std::result::Result<T, postgres::Error>) -> Result<T> {
        let (text, client) = (self.begin.take(), &self.client);
        let begin = async {
            match &text {
                Some(text) => client.simple_query(text).await.map(Some),
                None => Ok(None),
            }
        };
        // Polled in this order, they are sent in this order.
        let (begun, done) = self.runtime.block_on(async { tokio::join!(biased; begin, work(client)) });
        if let Some(answers) = begun.map_err(|error| self.failed(&error))? {
            let begun = answers.iter().find_map(|answer| match answer {
                SimpleQueryMessage::Row(row) => {
                    Some(Begun { at: row.get(0)?.parse().ok()?, id: row.get(1)?.parse().ok()? })
                }
                _ => None,
            });
            let nothing = || StoreError::Decode { what: "time of the database", message: "no answer".into() };
            let begun = begun.ok_or_else(nothing)?;
            (self.begun, self.heard) = (Some(begun), Some((Instant::now(), begun.at)));
        }
        done.map_err(|error| self.failed(&error))
    }

    /// Appends the events and commits: both are sent together, which saves a way to the server and back.
    fn commit(&mut self, events: &[EventRow]) -> std::result::Result<(), Failed> {
        if events.is_empty() && self.begin.take().is_some() {
            // Nothing was asked and nothing happened.
            return Ok(());
        }
        if self.begin.is_some() {
            // Without its number nobody could ask for it when the commit is not answered.
            self.said(async |_| Ok(())).map_err(Failed::Before)?;
        }
        let Some(begun) = self.begun else { return Err(Failed::Before(StoreError::Closed)) };
        let (appended, committed) = if events.is_empty() {
            (Ok(0), self.say("COMMIT"))
        } else {
            let statement = self.statement(APPEND).map_err(Failed::Before)?;
            let (rows, told) = self.told(events);
            let params = [Param::Text(&rows), Param::Text(&told)];
            let params = dynamic(&params);
            let (append, commit) = (self.client.execute(&statement, &params), self.client.batch_execute("COMMIT"));
            // Polled in this order, they are sent in this order.
            self.runtime.block_on(async { tokio::join!(biased; append, commit) })
        };
        let in_doubt = |error: &postgres::Error| error.as_db_error().is_none();
        match (appended, committed) {
            (Ok(_), Ok(())) => Ok(()),
            // The server said what is wrong, and has taken back what it was told to commit.
            (Err(error), _) if !in_doubt(&error) => Err(Failed::Before(self.failed(&error))),
            (Err(error), _) | (_, Err(error)) => Err(match self.failed(&error) {
                // The server said that it was rolled back.
                error @ StoreError::Met(_) => Failed::Before(error),
                error => Failed::InCommit(error, begun),
            }),
        }
    }

    /// Rows as they are read here.
    fn read(&self, found: &[postgres::Row]) -> Result<Vec<Row>> {
        let cell = |row: &postgres::Row, column: usize| {
            let ty = row.columns()[column].type_();
            let cell = match *ty {
                Type::INT8 => row.try_get::<_, Option<i64>>(column).map(|value| value.map(Cell::Int)),
                Type::INT4 => row.try_get::<_, Option<i32>>(column).map(|value| value.map(|v| Cell::Int(v.into()))),
                Type::BOOL => row.try_get::<_, Option<bool>>(column).map(|value| value.map(Cell::Bool)),
                Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column).map(|value| value.map(Cell::Bytes)),
                // What cannot be read as text is an error there.
                _ => row.try_get::<_, Option<String>>(column).map(|value| value.map(Cell::Text)),
            };
            cell.map(Option::unwrap_or_default).map_err(|error| StoreError::of_postgres(self.place, &error))
        };
        found
            .iter()
            .map(|row| (0..row.len()).map(|column| cell(row, column)).collect::<Result<Vec<Cell>>>().map(Row::new))
            .collect()
    }

    /// The rows of events as they are given to [`APPEND`], and what is told of them.
    fn told(&self, events: &[EventRow]) -> (String, String) {
        let row = |event: &EventRow| {
            serde_json::json!({
                "project": event.project, "run": event.run, "step": event.step, "kind": event.kind,
                "subject": event.subject, "data": event.data, "actor": event.actor, "reason": event.reason,
                "correlation": event.correlation, "at": event.at,
            })
        };
        let told = format!("{} {}", self.name, if Changes::of(events).work > 0 { "work" } else { "events" });
        (crate::db::rows_as_json(events.iter().map(row).collect()), told)
    }
}

/// The lock comes before the first id is drawn and is held to the end of the transaction: ids grow in the order in which readers see
/// them.
const APPEND: &str = "WITH first AS MATERIALIZED (SELECT pg_advisory_xact_lock(1464619859), pg_notify('windlass', $2))
    INSERT INTO events (project, run, step, kind, subject, data, actor, reason, correlation, at)
    SELECT e.project, e.run, e.step, e.kind, e.subject, e.data, e.actor, e.reason, e.correlation, e.at
    FROM first, ROWS FROM (json_to_recordset(CAST($1 AS json)) AS (
        project TEXT, run TEXT, step TEXT, kind TEXT, subject TEXT, data TEXT, actor TEXT, reason TEXT,
        correlation TEXT, at BIGINT
    )) WITH ORDINALITY AS e
    ORDER BY e.ordinality";

fn dynamic<'a>(params: &'a [Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

impl Link for PostgresLink<'_> {
    fn rows(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let statement = self.statement(sql)?;
        let params = dynamic(params);
        let found = self.said(async |client| client.query(&statement, &params).await)?;
        self.read(&found)
    }

    fn rows_each(&mut self, asks: &[Ask<'_>]) -> Result<Vec<Vec<Row>>> {
        let statements = asks.iter().map(|ask| self.statement(ask.sql)).collect::<Result<Vec<_>>>()?;
        let params: Vec<_> = asks.iter().map(|ask| dynamic(&ask.params)).collect();
        let found = self.said(async |client| {
            let asked = statements.iter().zip(&params).map(|(statement, params)| client.query(statement, params));
            // So few are polled in their order, and sent in it.
            Ok(futures_util::future::join_all(asked).await)
        })?;
        // Behind the one that failed all do.
        let found =
            found.into_iter().collect::<std::result::Result<Vec<_>, _>>().map_err(|error| self.failed(&error))?;
        found.iter().map(|rows| self.read(rows)).collect()
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        let statement = self.statement(sql)?;
        let params = dynamic(params);
        self.said(async |client| client.execute(&statement, &params).await)
    }

    fn now(&mut self) -> Result<Micros> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let mut rows = self.rows("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)", &[])?;
        let now = rows.first_mut().map_or(Err(StoreError::Closed), Row::take)?;
        (self.heard, self.now) = (Some((Instant::now(), now)), Some(now));
        Ok(now)
    }

    fn serialise(&mut self, name: &str) -> Result<()> {
        // A key of 64 bits: two names that share one only wait for each other.
        self.rows("SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended($1, 7))) AS held", &[Param::Text(name)])
            .map(drop)
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// Whether the server rolled back because of another transaction.
pub(crate) fn met(error: &postgres::Error) -> bool {
    let states =
        [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED, &SqlState::LOCK_NOT_AVAILABLE];
    error.code().is_some_and(|code| states.contains(&code))
}

/// Whether the server could not be reached, ends, or starts, or has ended this connection.
pub(crate) fn unreachable(error: &postgres::Error) -> bool {
    match error.code() {
        None => error.is_closed() || std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>()),
        // Too many connections, and one that was not heard of in the middle of a transaction.
        Some(code) => ["08", "57P", "53300", "25P03"].iter().any(|known| code.code().starts_with(known)),
    }
}
