//! `operation`, `template` and `batch` blocks, but for their steps.

use super::operation_schema::{
    BatchValues, ChecklistValues, ConcurrencyValues, ItemValues, NotifyValues, OperationApprovalsValues,
    OperationGrantValues, OperationValues, WindowValues,
};
use super::reader::Reader;
use super::schema::ChangeNotifyValues;
use super::{Block, Loader, check_runner, text_map};
use windlass_model::Micros;
use windlass_model::definition::ChangeNotify;
use windlass_model::diagnostic::Span;
use windlass_model::operation::{
    Action, Batch, Checklist, ChecklistItem, Concurrency, EachDefinition, Expression, MaintenanceWindow, Node,
    NotifyRule, Occasion, OnConflict, OperationApprovals, OperationDefinition, OperationGrant, OutputFormat,
    StepDefinition,
};
use windlass_model::place::Container;
use windlass_model::run::{Cost, Repeat, Retry};

/// How long approvals are waited for where nothing is said, microseconds.
const APPROVALS_EXPIRE: Micros = 24 * 3_600_000_000;
/// Names of the days, from Monday.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A block with the file that it stands in.
pub(super) type Placed<'b> = (usize, &'b Block);

impl OperationValues {
    /// These where they are written, else those of `base`.
    fn over(self, base: Self, has: impl Fn(&str) -> bool) -> Self {
        macro_rules! pick {
            ($($field:ident),*) => { Self { $($field: if has(stringify!($field)) { self.$field } else { base.$field }),* } };
        }
        pick!(
            from,
            description,
            owner,
            allow,
            labels,
            environment,
            runner,
            timeout,
            locks,
            confirm,
            break_glass,
            alert_after
        )
    }
}

impl<'a> Loader<'a> {
    /// An operation with a mistake in it is left out, so that none does less, or asks fewer people, than was meant.
    pub(super) fn operation(&mut self, file: usize, block: &'a Block) {
        let before = self.diagnostics.len();
        let Some((name, span)) = self.runnable(file, block) else { return };
        let (own, _) = self.read::<OperationValues>(file, block);
        let template = own.from.as_deref().and_then(|from| {
            let found = self.templates.get(from).copied();
            if found.is_none() {
                let known: Vec<&str> = self.templates.keys().map(String::as_str).collect();
                let help = match crate::suggest(from, known.into_iter()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("define it: template \"{from}\" {{ … }}"),
                };
                let (_, mut reader) = self.read::<OperationValues>(file, block);
                reader.mistake("from", "WL121", &format!("there is no template \"{from}\""), &help);
            }
            found
        });
        let definition = self.whole(name, span, (file, block), own, template);
        if self.diagnostics.len() == before {
            self.definitions.operations.push(definition);
        }
    }

    /// A template is read for its mistakes alone; what is made of it is read with it.
    pub(super) fn template(&mut self, file: usize, block: &'a Block) {
        let Some((name, span)) = self.label(file, block, "") else { return };
        let (own, mut reader) = self.read::<OperationValues>(file, block);
        if own.from.is_some() {
            reader.mistake("from", "WL107", "a template is made of no other", "write here what both have");
        }
        self.whole(name, span, (file, block), own, None);
    }

    /// The name of a block, which is given on command lines, in addresses and in expressions.
    pub(super) fn label(&mut self, file: usize, block: &Block, within: &str) -> Option<(String, Span)> {
        let (name, span) = self.name(file, block, within)?;
        if !super::is_label(&name) {
            let help = "use letters, digits, `-`, `_` and `.`, as in `windlass run backup-ledger`";
            self.mistake_at(file, block, "WL106", &format!("{} \"{name}\" is no label", block.kind), help);
        }
        Some((name, span))
    }

    /// Operations and batches are run alike, by their names.
    fn runnable(&mut self, file: usize, block: &Block) -> Option<(String, Span)> {
        let (name, span) = self.label(file, block, "")?;
        let other = if block.kind == "batch" { "operation" } else { "batch" };
        if let Some(first) = self.seen.get(&(other.to_owned(), name.clone())).cloned() {
            let what = format!("{} \"{name}\" is called like {other} \"{name}\" in {first}", block.kind);
            self.mistake_at(file, block, "WL104", &what, "rename one of them");
        }
        Some((name, span))
    }

