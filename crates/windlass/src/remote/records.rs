//! What a server knows: stacks, locks, history, the audit record, tokens, and who somebody is to it.

use super::At;
use super::client::{segment, segments};
use crate::arguments::{Command, GraphFormat, TokenCommand};
use crate::commands::access::AccessCommand;
use crate::commands::audit::{self, Audit};
use crate::terminal::{clean, table};
use crate::{Answer, print, print_json, views};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use windlass_app::audit::Event;
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::history::Applied;
use windlass_app::locks::LockView;
use windlass_app::waivers::WaiverList;
use windlass_model::audit::export::verify_export;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::graph;
use windlass_model::id::InstanceId;
use windlass_model::journal::Quarantine;
use windlass_model::stack::{Edge, Repository};

pub(super) fn run(at: &At, command: &Command) -> Answer {
    match command {
        Command::Stacks => {
            let (repository, diagnostics) = repository(at)?;
            if at.cx.json {
                print_json(&json!({ "stacks": repository.stacks, "diagnostics": diagnostics }));
            } else {
                print(&views::stacks::render_table(at.cx.out, &repository));
            }
            Ok(true)
        }
        Command::Graph { format } => {
            let (repository, diagnostics) = repository(at)?;
            match format {
                GraphFormat::Tree if !at.cx.json => print(&graph::to_tree(&repository)),
                GraphFormat::Dot if !at.cx.json => print(&graph::to_dot(&repository)),
                GraphFormat::Mermaid if !at.cx.json => print(&graph::to_mermaid(&repository)),
                _ => {
                    let nodes: Vec<_> = repository.instances().map(|(_, instance)| &instance.id).collect();
                    print_json(&json!({ "instances": nodes, "edges": repository.edges, "diagnostics": diagnostics }));
                }
            }
            Ok(true)
        }
        Command::Show { stack } => {
            #[derive(Deserialize, serde::Serialize)]
            struct Shown {
                stack: windlass_model::stack::Stack,
                edges: Vec<Edge>,
            }
            let shown: Shown = at.client.get(&format!("{}/stacks/{}", at.project()?, segments(stack)))?;
            if at.cx.json {
                print_json(&shown);
            } else {
                let repository = Repository { stacks: vec![shown.stack], edges: shown.edges };
                repository
                    .stacks
                    .iter()
                    .for_each(|stack| print(&views::stacks::render_stack(at.cx.out, &repository, stack)));
            }
            Ok(true)
        }
        Command::Locks => {
            let list: Vec<LockView> = at.client.list(&format!("{}/locks", at.project()?))?;
            if at.cx.json {
                print_json(&list);
            } else {
                print(&views::records::locks(at.cx.out, &list, jiff::Timestamp::now().as_microsecond()));
            }
            Ok(true)
        }
        Command::Unlock { instance, why } => {
            let path = format!("{}/locks/take-away", at.project()?);
            let lock: LockView = at.client.post(&path, &json!({ "instance": instance, "reason": why }))?;
            if at.cx.json {
                print_json(&lock);
            } else {
                print(&format!(
                    "{} was taken away from run {} ({}).\nNext: windlass resume {} settles what became of it.\n",
                    lock.name, lock.run, lock.step, lock.run
                ));
            }
            Ok(true)
        }
        Command::History { stack, limit } => {
            #[derive(Deserialize)]
            struct Page {
                items: Vec<Applied>,
            }
            let path = format!("{}/history/{}?limit={limit}", at.project()?, segments(stack.trim_end_matches('/')));
            let mut list = at.client.get::<Page>(&path)?.items;
            list.truncate(*limit as usize);
            if at.cx.json {
                print_json(&list);
            } else {
                print(&views::records::history(at.cx.out, stack, &list));
            }
            Ok(true)
        }
        Command::Recover { stack, push, force_unlock, release, why, snapshot } => {
            if snapshot.is_some() {
                let diagnostic =
                    Diagnostic::error("WL904", "a kept state holds secrets in the clear: a server does not send it")
                        .help(
                            "it is in `projects/PROJECT` of the server's data directory, sealed with the key beside it",
                        );
                return Err(AppError::new(ErrorKind::Usage, diagnostic));
            }
            let quarantines = format!("{}/quarantines", at.project()?);
            match stack.as_deref() {
                Some(name) if *push || force_unlock.is_some() || *release => {
                    let instance = quarantined(at, &quarantines, name)?;
                    settle(at, &quarantines, &instance, *push, force_unlock.as_deref(), why.as_deref())
                }
                name => recover(at, &quarantines, name),
            }
        }
        Command::Waivers => {
            let list: WaiverList = at.client.get(&format!("{}/waivers", at.project()?))?;
            if at.cx.json {
                print_json(&list);
            } else {
                print(&views::decisions::waivers(at.cx.out, &list));
            }
            Ok(true)
        }
        Command::Whoami => whoami(at),
        Command::Token(command) => token(at, command),
        Command::Audit(command) => audit(at, command),
        Command::Access(AccessCommand::Explain { actor, permission, stack, .. }) => {
            let mut path = format!("/api/v1/access/explain?permission={permission}");
            let project = at.project()?;
            let project = project.rsplit('/').next().unwrap_or_default();
            path.push_str(&format!("&project={project}"));
            if !stack.is_empty() {
                path.push_str(&format!("&stacks={}", segment(&stack.join(","))));
            }
            if !actor.is_empty() {
                path.push_str(&format!("&actor={}", segment(&actor.join(","))));
            }
            let explained: windlass_app::access::Explained = at.client.get(&path)?;
            if at.cx.json {
                print_json(&explained);
            } else {
                print(&views::access::explained(at.cx.out, &explained));
            }
            Ok(explained.answer.allowed)
        }
        _ => Err(internal("a command without an implementation")),
    }
}

