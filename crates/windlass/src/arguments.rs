//! The command line, as data. Flags, environment and defaults are resolved here once.

use crate::remote::notifiers::NotifiersCommand;
use crate::telemetry::LogFormat;
use crate::terminal::ColorChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Reviews and applies the Terraform/OpenTofu stacks of a git repository: finds them, orders them, says what a change
/// affects and would do, asks for approval where it matters, and applies exactly what was reviewed.
#[derive(Debug, Parser)]
#[command(
    name = "windlass",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "\
Examples:
  windlass stacks                     what is here
  windlass graph                      how it depends on each other
  windlass affected --base main       what the change on this branch touches
  windlass review                     plan it, judge it, print one review
  windlass approve && windlass apply  carry it out in order

Exit codes: 0 done, 1 a negative answer (denied, failed, differences found), 2 usage or definition error,
3 something outside was unavailable, 70 a bug."
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// Work in this directory instead of the current one.
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// Print JSON for programs on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour (NO_COLOR is honoured).
    #[arg(long, value_enum, default_value = "auto", global = true, value_name = "WHEN")]
    pub color: ColorChoice,
    /// Ask this server instead of working in the checkout, e.g. `https://windlass.example.com`.
    #[arg(long, env = "WINDLASS_URL", hide_env_values = true, global = true, value_name = "URL", help_heading = "Server", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub server: Option<String>,
    /// The server's project [default: the one whose repository this checkout is of].
    #[arg(long, env = "WINDLASS_PROJECT", global = true, value_name = "NAME", help_heading = "Server")]
    pub project: Option<String>,
    /// Read the token for the server from this file [default: WINDLASS_TOKEN, what the CI gives, or that of `windlass login`].
    #[arg(long, env = "WINDLASS_TOKEN_FILE", global = true, value_name = "FILE", help_heading = "Server")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve this repository, or those that are named, to people and programs: web pages, API, engine.
    #[command(after_help = "\
Examples:
  windlass serve                                              in a checkout: follows it, on this machine only
  windlass serve --repository https://git.example.com/infra.git --data /var/lib/windlass
  windlass serve --config /etc/windlass/windlass.toml --database postgres://windlass@db/windlass")]
    Serve(Serve),
    /// Do steps of the runs of a server, on another machine, until stopped.
    #[command(after_help = "\
Example:
  windlass worker --label production --config /etc/windlass/windlass.toml --database postgres://windlass@db/windlass")]
    Worker(Worker),
    /// List the stacks of this repository, their instances, states and order.
    Stacks,
    /// Show how stacks depend on each other.
    Graph {
        #[arg(long, value_enum, default_value = "tree")]
        format: GraphFormat,
    },
    /// Show one stack: instances, edges with their evidence, outputs, variables, everything it reads.
    #[command(after_help = "Example:\n  windlass show aws/network")]
    Show {
        /// Path of the stack, as `windlass stacks` prints it.
        stack: String,
    },
    /// Say which instances a change affects, and why.
    #[command(after_help = "\
Examples:
  windlass affected                       this branch and the work tree against the default branch
  windlass affected --base main --json
  windlass affected --base v1 --head v2   between two commits, nothing is checked out")]
    Affected {
        #[command(flatten)]
        base: Base,
        /// Compare up to this commit instead of the work tree.
        #[arg(long, value_name = "REV")]
        head: Option<String>,
    },
    /// Check all Windlass files and all Terraform configuration without running a plan.
    Check,
    /// Format Windlass files.
    Fmt {
        /// Files; all of the repository when none is given.
        files: Vec<PathBuf>,
        /// Change nothing; exit with 1 when a file is not formatted.
        #[arg(long)]
        check: bool,
    },
    /// Explain a diagnostic code.
    #[command(after_help = "Example:\n  windlass explain WL201")]
    Explain {
        /// The code, e.g. WL201; all codes when left out.
        code: Option<String>,
    },
    /// Judge files by policies (as Conftest does), test policies, and ask what they say.
    #[command(subcommand)]
    Policy(Policy),
    /// Say who may do what on a server, and why.
    #[command(subcommand)]
    Access(crate::commands::access::AccessCommand),
    /// Write everything that is recorded into one file, as it is now; servers and commands go on meanwhile.
    #[command(after_help = "\
