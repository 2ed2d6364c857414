//! `policy library` and `policy init`: the starter library of policies.

use crate::{Context, print, print_json};
use windlass_app::error::AppError;
use windlass_app::policy_library::{self, Initialised, PLACE};

/// Lists the policies.
pub fn list(cx: &Context) -> Result<u8, AppError> {
    let policies = policy_library::list()?;
    if cx.json {
        let rows = policies.iter().map(|policy| {
            serde_json::json!({
                "name": policy.id(), "cloud": policy.cloud, "title": policy.title, "severity": policy.severity,
                "description": policy.description, "related": policy.related, "settings": policy.settings,
            })
        });
        print_json(&rows.collect::<Vec<_>>());
        return Ok(0);
    }
    let width = policies.iter().map(|policy| policy.id().len()).max().unwrap_or_default();
    let mut out = String::new();
    let mut cloud = "";
    for policy in &policies {
        if !cloud.is_empty() && cloud != policy.cloud {
            out.push('\n');
        }
        cloud = &policy.cloud;
        let severity = format!("{:?}", policy.severity).to_lowercase();
        out.push_str(&format!("{:width$}  {severity:8}  {}\n", policy.id(), policy.title));
    }
    print(&out);
    eprintln!("{} windlass policy init [NAME|CLOUD…] copies them to {PLACE}", cx.err.dim("next:"));
    Ok(0)
}

/// Copies policies into the project.
pub fn init(cx: &Context, names: &[String], force: bool) -> Result<u8, AppError> {
    let done = policy_library::init(&cx.directory, names, force)?;
    if cx.json {
        print_json(&done);
        return Ok(0);
    }
    print(&done.written.iter().map(|path| format!("{path}\n")).collect::<String>());
    eprint!("{}", summary(cx, &done));
    Ok(0)
}

fn summary(cx: &Context, done: &Initialised) -> String {
    let number = done.policies.len();
    let noun = if number == 1 { "policy" } else { "policies" };
    let mut out = format!("{number} {noun} of the library, {} files written", done.written.len());
    if !done.unchanged.is_empty() {
        out.push_str(&format!(", {} were there already", done.unchanged.len()));
    }
    out.push('\n');
    if done.needs_block {
        out.push_str(&format!(
            "{} the project has policy blocks, and none covers these files: add policy \"library\" {{ paths = [\"{PLACE}\"] }}\n",
            cx.err.yellow("note:")
        ));
    }
    out.push_str(&format!(
        "{} edit {PLACE}/settings.json ({PLACE}/README.md says what each setting means)\n",
        cx.err.dim("next:")
    ));
    out.push_str("      windlass policy test\n      windlass review --all\n");
    out
}