fn repository(at: &At) -> AppResult<(Repository, Vec<Diagnostic>)> {
    #[derive(Deserialize)]
    struct Graph {
        edges: Vec<Edge>,
        diagnostics: Vec<Diagnostic>,
    }
    let project = at.project()?;
    let stacks = at.client.list(&format!("{project}/stacks"))?;
    let Graph { edges, diagnostics } = at.client.get(&format!("{project}/graph"))?;
    Ok((Repository { stacks, edges }, diagnostics))
}

/// The quarantined instance that is meant: by its name, or by that of its stack.
fn quarantined(at: &At, quarantines: &str, name: &str) -> AppResult<InstanceId> {
    let name = name.trim_start_matches("./").trim_end_matches('/');
    let mut list: Vec<Quarantine> = at.client.list(quarantines)?;
    list.retain(|q| q.instance.as_str() == name || q.instance.stack().as_str() == name);
    match list.as_slice() {
        // That it is none, the server says.
        [] => Ok(InstanceId::new(name)),
        [only] => Ok(only.instance.clone()),
        several => {
            let names = several.iter().map(|q| q.instance.as_str()).collect::<Vec<_>>().join(", ");
            let diagnostic = Diagnostic::error("WL903", format!("{name} has several instances: {names}"));
            Err(AppError::new(ErrorKind::Usage, diagnostic.help("name one of them")))
        }
    }
}

fn settle(
    at: &At,
    quarantines: &str,
    instance: &InstanceId,
    push: bool,
    lock: Option<&str>,
    why: Option<&str>,
) -> Answer {
    if let Some(lock) = lock {
        let body = json!({ "instance": instance, "lock": lock });
        at.client.post::<Value>(&format!("{quarantines}/unlock"), &body)?;
        print(&format!("The lock is broken.\nNext: windlass recover {instance}\n"));
    } else if push {
        at.client.post::<Quarantine>(&format!("{quarantines}/push"), &json!({ "instance": instance }))?;
        print(&format!("Pushed.\nNext: windlass recover {instance}\n"));
    } else {
        let body = json!({ "instance": instance, "reason": why });
        let lifted: Quarantine = at.client.post(&format!("{quarantines}/release"), &body)?;
        print(&views::records::released(&lifted, &super::runs::whole(at, &lifted.run)?.0));
    }
    Ok(true)
}

fn recover(at: &At, quarantines: &str, stack: Option<&str>) -> Answer {
    let mut list: Vec<Quarantine> = at.client.list(quarantines)?;
    let Some(name) = stack else {
        if at.cx.json {
            print_json(&list);
        } else {
            print(&views::records::quarantines(at.cx.out, &list));
        }
        return Ok(list.is_empty());
    };
    let name = name.trim_end_matches('/');
    list.retain(|q| q.instance.as_str() == name || q.instance.stack().as_str() == name);
    let instance = list.first().map_or_else(|| InstanceId::new(name), |q| q.instance.clone());
    if at.cx.json {
        print_json(&json!({ "instance": instance, "quarantine": list.first(), "snapshots": [] }));
    } else {
        print(&views::records::recovery(at.cx.out, &instance, list.first(), &[]));
    }
    Ok(list.is_empty())
}

fn whoami(at: &At) -> Answer {
    let me: Value = at.client.get("/api/v1/me")?;
    if at.cx.json {
        print_json(&me);
        return Ok(true);
    }
    let words = |value: &Value| -> String {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        clean(&texts.collect::<Vec<_>>().join(", "))
    };
    print(&format!("{} on {}\n", at.cx.out.bold(&clean(me["name"].as_str().unwrap_or_default())), at.client.url));
    print(&format!("identities: {}\n", words(&me["identities"])));
    for (project, teams) in me["teams"].as_object().into_iter().flatten() {
        print(&format!("teams in {}: {}\n", clean(project), words(teams)));
    }
    for (name, limit) in [("permissions", &me["token"]["permissions"]), ("projects", &me["token"]["projects"])] {
        if limit.is_array() {
            print(&format!("the token is limited to the {name} {}\n", words(limit)));
        }
    }
    Ok(true)
}

