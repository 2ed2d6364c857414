//! `check`, `fmt`, `explain`, `doctor`, `completions`: files and the machine.

use crate::{Answer, Context, print, print_json, views};
use std::path::{Path, PathBuf};
use windlass_app::check::CheckAnswer;
use windlass_app::configuration::Configuration;
use windlass_app::error::internal;
use windlass_app::project::Checkout;
use windlass_model::codes;
use windlass_model::diagnostic::has_errors;

pub fn check(cx: &Context) -> Answer {
    let checkout = Checkout::open(&cx.directory)?;
    let answer = windlass_app::check::check(&checkout)?;
    if cx.json {
        let CheckAnswer { stacks, operations, diagnostics } = &answer;
        print_json(&serde_json::json!({ "stacks": stacks, "operations": operations, "diagnostics": diagnostics }));
    } else {
        print(&views::diagnostic::render_all(cx.out, &answer.diagnostics));
        let tally = views::diagnostic::tally(&answer.diagnostics);
        let tally = if tally.is_empty() { "nothing to mend".to_owned() } else { tally };
        let operations = match answer.operations {
            0 => String::new(),
            count => format!(", {}", views::count(count, "operation")),
        };
        print(&format!("{}{operations}: {tally}\n", views::count(answer.stacks, "stack")));
    }
    Ok(!has_errors(&answer.diagnostics))
}

pub fn fmt(cx: &Context, files: &[PathBuf], only_check: bool) -> Answer {
    let answer = windlass_app::format::format(&cx.directory, files, !only_check)?;
    if cx.json {
        print_json(&serde_json::json!({ "changed": answer }));
    } else {
        print(&answer.iter().map(|file| format!("{file}\n")).collect::<String>());
    }
    Ok(!only_check || answer.is_empty())
}

pub fn explain(cx: &Context, code: Option<&str>) -> Answer {
    let Some(code) = code else {
        let titles: Vec<(&str, &str)> = codes::all().iter().map(|(code, page)| (*code, codes::title(page))).collect();
        if cx.json {
            print_json(
                &titles
                    .iter()
                    .map(|(code, title)| serde_json::json!({ "code": code, "title": title }))
                    .collect::<Vec<_>>(),
            );
        } else {
            print(&titles.iter().map(|(code, title)| format!("{code}  {title}\n")).collect::<String>());
        }
        return Ok(true);
    };
    let code = code.to_uppercase();
    let page = codes::explain(&code).ok_or_else(|| {
        windlass_app::error::AppError::new(
            windlass_app::error::ErrorKind::NotFound,
            windlass_model::diagnostic::Diagnostic::error("WL905", format!("there is no diagnostic `{code}`"))
                .help("`windlass explain` lists all of them"),
        )
    })?;
    if cx.json {
        print_json(&serde_json::json!({ "code": code, "title": codes::title(page), "page": page }));
    } else {
        print(page);
    }
    Ok(true)
}

pub fn doctor(cx: &Context, config: Option<&Path>) -> Answer {
    let mut findings = windlass_app::doctor::doctor(&cx.directory);
    if config.is_some() {
        let configuration = Configuration::read(config, |name| std::env::var_os(name))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(internal)?;
        findings.extend(runtime.block_on(windlass_app::doctor::server(&configuration)));
    }
    if cx.json {
        print_json(&findings);
    } else {
        for finding in &findings {
            let sign = if finding.fit { cx.out.green("✓") } else { cx.out.red("✗") };
            print(&format!("{sign} {}: {}\n", finding.what, crate::terminal::clean(&finding.found)));
            if let Some(help) = finding.help.as_ref().filter(|_| !finding.fit) {
                print(&format!("  {} {help}\n", cx.out.green("help:")));
            }
        }
    }
    Ok(findings.iter().all(|f| f.fit))
}

pub fn completions(shell: clap_complete::Shell) -> Answer {
    use clap::CommandFactory;
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut crate::arguments::Arguments::command(), "windlass", &mut text);
    print(&String::from_utf8_lossy(&text));
    Ok(true)
}