    fn whole(
        &mut self,
        name: String,
        span: Span,
        (file, block): Placed<'a>,
        own: OperationValues,
        template: Option<Placed<'a>>,
    ) -> OperationDefinition {
        self.names.locals_used.borrow_mut().clear();
        // Read again: what is written in a template is a use of locals as well.
        let values = match template {
            Some((file, base)) => {
                let (base, _) = self.read::<OperationValues>(file, base);
                own.over(base, |attribute| block.body.value(attribute).is_some())
            }
            None => own,
        };
        let (_, mut reader) = self.read::<OperationValues>(file, block);
        check_runner(values.runner.as_deref(), &mut reader);
        let blocks = merged((file, block), template);
        let within = format!("{} {name}/", block.kind);
        let mut operation = OperationDefinition {
            description: values.description,
            owner: values.owner,
            allow: values.allow,
            labels: text_map(values.labels),
            environment: values.environment,
            runner: values.runner,
            timeout: values.timeout,
            locks: values.locks.unwrap_or_default(),
            confirm: values.confirm,
            break_glass: values.break_glass,
            dead_man: values.alert_after,
            ..empty(name, span)
        };
        self.common(&mut operation, &within, &blocks);
        operation.nodes = self.nodes(&within, &blocks);
        operation.on_failure = self.handlers(&within, "on_failure", &blocks);
        operation.on_cancel = self.handlers(&within, "on_cancel", &blocks);
        operation.approvals = self.single(&blocks, "approvals").and_then(|(file, inner)| self.approvals(file, inner));
        operation.checklist =
            self.single(&blocks, "checklist").map(|(file, inner)| self.checklist(file, inner, &within));
        let is_node = |(_, inner): &Placed<'_>| matches!(inner.kind.as_str(), "step" | "each" | "parallel");
        if block.kind == "operation" && !blocks.iter().any(is_node) {
            let help = "add `step \"NAME\" { run = [ … ] }`";
            self.mistake_at(file, block, "WL109", &format!("operation \"{}\" does nothing", operation.name), help);
        }
        operation.locals = self.names.used_locals();
        operation
    }