#[derive(Deserialize, serde::Serialize)]
struct Token {
    id: String,
    name: String,
    owner: String,
    permissions: Option<Vec<String>>,
    projects: Option<Vec<String>>,
    created_at: i64,
    expires_at: i64,
    used_at: Option<i64>,
    revoked_at: Option<i64>,
}

fn token(at: &At, command: &TokenCommand) -> Answer {
    match command {
        TokenCommand::Create { name, permission, only, days } => {
            let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
            let body = json!({ "name": name, "permissions": some(permission), "projects": some(only), "days": days });
            let made: Value = at.client.post_once("/api/v1/tokens", &body)?;
            if at.cx.json {
                print_json(&made);
            } else {
                print(&format!("{}\n", clean(made["secret"].as_str().unwrap_or_default())));
                eprintln!("It is shown this once. Windlass takes it as WINDLASS_TOKEN.");
            }
            Ok(true)
        }
        TokenCommand::List { everybody } => {
            let list: Vec<Token> = at.client.list(&format!("/api/v1/tokens?everybody={everybody}"))?;
            if at.cx.json {
                print_json(&list);
                return Ok(true);
            }
            let now = jiff::Timestamp::now().as_microsecond();
            let row = |token: &Token| {
                let state = match token.revoked_at {
                    Some(at) => format!("revoked {}", views::time(at)),
                    None if token.expires_at <= now => format!("ended {}", views::time(token.expires_at)),
                    None => format!("until {}", views::time(token.expires_at)),
                };
                let used = token.used_at.map_or_else(|| "never".to_owned(), views::time);
                vec![token.id.clone(), clean(&token.name), clean(&token.owner), state, used]
            };
            print(&table(at.cx.out, &["id", "name", "owner", "good", "used"], list.iter().map(row).collect()));
            Ok(true)
        }
        TokenCommand::Revoke { id } => {
            at.client.delete(&format!("/api/v1/tokens/{}", segment(id)))?;
            if at.cx.json {
                print_json(&json!({ "revoked": id }));
            } else {
                print(&format!("Token {id} is not good any more.\n"));
            }
            Ok(true)
        }
    }
}

fn audit(at: &At, command: &Audit) -> Answer {
    match command {
        Audit::Export { output, .. } => {
            let mut answer = at.client.read("/api/v1/audit/export")?;
            let path = output.as_ref().map(|path| at.cx.directory.join(path));
            let copied = match &path {
                Some(path) => {
                    let file = std::fs::File::create(path);
                    let mut file = file.map_err(|error| windlass_app::settings::disk(path, &error))?;
                    std::io::copy(&mut answer, &mut file)
                }
                None => std::io::copy(&mut answer, &mut std::io::stdout().lock()),
            };
            copied.map(|_| true).map_err(|error| {
                let diagnostic = Diagnostic::error("WL880", format!("the export broke off: {error}"))
                    .help("what was written is not whole: export it again");
                AppError::new(ErrorKind::Unavailable, diagnostic)
            })
        }
        Audit::Verify(request) => {
            let checkpoint =
                request.checkpoint.as_deref().map(|path| audit::read_checkpoint(at.cx, path)).transpose()?;
            let answer = BufReader::with_capacity(1 << 16, at.client.read("/api/v1/audit/export")?);
            let mut progress = views::audit::Progress::new(at.cx.err, None);
            let result =
                verify_export(answer, &request.key, checkpoint.clone(), |lines, bytes| progress.update(lines, bytes));
            progress.clear();
            let report = result.map_err(|error| audit::not_an_export(&at.client.url, &error))?;
            audit::judge(at.cx, &at.client.url, &report, checkpoint.as_ref(), false)
        }
        Audit::Log { filter, .. } => {
            #[derive(Deserialize)]
            struct Page {
                items: Vec<Event>,
            }
            let mut path = format!("/api/v1/events?limit={}", filter.limit);
            let run = filter.run.as_ref().map(ToString::to_string);
            let texts = [
                ("actor", &filter.actor),
                ("subject", &filter.subject),
                ("kind", &filter.kind),
                ("run", &run),
                ("project", &filter.project),
            ];
            for (name, value) in texts {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", segment(value)));
                }
            }
            for (name, value) in [("from", filter.from), ("to", filter.to)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={value}"));
                }
            }
            let list = at.client.get::<Page>(&path)?.items;
            if at.cx.json {
                print_json(&list);
            } else {
                print(&views::audit::log(at.cx.out, &list));
            }
            let _ = std::io::stdout().flush();
            Ok(true)
        }
        Audit::RotateKey { .. } => Err(internal("a command without an implementation")),
    }
}
