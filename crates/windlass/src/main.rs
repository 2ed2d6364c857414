//! The `windlass` program: arguments, terminal views, and the composition of all crates.

mod arguments;
mod commands;
mod remote;
mod telemetry;
mod terminal;
mod views;

use arguments::{Arguments, Command, Policy};
use clap::Parser;
use remote::Remote;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use terminal::Terminal;
use windlass_app::error::AppError;
use windlass_policy::limits::Worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a command was called with, and how to answer.
pub struct Context {
    pub directory: std::path::PathBuf,
    pub json: bool,
    /// Data goes here.
    pub out: Terminal,
    /// Everything else goes here.
    pub err: Terminal,
}

/// How a command ended that could do its work: `false` is a negative answer (exit code 1).
pub type Answer = Result<bool, AppError>;

/// Bytes: what is not optimised takes more of it than threads have.
const STACK: usize = 8 << 20;

/// The first argument of the process that policies run in. It is for ourselves: no help and no completion has it.
const POLICY: &str = "__policy";

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == windlass_app::asked::ASK) {
        let gate = std::env::args().nth(2).unwrap_or_default();
        let (status, said) = windlass_app::asked::ask(&gate);
        println!("{said}");
        return ExitCode::from(status);
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == POLICY) {
        return match windlass_policy::limits::serve(std::io::stdin(), std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Our parent tells it.
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::parse();
    let global = arguments.global;
    let cx = Context {
        directory: global.directory.unwrap_or_else(|| ".".into()),
        json: global.json,
        out: Terminal::stdout(global.color),
        err: Terminal::stderr(global.color),
    };
    std::panic::set_hook(Box::new(|panic| {
        // The one place a bug in Windlass may speak for itself.
        eprintln!(
            "error[WL999]: internal error: {panic}\n  help: this is a bug in Windlass; please report it with the command you ran"
        );
    }));
    let remote = global.server.map(|url| Remote::new(&url, global.token_file, global.project));
    let result =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&cx, remote.as_ref(), arguments.command)));
    match result {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => {
            fail(&cx, &error);
            ExitCode::from(error.exit_code())
        }
        Err(_) => ExitCode::from(70),
    }
}

/// The exit code of a command that could do its work.
fn run(cx: &Context, remote: Option<&Remote>, command: Command) -> Result<u8, AppError> {
    match command {
        Command::Policy(command) if !matches!(command, Policy::Decisions(_)) => commands::policy::dispatch(cx, command),
        command => answer(cx, remote, command).map(|positive| u8::from(!positive)),
    }
}

fn answer(cx: &Context, remote: Option<&Remote>, command: Command) -> Answer {
    if let Some(answer) = remote.and_then(|remote| remote.answer(cx, &command)) {
        return answer;
    }
    match command {
        Command::Stacks => commands::stacks::stacks(cx),
        Command::Graph { format } => commands::stacks::graph(cx, format),
        Command::Show { stack } => commands::stacks::show(cx, &stack),
        Command::Affected { base, head } => commands::stacks::affected(cx, base.base.as_deref(), head.as_deref()),
        Command::Check => commands::files::check(cx),
        Command::Fmt { files, check } => commands::files::fmt(cx, &files, check),
        Command::Ci(command) => commands::ci::dispatch(cx, command),
        Command::Explain { code } => commands::files::explain(cx, code.as_deref()),
        Command::Access(command) => commands::access::run(cx, command),
        Command::Audit(command) => commands::audit::run(cx, &command),
        Command::Serve(arguments) => commands::serve::serve(cx, arguments),
        Command::Backup { output, database } => commands::database::backup(cx, output, &database),
        Command::Restore(options) => commands::database::restore(cx, &options),
        Command::Database(command) => commands::database::run(cx, command),
        Command::Doctor { config } => commands::files::doctor(cx, config.as_deref()),
        Command::Login(options) => remote::login::login(cx, remote, &options),
        Command::Logout { url } => remote::login::logout(cx, remote, url.as_deref()),
        Command::Whoami | Command::Token(_) | Command::Notifiers { .. } => Err(remote::none()),
        Command::Worker(arguments) => commands::worker::worker(cx, arguments),
        Command::Completions { shell } => commands::files::completions(shell),
        Command::Policy(Policy::Decisions(command)) => match commands::policy_decisions::plain(cx, &command) {
            Some(answer) => answer,
            None => commands::runs::dispatch(cx, Command::Policy(Policy::Decisions(command))),
        },
        command => commands::runs::dispatch(cx, command),
    }
}

/// This program, as the process that policies run in.
pub fn policy_worker() -> Worker {
    // Of the program that runs, also when another version was put in its place.
    let own = Path::new("/proc/self/exe");
    let program =
        if own.exists() { own.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| own.to_owned()) };
    // Address space that the allocator only reserves would hide how much is used.
    let environment = vec![("MIMALLOC_ARENA_RESERVE".to_owned(), "0".to_owned())];
    Worker { program, arguments: vec![POLICY.to_owned()], environment }
}

/// Whether standard output has its one document.
static ANSWERED: AtomicBool = AtomicBool::new(false);

fn fail(cx: &Context, error: &AppError) {
    if cx.json && !ANSWERED.load(Ordering::Relaxed) {
        print_json(
            &serde_json::json!({ "error": { "kind": format!("{:?}", error.kind).to_lowercase(), "diagnostics": error.diagnostics } }),
        );
    }
    eprint!("{}", views::diagnostic::render_all(cx.err, &error.diagnostics));
}

/// One JSON document on standard output.
pub fn print_json<T: serde::Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            ANSWERED.store(true, Ordering::Relaxed);
            print(&format!("{text}\n"));
        }
        Err(error) => eprintln!("cannot render the answer as JSON: {error}"),
    }
}

/// Text on standard output. A reader that went away (`| head`) ends the program quietly, as every filter does.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
