//! What people say to Windlass in comments, and in chats: `windlass VERB [STACK…] [-- FLAG…]` as the first line.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Plan,
    Apply,
    Approve,
    Unlock,
    Cancel,
    Help,
}

impl Verb {
    pub const ALL: [Self; 6] = [Self::Plan, Self::Apply, Self::Approve, Self::Unlock, Self::Cancel, Self::Help];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Approve => "approve",
            Self::Unlock => "unlock",
            Self::Cancel => "cancel",
            Self::Help => "help",
        }
    }

    /// What it does, for people.
    fn about(self) -> &'static str {
        match self {
            Self::Plan => "plans the change, or only the stacks that match",
            Self::Apply => "applies what the comment shows",
            Self::Approve => "approves what the comment shows",
            Self::Unlock => "gives back the places in the queues of stacks, so that other changes may be applied",
            Self::Cancel => "cancels the plan or the apply that is under way",
            Self::Help => "shows this",
        }
    }

    /// It takes names or patterns of stacks.
    fn takes_stacks(self) -> bool {
        !matches!(self, Self::Cancel | Self::Help)
    }

    fn flags(self) -> &'static [Flag] {
        match self {
            Self::Apply => &[Flag::Confirm],
            Self::Approve => &[Flag::Reason],
            Self::Cancel => &[Flag::Kill, Flag::Reason],
            Self::Plan | Self::Unlock | Self::Help => &[],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    Confirm,
    Kill,
    Reason,
}

impl Flag {
    const ALL: [Self; 3] = [Self::Confirm, Self::Kill, Self::Reason];

    fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Kill => "kill",
            Self::Reason => "reason",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Confirm => "confirm=INSTANCE",
            Self::Kill => "kill",
            Self::Reason => "reason=WORDS",
        }
    }
}

/// Something that somebody wants done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub verb: Verb,
    /// Names or patterns of stacks or instances; none for all.
    pub stacks: Vec<String>,
    /// Instances that may be destroyed as a whole.
    pub confirm: Vec<String>,
    /// At once, with nothing taken back.
    pub kill: bool,
    pub reason: Option<String>,
}

/// Why something that is meant for Windlass is no command, and what may have been meant: one sentence each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    pub problem: String,
    pub help: String,
}

/// How Windlass is addressed, beside by the name of its account.
const NAME: &str = "windlass";

/// Whether one of the first words of a text means Windlass: what it says then, or why it says nothing. `account` is its name at the forge or
/// chat, for `@NAME`.
pub fn parse(text: &str, account: Option<&str>) -> Option<Result<Command, Misread>> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?.trim_matches('`');
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let called = first.strip_prefix('@').unwrap_or(first);
    let is_account = account.is_some_and(|name| first.starts_with('@') && called.eq_ignore_ascii_case(name));
    if !called.eq_ignore_ascii_case(NAME) && !is_account {
        return None;
    }
    Some(command(&words.collect::<Vec<_>>()))
}