Examples:
  windlass backup                                      into windlass-TIME.backup
  windlass backup --output /backups/monday.backup
  windlass backup --database postgres://windlass@db.example.com/windlass
  windlass backup --output - | ssh store 'cat > windlass.backup'

The file is for both engines. It holds all that the database does except sessions: keep it as safe.")]
    Backup {
        /// Write to this file, which must not be there yet; `-` is standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        database: crate::commands::database::DatabaseChoice,
    },
    /// Put a backup into an empty database: all of it arrives or nothing.
    #[command(after_help = "\
Examples:
  windlass restore --check monday.backup         is it whole, and what is in it
  windlass restore monday.backup
  windlass restore monday.backup --replace       lose what is there now
  windlass restore monday.backup --database postgres://windlass@db.example.com/windlass")]
    Restore(crate::commands::database::RestoreOptions),
    /// Move the record from one database to another.
    #[command(subcommand)]
    Database(crate::commands::database::DatabaseCommand),
    /// Plan every affected instance, judge it by policy and print one review.
    #[command(after_help = "\
Examples:
  windlass review                    what this branch changes
  windlass review --all              every stack, whatever differs
  windlass review --stack 'aws/**'   only these
  windlass review --show             print the last review again
  terraform show -json plan | windlass review --plan aws/network=-
  windlass review --format markdown --output comment.md     for a comment on a forge
  windlass review --show --format html --output review.html
  windlass review --show --format summary                   labels and counts, for programs")]
    Review {
        #[command(flatten)]
        base: Base,
        /// Review every instance, also those that nothing affects.
        #[arg(long, conflicts_with = "stack")]
        all: bool,
        /// Review the instances that match this pattern, and only those (may be given several times).
        #[arg(long, value_name = "PATTERN")]
        stack: Vec<String>,
        /// Review a plan that was made elsewhere (`terraform show -json`; `-` is standard input) instead of making plans; may be
        /// given several times.
        #[arg(long, value_name = "[INSTANCE=]FILE", conflicts_with_all = ["all", "stack", "base", "report", "show"])]
        plan: Vec<String>,
        /// Take the findings of another program's report in SARIF into the review (may be given several times).
        #[arg(long, value_name = "FILE")]
        report: Vec<PathBuf>,
        /// Print a review that was made before (the last one when no id is given) instead of making one.
        #[arg(long, value_name = "REVIEW", num_args = 0..=1, default_missing_value = "latest", conflicts_with_all = ["all", "stack", "base", "report"])]
        show: Option<String>,
        #[command(flatten)]
        view: ReviewView,
    },
    /// In a job of GitHub or Gitea Actions, GitLab CI, Bitbucket Pipelines or Jenkins: review and apply its change, without a server.
    #[command(subcommand)]
    Ci(crate::commands::ci::CiCommand),
    /// Approve a review, or the changed effect that an apply waits with.
    #[command(
        after_help = "Examples:\n  windlass approve                    the last review\n  windlass approve 01k9… --reason 'checked with the team'"
    )]
    Approve {
        /// A review or a waiting apply; the last one when left out.
        id: Option<String>,
        /// Recorded with the approval.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Waive one finding on one review, for a time and with a reason, by somebody who may; or list what may be waived.
    #[command(after_help = "\
Examples:
  windlass waive                                    what denies the last review
  windlass waive 3f1c9a72 --reason 'closed on Friday, OPS-512' --expires 3d
  windlass waive deny_public --review 01k9… --reason '…'")]
    Waive {
        /// The first digits of its id, or its rule; what denies the review is listed when left out.
        finding: Option<String>,
        /// The review; the last one when left out.
        #[arg(long, value_name = "REVIEW")]
        review: Option<String>,
        /// Recorded and shown.
        #[arg(long, value_name = "TEXT", requires = "finding")]
        reason: Option<String>,
        /// How long it holds, e.g. 12h [default: 7d, or as long as it may].
        #[arg(long, value_name = "TIME", requires = "finding", value_parser = crate::commands::policy_decisions::expiry)]
        expires: Option<windlass_model::Micros>,
    },
    /// List and count all waivers.
    Waivers,
    /// Apply an approved review, in the order of its edges.
    Apply {
        /// The review; the last one when left out.
        review: Option<String>,
        /// Do not ask before starting.
        #[arg(long, short)]
        yes: bool,
        /// Name a stack instance that may be destroyed as a whole (may be given several times).
        #[arg(long, value_name = "INSTANCE")]
        confirm: Vec<String>,
    },
    /// Review the destruction of stacks, in reverse order of their edges; `windlass apply` carries it out.
    #[command(after_help = "\
Examples:
  windlass destroy aws/monitor
  windlass destroy 'aws/**'
  windlass apply --confirm aws/monitor     or have the review approved")]
    Destroy {
        /// Instances that match these patterns.
        #[arg(required = true, value_name = "PATTERN")]
        stack: Vec<String>,
    },
    /// Take what was made by hand into a stack: `import` blocks and generated configuration on a branch ready for review.
    #[command(after_help = "\
Examples:
  windlass adopt aws/network 'aws_vpc.main=vpc-0a1b2c' 'aws_subnet.a=subnet-1'
  windlass adopt aws/network --from list.csv        lines ADDRESS=ID, CSV or JSON
  windlass adopt --unmanaged --listing all.json     what no state of this repository has
  windlass adopt aws/network --listing new.json     addresses are made from types and names")]
    Adopt {
        /// The stack that takes them.
        #[arg(required_unless_present = "unmanaged", conflicts_with = "unmanaged")]
        stack: Option<String>,
        /// ADDRESS=ID, with the id that the provider imports by.
        #[arg(value_name = "ADDRESS=ID")]
        resource: Vec<String>,
        /// Read them from a file: lines ADDRESS=ID, CSV with a head line, or JSON; `-` is standard input.
        #[arg(long, value_name = "FILE", conflicts_with = "unmanaged")]
        from: Option<PathBuf>,
        /// Read a JSON list of {"type", "id", "name"?}, as a cloud's listing gives; `-` is standard input.
        #[arg(long, value_name = "FILE", required_if_eq("unmanaged", "true"))]
        listing: Option<PathBuf>,
        /// Only compare the listing with all states of this repository, and list what none of them has.
        #[arg(long)]
        unmanaged: bool,
        /// Import into configuration that is there already, where there is.
        #[arg(long, conflicts_with = "unmanaged")]
        configured: bool,
        /// Go on although a state cannot be read, in which the ids may be managed already.
        #[arg(long, conflicts_with = "unmanaged")]
        ignore_unread: bool,
    },
    /// Look for drift: what the configuration would change although nobody changed it, and what the world changed behind the
    /// states.
    #[command(after_help = "\
Examples:
  windlass drift                       all stacks
  windlass drift 'aws/**'
  windlass drift --last                what was found before, without looking again
  windlass drift --schedule-ready      for a scheduler: silent when there is none; 1 drift, 3 something could not be looked at")]
    Drift {
        /// Instances that match these patterns; all when left out.
        #[arg(value_name = "PATTERN")]
        stack: Vec<String>,
        /// Show what was found the last time.
        #[arg(long)]
        last: bool,
        /// Print nothing when there is no drift, and no progress.
        #[arg(long, conflicts_with = "last")]
        schedule_ready: bool,
    },
    /// Show what an apply that ended badly left, and settle it: nothing is applied to a quarantined stack before.
    #[command(after_help = "\
Examples:
  windlass recover                          what is quarantined
  windlass recover aws/network              what happened, what is in doubt, what to do
  windlass recover aws/network --push       write the state that terraform could not write
  windlass recover aws/network --release --why 'looked in the console, nothing was made'
  windlass recover aws/network --snapshot latest > before.tfstate")]
    Recover {
        /// The stack or instance; all that are quarantined when left out.
        stack: Option<String>,
        /// Push the kept errored.tfstate; terraform refuses one that does not follow the present state.
        #[arg(long, requires = "stack")]
        push: bool,
        /// Break the lock at the backend that may be the dead apply's own, by the id that is shown.
        #[arg(long, value_name = "ID", requires = "stack", conflicts_with = "push")]
        force_unlock: Option<String>,
        /// Lift the quarantine.
        #[arg(long, requires = "stack", requires = "why")]
        release: bool,
        /// Why it is safe; recorded.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Print the state from before an apply (its run, or `latest`) on standard output. It holds secrets in the clear.
        #[arg(long, value_name = "RUN", requires = "stack", conflicts_with_all = ["push", "release"])]
        snapshot: Option<String>,
    },
    /// List who holds and who waits for the lock of each stack instance.
    Locks,
    /// Take a run out of the queue of a lock, or end its claim when its process is known to be dead.
    #[command(after_help = "Example:\n  windlass unlock aws/network --why 'the machine was replaced'")]
    Unlock {
        /// The stack instance, as `windlass locks` prints it.
        instance: String,
        /// Recorded.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// List every apply of a stack: commit, effect, who approved, how long it took, how it ended.
    #[command(after_help = "Example:\n  windlass history aws/network")]
    History {
        /// The stack or instance.
        stack: String,
        /// How many.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Compare what two runs (reviews or applies) would do or did, stack by stack; of operations their parameters, definitions and
    /// durations.
    #[command(after_help = "Example:\n  windlass diff 01k9… 01ka…")]
    Diff { before: String, after: String },
    /// Review taking what an apply applied back to the commits that were applied before it.
    #[command(after_help = "Example:\n  windlass rollback latest && windlass approve && windlass apply")]
    Rollback {
        /// The apply; `latest` for the newest run.
        run: String,
    },
    /// List operations, or show one: what it asks for, who may run it, what it does.
    Operations(crate::commands::operations::Operations),
    /// Run an operation, and wait for its end.
    Run(crate::commands::operations::Run),
    /// Run an operation once more, with the parameters that a run of it had.
    Repeat(crate::commands::operations::Repeat),
    /// List the schedules of operations, pause them, make up for what was missed, and begin operations at a time.
    #[command(subcommand)]
    Schedule(crate::commands::schedules::Schedules),
    /// Answer what a run of an operation asks: an approval, a question, an item of its checklist.
    Answer(crate::commands::operations::AnswerOptions),
    /// List runs, newest first, or one run with its steps.
    Runs {
        /// Show this run with its steps.
        run: Option<String>,
        /// Show how far it is until it has ended or waits for somebody; then end as the command does that started it.
        #[arg(long, short, requires = "run")]
        follow: bool,
        /// Only runs of this operation.
        #[arg(long, value_name = "NAME", conflicts_with = "run")]
        operation: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Print the log of a run or of one of its steps.
    #[command(after_help = "Examples:\n  windlass logs 01k9…\n  windlass logs -f 01k9…/apply:aws/network")]
    Logs {
        /// `RUN` or `RUN/STEP`; `latest` for the newest run.
        target: String,
        /// Go on until the run has ended.
        #[arg(long, short)]
        follow: bool,
    },
    /// List the files that steps of an operation left (their `artefacts`), or save one.
    Artefacts(crate::commands::artefacts::ArtefactOptions),
    /// Ask a run to stop: what runs is interrupted once, what has not begun is not begun.
    Cancel {
        run: String,
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// At once: nothing is taken back, and what runs is given no time.
        #[arg(long)]
        kill: bool,
    },
    /// Have nothing new begin in a run until it is resumed; what is under way goes on to its end.
    #[command(
        after_help = "Examples:\n  windlass halt latest --why \"the canary looks odd\"\n  windlass resume latest"
    )]
    Halt {
        /// The run; `latest` for the newest.
        run: String,
        /// Why, for whoever resumes it.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Go on with a run whose process died or that waits, or where an operation failed.
    #[command(after_help = "\
Examples:
  windlass resume                                        the newest unfinished run
  windlass resume 01k9… --settle apply:aws/db=done       a step whose end is unknown did happen
  windlass resume 01k9… --settle apply:aws/db=repeat     it did not; run it again
  windlass resume 01k9… password=@secret.txt             an operation that failed: from there, as a new run")]
    Resume {
        /// The run; the newest unfinished one when left out.
        run: Option<String>,
        /// Settle a step whose end is unknown: STEP=done, STEP=failed or STEP=repeat.
        #[arg(long, value_name = "STEP=ANSWER")]
        settle: Vec<String>,
        #[command(flatten)]
        how: crate::commands::operations::How,
    },
    /// Prove that the record of what happened is whole.
    #[command(subcommand)]
    Audit(crate::commands::audit::Audit),
    /// Get a token for this terminal: the server shows a page on which you confirm it, in any browser.
    #[command(after_help = "\
Examples:
  windlass login https://windlass.example.com
  windlass login --permission project.read --days 7      less than you may, and not for long")]
    Login(Login),
    /// End the token that `windlass login` got, and forget it.
    Logout {
        /// The server [default: that of --server].
        url: Option<String>,
    },
    /// Say who you are to the server, and what its token may.
    Whoami,
    /// List where a server's messages go, and how that does.
    Notifiers {
        #[command(subcommand)]
        command: Option<NotifiersCommand>,
    },
    /// Make, list and revoke tokens for programs, on the server.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Say what of the outside world is here and fit: git, terraform, the database.
    Doctor {
        /// Also look at what a server with this configuration needs.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print a completion script.
    #[command(
        after_help = "Example:\n  windlass completions bash > ~/.local/share/bash-completion/completions/windlass"
    )]
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct Base {
    /// Compare with the merge base with this branch or commit [default: the default branch].
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
}

#[derive(Debug, Args)]
pub struct Login {
    /// The server [default: that of --server].
    pub url: Option<String>,
    /// The token may only this (may be given several times) [default: all that you may].
    #[arg(long, value_name = "PERMISSION")]
    pub permission: Vec<String>,
    /// It may so only in this project (may be given several times) [default: all].
    #[arg(long, value_name = "PROJECT")]
    pub only: Vec<String>,
    /// How long it is good, up to 365.
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    pub days: u32,
    /// Open no browser: print where to go alone.
    #[arg(long)]
    pub no_browser: bool,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token of yours; its secret is printed this once.
    #[command(after_help = "\
Examples:
  windlass token create nightly --permission project.read --permission drift.check --days 90")]
    Create {
        /// What it is for.
        name: String,
        /// It may only this (may be given several times) [default: all that you may].
        #[arg(long, value_name = "PERMISSION")]
        permission: Vec<String>,
        /// It may so only in this project (may be given several times) [default: all].
        #[arg(long, value_name = "PROJECT")]
        only: Vec<String>,
        /// How long it is good, up to 365.
        #[arg(long, default_value_t = 30, value_name = "DAYS")]
        days: u32,
    },
    /// List your tokens, newest first.
    List {
        /// Those of everybody, for who may manage them.
        #[arg(long)]
        everybody: bool,
    },
    /// End a token.
    Revoke {
        /// As the list has it.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Judge files by policies. Flags, `conftest.toml` and CONFTEST_… variables are those of Conftest.
    #[command(after_help = "\
Examples:
  windlass policy check plan.json                       by the policies of the project, else those in policy/
  windlass policy check -p policies -n network *.tf
  terraform show -json plan | windlass policy check -
  windlass policy check --output sarif k8s/ > policy.sarif

Exit codes: 0 passed, 1 failures; with --fail-on-warn 1 warnings and 2 failures; 3 the gate broke (policies or
files that cannot be read, rules that cannot be evaluated, nothing to judge): never a pass.")]
    Check(Box<PolicyCheck>),
    /// Run the tests of policies: rules that begin with `test_`.
    #[command(
        visible_alias = "verify",
        after_help = "\
Examples:
  windlass policy test
  windlass policy test policies --run public --coverage --threshold 80

Exit codes: 0 passed, 1 failures or too little covered, 3 tests or policies that cannot be evaluated."
    )]
    Test(PolicyTest),
    /// Format Rego files, in the style of `opa fmt`.
    #[command(after_help = "Example:\n  windlass policy fmt --check policy")]
    Fmt {
        /// Rego files or directories [default: the project's policies, else policy].
        #[arg(value_name = "FILE")]
        files: Vec<String>,
        /// Change nothing; exit with 1 when a file is not formatted.
        #[arg(long)]
        check: bool,
    },
    /// List the policies of the starter library.
    #[command(after_help = "Examples:\n  windlass policy library\n  windlass policy library --json")]
    Library,
    /// Copy policies of the starter library into policy/library, with their tests and settings.
    #[command(after_help = "\
Examples:
  windlass policy init                        all of them
  windlass policy init aws terraform          those of two clouds
  windlass policy init aws/tags regions       one policy, and one of every cloud")]
    Init {
        /// Policies (aws/tags), clouds (aws) or policies of every cloud (tags); all when left out.
        #[arg(value_name = "NAME|CLOUD")]
        names: Vec<String>,
        /// Overwrite files that were changed.
        #[arg(long)]
        force: bool,
    },
    /// Answer a query over policies and data.
    #[command(after_help = "\
Examples:
  windlass policy eval data.main.deny --input plan.json
  windlass policy eval 'some c in input.resource_changes; c.type == \"aws_s3_bucket\"' --input plan.json
  windlass policy eval data.main.deny --input plan.json --compare    shows where OPA answers something else

Exit codes: 0 an answer, 1 undefined (or OPA answers something else), 3 it cannot be evaluated.")]
    Eval {
        query: String,
        /// The file that is `input`; `-` is standard input.
        #[arg(long, short, value_name = "FILE")]
        input: Option<String>,
        /// Ask `opa` on the PATH as well, and show any difference.
        #[arg(long)]
        compare: bool,
        #[command(flatten)]
        sources: PolicySources,
    },
    #[command(flatten)]
    Decisions(crate::commands::policy_decisions::PolicyCommand),
    /// Explain a rule of the policies, or a diagnostic code.
    #[command(after_help = "Example:\n  windlass policy explain main.deny_public")]
    Explain {
        /// A rule (`deny_public`, `main.deny_public`) or a code (`WL434`).
        what: String,
        #[command(flatten)]
        sources: PolicySources,
    },
}

#[derive(Debug, Args)]
pub struct PolicySources {
    /// Rego files or directories (may be given several times) [default: the project's policies, else policy].
    #[arg(long, short, value_name = "PATH")]
    pub policy: Vec<String>,
    /// JSON and YAML files or directories that become `data`; names of sub-directories become keys.
    #[arg(long, short, value_name = "PATH")]
    pub data: Vec<String>,
    /// The version of Rego that the policies are written in (v0, v1) [default: any].
    #[arg(long, value_name = "VERSION")]
    pub rego_version: Option<String>,
    /// Read this file instead of conftest.toml.
    #[arg(long, short, value_name = "FILE")]
    pub config_file: Option<String>,
}

#[derive(Debug, Args)]
pub struct PolicyCheck {
    /// Files and directories; `-` is standard input. A saved plan is rendered by terraform.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    #[command(flatten)]
    pub sources: PolicySources,
    /// Judge by these packages only; `*` is a wildcard [default: main, or what the project's policies say].
    #[arg(long, short, value_name = "PACKAGE")]
    pub namespace: Vec<String>,
    /// Judge by every package that has a rule.
    #[arg(long)]
    pub all_namespaces: bool,
    /// Judge all files together: `input` is a list of {path, contents}.
    #[arg(long)]
    pub combine: bool,
    /// Read all files as this kind instead of by their names.
    #[arg(long, value_name = "KIND")]
    pub parser: Option<String>,
    /// Leave out files whose path this regular expression matches.
    #[arg(long, value_name = "REGEX")]
    pub ignore: Option<String>,
    /// Exit with 1 when there are warnings, and with 2 when there are failures.
    #[arg(long)]
    pub fail_on_warn: bool,
    /// Exit with 0 although there are failures; a broken gate still exits with 3.
    #[arg(long)]
    pub no_fail: bool,
    /// text, json, tap, table, junit, github, sarif or azuredevops.
    #[arg(long, short, value_name = "FORMAT")]
    pub output: Option<String>,
    /// Refuse what Conftest lets pass (the default, whatever --compatible says).
    #[arg(long)]
    pub strict: bool,
    /// Pass where Conftest passes although nothing was judged: empty namespaces, denials that are no sets, failing builtins.
    #[arg(long)]
    pub compatible: bool,
    /// Print nothing when everything passed.
    #[arg(long)]
    pub quiet: bool,
    /// With --compatible: a builtin that fails breaks the gate.
    #[arg(long)]
    pub show_builtin_errors: bool,
    /// Do not show what `exception` took back.
    #[arg(long)]
    pub suppress_exceptions: bool,
    /// Say on standard error what each rule answered and how long it took.
    #[arg(long)]
    pub trace: bool,
    /// In the GitHub output, leave out files that passed.
    #[arg(long)]
    pub github_hide_passed: bool,
    /// In the JUnit output, leave the message out of the name.
    #[arg(long)]
    pub junit_hide_message: bool,
    /// What standard input is called, and by whose extension it is read.
    #[arg(long, value_name = "NAME")]
    pub stdin_filename: Option<String>,
}

#[derive(Debug, Args)]
pub struct PolicyTest {
    /// Rego files or directories.
    #[arg(value_name = "DIR")]
    pub paths: Vec<String>,
    #[command(flatten)]
    pub sources: PolicySources,
    /// Only tests whose path (`data.main.test_x`) this regular expression finds something in.
    #[arg(long, value_name = "REGEX")]
    pub run: Option<String>,
    /// Show which lines of the policies the tests evaluated.
    #[arg(long)]
    pub coverage: bool,
    /// Fail when fewer lines than this are covered, in percent.
    #[arg(long, value_name = "PERCENT", requires = "coverage", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub threshold: Option<u8>,
    /// text, json, tap, table, junit, github, sarif or azuredevops.
    #[arg(long, short, value_name = "FORMAT")]
    pub output: Option<String>,
}

/// How a review is shown.
#[derive(Debug, Clone, Args)]
pub struct ReviewView {
    /// How to show it [default: terminal].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ReviewFormat>,
    /// Whose comments Markdown has to fit into.
    #[arg(long, value_enum, default_value = "github", value_name = "FORGE")]
    pub forge: ForgeName,
    /// Make Markdown or HTML with this template (minijinja); HTML when its name has `.html` in it, else Markdown, unless
    /// `--format` says it.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// Write it to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReviewFormat {
    Terminal,
    /// For a comment on a forge, within its limit.
    Markdown,
    /// A page that stands alone.
    Html,
    /// The document that all others are made of.
    Json,
    /// Labels and counts.
    Summary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForgeName {
    Github,
    Gitlab,
    Gitea,
    Bitbucket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    Tree,
    Dot,
    Mermaid,
    Json,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    /// Words of a command line, with quotes; up to what belongs to the shell.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quote = None;
        for c in line.chars() {
            match (quote, c) {
                (Some(open), c) if open == c => quote = None,
                (Some(_), c) => word.push(c),
                (None, '\'' | '"') => quote = Some(c),
                (None, '#' | '|' | '>' | '&') => break,
                (None, ' ') => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
                (None, c) => word.push(c),
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        words
    }

    fn pages(directory: &Path, out: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pages(&path, out);
            } else if path.extension().is_some_and(|e| e == "md") {
                out.push(path);
            }
        }
    }

    #[test]
    fn every_command_in_the_documentation_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut files = vec![root.join("README.md")];
        pages(&root.join("docs"), &mut files);
        let mut seen = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for line in text.lines().filter_map(|line| line.trim().strip_prefix("$ ")) {
                for command in line.split("&&").map(str::trim).filter(|command| command.starts_with("windlass ")) {
                    seen += 1;
                    let parsed = Arguments::try_parse_from(words(command));
                    assert!(parsed.is_ok(), "{}: {command}\n{}", file.display(), parsed.err().unwrap());
                }
            }
        }
        assert!(seen > 30, "only {seen} commands were found");
    }
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Read settings from this file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen here [default: 127.0.0.1:7670].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// How people reach the server, when something stands before it.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Keep everything here [default: .windlass/server].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Use this PostgreSQL, postgres://USER@HOST/DATABASE, instead of a file in the data directory.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Follow this repository, an address or a path (may be given several times) [default: the one this is started in].
    #[arg(long, value_name = "[NAME=]URL")]
    pub repository: Vec<String>,
    /// Also do steps that ask for this label (may be given several times).
    #[arg(long, value_name = "LABEL")]
    pub label: Vec<String>,
    /// How lines of the log look; what is logged is for WINDLASS_LOG to say, as in `info,windlass::http=off`.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, Args)]
pub struct Worker {
    /// Read settings from this file (TOML), the one of the servers.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The PostgreSQL of the servers, postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Keep everything here; the file `key` in it has to be that of the servers [default: .windlass/server].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Do steps that ask for this label (may be given several times); those that ask for none where it is left out.
    #[arg(long, value_name = "LABEL")]
    pub label: Vec<String>,
    /// How lines of the log look.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}