    /// What operations and batches have in common.
    fn common(&mut self, operation: &mut OperationDefinition, within: &str, blocks: &[Placed<'_>]) {
        for &(file, inner) in blocks {
            match inner.kind.as_str() {
                "grant" => {
                    let (values, _) = self.read::<OperationGrantValues>(file, inner);
                    let span = self.head(file, inner);
                    operation.grants.push(OperationGrant { to: values.to, when: values.when, span });
                }
                "param" => operation.parameters.extend(self.parameter(file, inner, within)),
                "secret" => operation.secrets.extend(self.secret(file, inner, within)),
                "schedule" => operation.schedules.extend(self.schedule(file, inner, within)),
                "trigger" => operation.triggers.extend(self.trigger(file, inner, within)),
                "notify" => operation.notify.extend(self.notify_rule(file, inner)),
                _ => {}
            }
        }
        operation.concurrency = self.single(blocks, "concurrency").map(|(file, inner)| self.concurrency(file, inner));
    }

    pub(super) fn head(&self, file: usize, block: &Block) -> Span {
        let (path, text) = &self.files[file];
        Span::of(path, text, block.range.start as usize, block.range.end as usize)
    }

    /// The only block of a kind; a second one is a mistake.
    pub(super) fn single<'b>(&mut self, blocks: &[Placed<'b>], kind: &str) -> Option<Placed<'b>> {
        let mut found = blocks.iter().filter(|(_, inner)| inner.kind == kind);
        let first = *found.next()?;
        for (file, second) in found {
            let what = format!("there are two `{kind}` blocks");
            self.mistake_at(*file, second, "WL104", &what, "merge them");
        }
        Some(first)
    }

    pub(super) fn approvals(&mut self, file: usize, block: &Block) -> Option<OperationApprovals> {
        let (values, mut reader) = self.read::<OperationApprovalsValues>(file, block);
        if reader.has("from") && values.from.is_empty() {
            reader.mistake("from", "WL106", "nobody may approve", "name a team, or remove it: anybody may then");
        }
        Some(OperationApprovals {
            count: values.count.unwrap_or(1),
            from: values.from,
            when: values.when,
            expires: values.expires.unwrap_or(APPROVALS_EXPIRE),
            unverified: values.unverified.unwrap_or(false),
            span: self.head(file, block),
        })
    }

    fn concurrency(&mut self, file: usize, block: &Block) -> Concurrency {
        let (values, mut reader) = self.read::<ConcurrencyValues>(file, block);
        let known = [
            ("queue", OnConflict::Queue),
            ("cancel_running", OnConflict::CancelRunning),
            ("reject", OnConflict::Reject),
        ];
        let on_conflict = one_of(&mut reader, "on_conflict", values.on_conflict.as_deref(), &known).unwrap_or_default();
        Concurrency { key: values.key, limit: values.limit.unwrap_or(1), on_conflict }
    }

    fn notify_rule(&mut self, file: usize, block: &Block) -> Option<NotifyRule> {
        let (values, mut reader) = self.read::<NotifyValues>(file, block);
        let known = Occasion::OF_OPERATIONS.map(|occasion| (occasion.as_str(), occasion));
        let on: Vec<Occasion> =
            values.on.iter().filter_map(|text| one_of(&mut reader, "on", Some(text), &known)).collect();
        Some(NotifyRule { to: values.to, on, span: self.head(file, block) })
    }

    /// `notify` blocks of the project or of an environment.
    pub(super) fn change_notify(&mut self, file: usize, block: &Block, environment: Option<&str>) {
        for inner in block.body.blocks.iter().filter(|inner| inner.kind == "notify") {
            let (values, mut reader) = self.read::<ChangeNotifyValues>(file, inner);
            let known = Occasion::OF_CHANGES.map(|occasion| (occasion.as_str(), occasion));
            let on: Vec<Occasion> =
                values.on.iter().filter_map(|text| one_of(&mut reader, "on", Some(text), &known)).collect();
            let rule = NotifyRule { to: values.to, on, span: self.head(file, inner) };
            let environment = environment.map(str::to_owned);
            self.definitions.notify.push(ChangeNotify { environment, rule });
        }
    }

    fn checklist(&mut self, file: usize, block: &Block, within: &str) -> Checklist {
        let (values, _) = self.read::<ChecklistValues>(file, block);
        let mut checklist =
            Checklist { announcement: values.announcement, rollback: values.rollback, ..Checklist::default() };
        let inner: Vec<Placed<'_>> = block.body.blocks.iter().map(|inner| (file, inner)).collect();
        checklist.window = self.single(&inner, "window").and_then(|(file, inner)| self.window(file, inner));
        for (file, inner) in inner {
            let list = match inner.kind.as_str() {
                "before" => &mut checklist.before,
                "during" => &mut checklist.during,
                "after" => &mut checklist.after,
                _ => continue,
            };
            let Some((name, span)) = self.label(file, inner, &format!("{within}checklist/")) else { continue };
            let (values, _) = self.read::<ItemValues>(file, inner);
            list.push(ChecklistItem {
                name,
                text: values.text.unwrap_or_default(),
                run: values.run,
                from: values.from,
                span,
            });
        }
        checklist
    }

    fn window(&mut self, file: usize, block: &Block) -> Option<MaintenanceWindow> {
        let (values, mut reader) = self.read::<WindowValues>(file, block);
        let known: Vec<(&str, u8)> = DAYS.iter().zip(1..).map(|(name, day)| (*name, day)).collect();
        let mut days: Vec<u8> =
            values.days.iter().filter_map(|text| one_of(&mut reader, "days", Some(text), &known)).collect();
        if !reader.has("days") {
            days = (1..=7).collect();
        }
        days.sort_unstable();
        days.dedup();
        let mut minutes = |name: &str, text: Option<String>| {
            let text = text?;
            let time = text.split_once(':').and_then(|(hour, minute)| {
                let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
                (minute < 60 && (hour < 24 || (hour, minute) == (24, 0))).then_some(hour * 60 + minute)
            });
            if time.is_none() {
                reader.mistake(name, "WL106", &format!("`{text}` is no time of day"), "write it as \"22:00\"");
            }
            time
        };
        let (from, to) = (minutes("from", values.from), minutes("to", values.to));
        let zone = super::schedule::zone(&mut reader, values.timezone);
        Some(MaintenanceWindow { days, from: from?, to: to?, zone })
    }

    /// A batch is an operation with one step, or with as many at once as `count` says.
    pub(super) fn batch(&mut self, file: usize, block: &'a Block) {
        let before = self.diagnostics.len();
        let Some((name, span)) = self.runnable(file, block) else { return };
        self.names.locals_used.borrow_mut().clear();
        let (values, mut reader) = self.read::<BatchValues>(file, block);
        check_runner(values.runner.as_deref(), &mut reader);
        let within = format!("batch {name}/");
        let blocks: Vec<Placed<'_>> = block.body.blocks.iter().map(|inner| (file, inner)).collect();
        let argv = match (values.command, values.arguments) {
            (Some(command), Some(arguments)) => {
                Some(Expression { text: format!("concat({}, {})", command.text, arguments.text), span: command.span })
            }
            (command, arguments) => command.or(arguments),
        };
        let action = match (values.image, argv) {
            (Some(image), argv) => {
                let container = Container { memory_mib: values.memory, cpu_milli: values.cpu, ..Container::default() };
                Action::Container { image, argv, container }
            }
            (None, Some(argv)) if reader.has("command") => Action::Run { argv },
            (None, _) => {
                let help = "add `image = \"…\"`, or `command = [ … ]`";
                self.mistake_at(file, block, "WL109", "batch needs `image` or `command`", help);
                return;
            }
        };
        let retries = values.retries.unwrap_or(0);
        let retry = match retries {
            0 => Retry::NEVER,
            retries => super::step::retry(retries + 1, None, None),
        };
        let step = StepDefinition {
            env: values.env,
            timeout: values.timeout,
            retry,
            give_up: values.give_up,
            cost: Cost { cpu_milli: values.cpu.unwrap_or(0), memory_mib: values.memory.unwrap_or(0) },
            ..plain_step("run".to_owned(), action, span.clone())
        };
        let node = Node::Step(Box::new(step));
        let node = match values.count.unwrap_or(1) {
            1 => node,
            count => Node::Each(Box::new(EachDefinition {
                name: "copy".into(),
                members: Expression { text: format!("range({count})"), span: span.clone() },
                batch: Batch::All,
                max_failures: 0,
                gates: Vec::new(),
                nodes: vec![node],
                span: span.clone(),
            })),
        };
        let mut operation = OperationDefinition {
            description: values.description,
            owner: values.owner,
            allow: values.allow,
            labels: text_map(values.labels),
            environment: values.environment,
            runner: values.runner,
            dead_man: values.alert_after,
            nodes: vec![node],
            ..empty(name, span)
        };
        self.common(&mut operation, &within, &blocks);
        operation.locals = self.names.used_locals();
        if self.diagnostics.len() == before {
            self.definitions.operations.push(operation);
        }
    }
}