fn command(words: &[&str]) -> Result<Command, Misread> {
    let mut command = Command { verb: Verb::Help, stacks: Vec::new(), confirm: Vec::new(), kill: false, reason: None };
    let Some((verb, rest)) = words.split_first() else { return Ok(command) };
    command.verb = verb_of(verb)?;
    let end = rest.iter().position(|word| *word == "--").unwrap_or(rest.len());
    let (stacks, flags) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
    let verb = command.verb;
    if let Some(flag) = stacks.iter().find(|word| word.starts_with('-')) {
        let problem = format!("`{flag}` stands where stacks are named");
        return Err(Misread { problem, help: format!("flags come after `--`: `{}`", usage(verb)) });
    }
    if !verb.takes_stacks() && !stacks.is_empty() {
        let problem = format!("`windlass {}` is for the whole change", verb.as_str());
        return Err(Misread { problem, help: format!("write `{}`", usage(verb)) });
    }
    command.stacks = stacks.iter().map(|word| word.trim_matches(['`', '"', '\'', ',']).to_owned()).collect();
    command.stacks.retain(|stack| !stack.is_empty());
    let mut flags = flags.iter();
    while let Some(word) = flags.next() {
        let bare = word.trim_start_matches('-');
        let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value)));
        let Some(flag) = verb.flags().iter().copied().find(|flag| flag.name() == name) else {
            let problem = format!("`windlass {}` has no flag `{name}`", verb.as_str());
            let near = near(name, Flag::ALL.iter().map(|flag| flag.name()));
            let help = match near.filter(|near| verb.flags().iter().any(|flag| flag.name() == *near)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if verb.flags().is_empty() => "it takes none".to_owned(),
                None => format!("write `{}`", usage(verb)),
            };
            return Err(Misread { problem, help });
        };
        let mut value = || value.or_else(|| flags.next().copied()).filter(|value| !value.is_empty());
        let missing =
            || Misread { problem: format!("`{name}` needs a value"), help: format!("write `{}`", flag.usage()) };
        match flag {
            Flag::Kill => command.kill = true,
            Flag::Confirm => command.confirm.push(value().ok_or_else(missing)?.to_owned()),
            // The rest of the line: a reason has more than one word.
            Flag::Reason => {
                let first = value().ok_or_else(missing)?;
                let words: Vec<&str> = std::iter::once(first).chain(flags.by_ref().copied()).collect();
                command.reason = Some(words.join(" ").trim_matches(['"', '\'']).to_owned());
            }
        }
    }
    Ok(command)
}

fn verb_of(word: &str) -> Result<Verb, Misread> {
    let lower = word.to_lowercase();
    let found = Verb::ALL.into_iter().find(|verb| verb.as_str() == lower);
    // As people say it elsewhere.
    let other = match lower.as_str() {
        "approved" | "lgtm" => Some("approve"),
        "preview" | "diff" | "review" | "replan" => Some("plan"),
        "deploy" | "up" | "confirm" => Some("apply"),
        "abort" | "stop" | "discard" => Some("cancel"),
        _ => None,
    };
    found.ok_or_else(|| {
        let near = other.or_else(|| near(&lower, Verb::ALL.iter().map(|verb| verb.as_str())));
        let help = match near {
            Some(near) => format!("did you mean `windlass {near}`?"),
            None => "`windlass help` shows what there is".to_owned(),
        };
        let word: String = word.chars().take(40).collect();
        Misread { problem: format!("there is no command `{word}`"), help }
    })
}

/// The name that is at most two letters away.
fn near<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.map(|name| (distance(word, name), name)).filter(|(far, _)| *far <= 2).min().map(|(_, name)| name)
}

/// How many letters have to be put in, left out, changed or swapped with the next.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(40).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// How a command is written.
fn usage(verb: Verb) -> String {
    let mut text = format!("windlass {}", verb.as_str());
    if verb.takes_stacks() {
        text.push_str(" [STACK…]");
    }
    if !verb.flags().is_empty() {
        let flags: Vec<&str> = verb.flags().iter().map(|flag| flag.usage()).collect();
        text.push_str(&format!(" [-- {}]", flags.join(" ")));
    }
    text
}

