//! `stacks`, `graph`, `show`, `affected`: what is in the repository and what a change touches.

use crate::arguments::GraphFormat;
use crate::{Answer, Context, print, print_json, views};
use windlass_app::affected::affected_find;
use windlass_app::project::{Checkout, Detail, Project};
use windlass_model::graph;

/// The project as it is; what is wrong with it goes to standard error and does not stop a reading command.
fn project(cx: &Context) -> Result<Project, windlass_app::error::AppError> {
    let project = Checkout::open(&cx.directory)?.project()?;
    warn(cx, &project);
    Ok(project)
}

fn warn(cx: &Context, project: &Project) {
    if !cx.json {
        eprint!("{}", views::diagnostic::render_errors(cx.err, &project.diagnostics));
    }
}

pub fn stacks(cx: &Context) -> Answer {
    let project = project(cx)?;
    if cx.json {
        print_json(&serde_json::json!({ "stacks": project.repository.stacks, "diagnostics": project.diagnostics }));
    } else {
        print(&views::stacks::render_table(cx.out, &project.repository));
    }
    Ok(true)
}

pub fn graph(cx: &Context, format: GraphFormat) -> Answer {
    let project = project(cx)?;
    let repository = &project.repository;
    match format {
        _ if cx.json => print_json(&graph_json(&project)),
        GraphFormat::Json => print_json(&graph_json(&project)),
        GraphFormat::Tree => print(&graph::to_tree(repository)),
        GraphFormat::Dot => print(&graph::to_dot(repository)),
        GraphFormat::Mermaid => print(&graph::to_mermaid(repository)),
    }
    Ok(true)
}

fn graph_json(project: &Project) -> serde_json::Value {
    let nodes: Vec<_> = project.repository.instances().map(|(_, instance)| &instance.id).collect();
    serde_json::json!({ "instances": nodes, "edges": project.repository.edges, "diagnostics": project.diagnostics })
}

pub fn show(cx: &Context, name: &str) -> Answer {
    let project = project(cx)?;
    let stack = project.stack(name)?;
    if cx.json {
        let edges: Vec<_> = project
            .repository
            .edges
            .iter()
            .filter(|e| e.from.stack() == stack.id || e.to.stack() == stack.id)
            .collect();
        print_json(&serde_json::json!({ "stack": stack, "edges": edges }));
    } else {
        print(&views::stacks::render_stack(cx.out, &project.repository, stack));
    }
    Ok(true)
}

pub fn affected(cx: &Context, base: Option<&str>, head: Option<&str>) -> Answer {
    let checkout = Checkout::open(&cx.directory)?;
    let answer = affected_find(&checkout, base, head, Detail::Edges)?;
    if cx.json {
        print_json(&serde_json::json!({
            "base": answer.base,
            "head": answer.head,
            "affected": answer.affected,
            "diagnostics": answer.project.diagnostics,
        }));
    } else {
        warn(cx, &answer.project);
        let base = format!("{} ({})", answer.base.name, views::short(&answer.base.commit));
        print(&views::affected::render(cx.out, &base, &answer.affected));
    }
    // The process ends here: giving back the memory of a large repository piece by piece would only take time.
    std::mem::forget(answer);
    Ok(true)
}