/// One of the words that an attribute may be.
pub(super) fn one_of<T: Copy>(
    reader: &mut Reader<'_>,
    attribute: &str,
    text: Option<&str>,
    known: &[(&str, T)],
) -> Option<T> {
    let text = text?;
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        let help = match crate::suggest(text, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it is one of {}", words.join(", ")),
        };
        reader.mistake(attribute, "WL106", &format!("`{attribute}` cannot be `{text}`"), &help);
    }
    found
}

/// The blocks of an operation with those of its template: one of the same kind and name takes the place of the template's, and
/// those without a name take the place of all of the kind. What the template does not have comes behind.
fn merged<'b>((file, own): Placed<'b>, template: Option<Placed<'b>>) -> Vec<Placed<'b>> {
    fn key(block: &Block) -> (&str, &[String]) {
        let kind = match block.kind.as_str() {
            "each" | "parallel" => "step",
            kind => kind,
        };
        (kind, &block.labels)
    }
    let own = &own.body.blocks;
    let mut placed = vec![false; own.len()];
    let mut out = Vec::new();
    for (base_file, base) in template.iter().flat_map(|(file, base)| base.body.blocks.iter().map(|b| (*file, b))) {
        let same: Vec<usize> = (0..own.len()).filter(|at| key(&own[*at]) == key(base)).collect();
        if same.is_empty() {
            out.push((base_file, base));
        }
        for at in same {
            if !std::mem::replace(&mut placed[at], true) {
                out.push((file, &own[at]));
            }
        }
    }
    out.extend(own.iter().zip(placed).filter(|(_, placed)| !placed).map(|(block, _)| (file, block)));
    out
}

fn empty(name: String, span: Span) -> OperationDefinition {
    OperationDefinition {
        name,
        description: None,
        owner: None,
        allow: Vec::new(),
        grants: Vec::new(),
        labels: Default::default(),
        runner: None,
        environment: None,
        parameters: Vec::new(),
        secrets: Vec::new(),
        nodes: Vec::new(),
        on_failure: Vec::new(),
        on_cancel: Vec::new(),
        schedules: Vec::new(),
        triggers: Vec::new(),
        approvals: None,
        break_glass: Vec::new(),
        concurrency: None,
        timeout: None,
        locks: Vec::new(),
        confirm: None,
        checklist: None,
        notify: Vec::new(),
        dead_man: None,
        locals: Default::default(),
        span,
    }
}

/// A step of which nothing but its action is said.
fn plain_step(name: String, action: Action, span: Span) -> StepDefinition {
    StepDefinition {
        name,
        description: None,
        action,
        when: None,
        after: None,
        env: Default::default(),
        directory: None,
        runner: None,
        retry: Retry::NEVER,
        timeout: None,
        repeat: Repeat::Idempotent,
        probe: None,
        outputs: OutputFormat::None,
        artefacts: Vec::new(),
        mask: Vec::new(),
        locks: Vec::new(),
        may_fail: false,
        success: vec![0],
        give_up: Vec::new(),
        undo: None,
        cost: Cost::NONE,
        span,
    }
}