/// All commands, one line each: how it is written, and what it does.
pub fn help() -> Vec<(String, &'static str)> {
    Verb::ALL.into_iter().map(|verb| (usage(verb), verb.about())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A verb and stacks; or what is wrong, and what helps.
    type Want<'a> = Option<Result<(Verb, &'a [&'a str]), (&'a str, &'a str)>>;

    fn check(text: &str, want: Want<'_>) {
        let found = parse(text, Some("windlass-bot[bot]"));
        let found = found.map(|found| match found {
            Ok(command) => Ok((command.verb, command.stacks)),
            Err(misread) => Err((misread.problem, misread.help)),
        });
        let want = want.map(|want| match want {
            Ok((verb, stacks)) => Ok((verb, stacks.iter().map(|s| (*s).to_owned()).collect())),
            Err((problem, help)) => Err((problem.to_owned(), help.to_owned())),
        });
        assert_eq!(found, want, "{text}");
    }

    #[test]
    fn the_first_line_is_a_command_when_it_begins_with_the_name() {
        fn ok<'a>(verb: Verb, stacks: &'a [&'a str]) -> Want<'a> {
            Some(Ok((verb, stacks)))
        }
        check("windlass plan", ok(Verb::Plan, &[]));
        check("  \n\n`windlass plan`\nplease", ok(Verb::Plan, &[]));
        check("@windlass Plan", ok(Verb::Plan, &[]));
        check("@Windlass-Bot[bot] apply", ok(Verb::Apply, &[]));
        check("Windlass", ok(Verb::Help, &[]));
        check("windlass plan aws/network[tokyo] `gcp/**`, ''", ok(Verb::Plan, &["aws/network[tokyo]", "gcp/**"]));
        check("windlass unlock aws/db --", ok(Verb::Unlock, &["aws/db"]));
        check("windlass help", ok(Verb::Help, &[]));
        for text in
            ["", "please windlass plan", "> windlass apply", "windlass-bot[bot] plan", "windlasses plan", "/plan"]
        {
            check(text, None);
        }
        check("looks good\nwindlass apply", None);
    }

    #[test]
    fn what_is_not_understood_is_answered_with_what_was_meant() {
        fn wrong<'a>(problem: &'a str, help: &'a str) -> Want<'a> {
            Some(Err((problem, help)))
        }
        check("windlass aply", wrong("there is no command `aply`", "did you mean `windlass apply`?"));
        check("windlass plna", wrong("there is no command `plna`", "did you mean `windlass plan`?"));
        check("windlass LGTM", wrong("there is no command `LGTM`", "did you mean `windlass approve`?"));
        check("windlass stop", wrong("there is no command `stop`", "did you mean `windlass cancel`?"));
        check("windlass is great", wrong("there is no command `is`", "`windlass help` shows what there is"));
        check(
            "windlass apply -target=x",
            wrong(
                "`-target=x` stands where stacks are named",
                "flags come after `--`: `windlass apply [STACK…] [-- confirm=INSTANCE]`",
            ),
        );
        check("windlass plan -- -target=x", wrong("`windlass plan` has no flag `target`", "it takes none"));
        check("windlass cancel -- kil", wrong("`windlass cancel` has no flag `kil`", "did you mean `kill`?"));
        check(
            "windlass cancel aws/db",
            wrong("`windlass cancel` is for the whole change", "write `windlass cancel [-- kill reason=WORDS]`"),
        );
        check("windlass apply -- confirm", wrong("`confirm` needs a value", "write `confirm=INSTANCE`"));
        check("windlass approve -- reason=", wrong("`reason` needs a value", "write `reason=WORDS`"));
    }

    #[test]
    fn flags_come_last() {
        let of = |text: &str| parse(text, None).unwrap().unwrap();
        let apply = of("windlass apply -- confirm=a --confirm b[c]");
        assert_eq!((apply.confirm, apply.kill), (vec!["a".to_owned(), "b[c]".to_owned()], false));
        let cancel = of("windlass cancel -- --kill reason=\"the wrong one, sorry\"");
        assert_eq!((cancel.kill, cancel.reason.as_deref()), (true, Some("the wrong one, sorry")));
        let approve = of("windlass approve -- --reason seen it");
        assert_eq!(approve.reason.as_deref(), Some("seen it"));
    }

    #[test]
    fn the_help_parses() {
        for (usage, _) in help() {
            let bare = usage.split(" [").next().unwrap();
            assert!(matches!(parse(bare, None), Some(Ok(_))), "{usage}");
        }
    }
}
