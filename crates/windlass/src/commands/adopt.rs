//! `adopt`: what was made by hand, onto a branch; and what no state has.

use crate::arguments::Command;
use crate::{Answer, Context, print, print_json, views};
use std::io::Read;
use std::path::Path;
use windlass_app::adopt::lists::{self, Named};
use windlass_app::adopt::{self, Request};
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::service::Service;
use windlass_model::diagnostic::Diagnostic;

pub async fn run(cx: &Context, service: &Service, command: Command) -> Answer {
    let Command::Adopt { stack, resource, from, listing, unmanaged: _, configured, ignore_unread } = command else {
        return Err(internal("a command without an implementation"));
    };
    let (mut resources, mut mistakes) = lists::pairs(&resource);
    let mut add = |(more, wrong): lists::Read| {
        resources.extend(more);
        mistakes.extend(wrong);
    };
    if let Some(path) = from {
        add(lists::file(&path.to_string_lossy(), &content(cx, &path)?));
    }
    if let Some(path) = listing {
        add(lists::listing(&path.to_string_lossy(), &content(cx, &path)?));
    }
    if !mistakes.is_empty() {
        return Err(AppError::many(ErrorKind::Usage, mistakes));
    }
    // Without a stack it is `--unmanaged`: the arguments see to that.
    match stack {
        Some(stack) => {
            let request = Request { stack, resources, configured, ignore_unread };
            adopt_into(cx, service, &request).await
        }
        None => list_unmanaged(cx, service, resources).await,
    }
}

async fn adopt_into(cx: &Context, service: &Service, request: &Request) -> Answer {
    let adoption = adopt::adopt(service, request).await?;
    if cx.json {
        print_json(&adoption);
    } else {
        print(&views::adopt::adoption(cx.out, &adoption));
    }
    Ok(adoption.clean)
}

async fn list_unmanaged(cx: &Context, service: &Service, listing: Vec<Named>) -> Answer {
    let answer = adopt::unmanaged(service, listing).await?;
    if cx.json {
        print_json(&answer);
    } else {
        print(&views::adopt::unmanaged(cx.out, &answer));
    }
    if answer.unread.is_empty() {
        return Ok(answer.unmanaged.is_empty());
    }
    let help = "the answer is incomplete: what is listed as unmanaged may be in it";
    let unread = answer.unread.iter().map(|unread| unread.diagnostic().help(help)).collect();
    Err(AppError::many(ErrorKind::Unavailable, unread))
}

/// Content of a file, relative to the directory that was asked for; `-` is standard input.
fn content(cx: &Context, path: &Path) -> AppResult<String> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(cx.directory.join(path))
    };
    read.map_err(|error| {
        let diagnostic = Diagnostic::error("WL686", format!("cannot read {}: {error}", path.display()));
        AppError::new(ErrorKind::Usage, diagnostic.help("name a file that can be read, or `-` for standard input"))
    })
}
