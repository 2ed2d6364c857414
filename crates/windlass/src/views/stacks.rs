//! Stacks as a table, and one stack with everything known about it.

use crate::terminal::{Terminal, clean, table};
use windlass_model::stack::{ConsumedOutputs, Edge, EdgeKind, GateState, InputPath, Repository, Stack};

pub fn render_table(terminal: Terminal, repository: &Repository) -> String {
    if repository.stacks.is_empty() {
        return "No stacks here: no directory has Terraform configuration with a backend, a provider or resources.\n"
            .into();
    }
    let mut upstreams: std::collections::BTreeMap<_, Vec<String>> = std::collections::BTreeMap::new();
    for edge in repository.edges.iter().filter(|e| e.is_active()) {
        upstreams.entry(&edge.to).or_default().push(edge.from.to_string());
    }
    let rows = repository
        .instances()
        .map(|(stack, instance)| {
            vec![
                instance.id.to_string(),
                instance.state.as_deref().unwrap_or("unknown").to_owned(),
                instance.environments.join(", "),
                upstreams.get(&instance.id).map(|u| u.join(", ")).unwrap_or_default(),
                stack.owner.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let mut out = table(terminal, &["instance", "state", "environment", "after", "owner"], rows);
    let instances = repository.instances().count();
    out.push_str(&format!(
        "\n{}, {}, {}\n",
        super::count(repository.stacks.len(), "stack"),
        super::count(instances, "instance"),
        super::count(repository.edges.len(), "edge")
    ));
    out
}

pub fn render_stack(terminal: Terminal, repository: &Repository, stack: &Stack) -> String {
    let heading = |text: &str| format!("\n{}\n", terminal.bold(text));
    let mut out = format!(
        "{}  {}\n",
        terminal.bold(stack.id.as_str()),
        terminal.dim(&format!("a stack because it {}", clean(&stack.why)))
    );
    if let Some(owner) = &stack.owner {
        out.push_str(&format!("owner {owner}\n"));
    }
    if !stack.required_version.is_empty() {
        out.push_str(&format!("required version {}\n", clean(&stack.required_version.join(", "))));
    }
    out.push_str(&heading("Instances"));
    for instance in &stack.instances {
        let state = match (&instance.state, &instance.state_unknown) {
            (Some(state), _) => clean(state),
            (None, Some(why)) => terminal.yellow(&format!("unknown: {}", clean(why))),
            (None, None) => "unknown".into(),
        };
        out.push_str(&format!("  {}  state {state}, workspace {}\n", instance.id, clean(&instance.workspace)));
        if !instance.var_files.is_empty() {
            out.push_str(&format!("    variable files {}\n", clean(&instance.var_files.join(", "))));
        }
    }
    let of_stack = |id: &windlass_model::id::InstanceId| id.stack() == stack.id;
    let reads: Vec<&Edge> = repository.edges.iter().filter(|e| of_stack(&e.to)).collect();
    let read_by: Vec<&Edge> = repository.edges.iter().filter(|e| of_stack(&e.from)).collect();
    if !reads.is_empty() {
        out.push_str(&heading("Reads from"));
        for edge in reads {
            out.push_str(&render_edge(terminal, edge, edge.from.as_str(), &edge.to));
        }
    }
    if !read_by.is_empty() {
        out.push_str(&heading("Read by"));
        for edge in read_by {
            out.push_str(&render_edge(terminal, edge, edge.to.as_str(), &edge.from));
        }
    }
    if !stack.outputs.is_empty() {
        out.push_str(&heading("Outputs"));
        for output in &stack.outputs {
            let sensitive = if output.sensitive { " (sensitive)" } else { "" };
            let by: std::collections::BTreeSet<String> = repository
                .edges
                .iter()
                .filter(|e| of_stack(&e.from) && e.consumes(&output.name))
                .map(|e| e.to.to_string())
                .collect();
            let by = if by.is_empty() {
                String::new()
            } else {
                format!("  {} {}", terminal.dim("read by"), by.into_iter().collect::<Vec<_>>().join(", "))
            };
            out.push_str(&format!("  {}{sensitive}{by}\n", clean(&output.name)));
        }
    }
    if !stack.variables.is_empty() {
        out.push_str(&heading("Variables"));
        for variable in &stack.variables {
            let required = if variable.required { ", required" } else { "" };
            let text = variable.type_text.split_whitespace().collect::<Vec<_>>().join(" ");
            let line =
                format!("  {}: {}{required}  {}", clean(&variable.name), clean(&text), clean(&variable.description));
            out.push_str(&format!("{}\n", line.trim_end()));
        }
    }
    out.push_str(&heading("Inputs"));
    let inputs = &stack.inputs;
    for (what, list) in [("directory", &inputs.directories), ("file", &inputs.files), ("tree", &inputs.trees)] {
        for input in list {
            out.push_str(&render_input(terminal, what, input));
        }
    }
    for module in &inputs.remote_modules {
        let moving = if module.moving { terminal.yellow("  moves: pin it to a tag or commit") } else { String::new() };
        out.push_str(&format!("  module {} ({}){moving}\n", clean(&module.source), module.span));
    }
    out
}

fn render_input(terminal: Terminal, what: &str, input: &InputPath) -> String {
    let chain = input.chain.iter().map(|e| format!("{} ({})", clean(&e.what), e.span)).collect::<Vec<_>>().join(" → ");
    let path = if input.path.is_empty() { "." } else { &input.path };
    if chain.is_empty() {
        format!("  {what} {}\n", clean(path))
    } else {
        format!("  {what} {}  {}\n", clean(path), terminal.dim(&chain))
    }
}

fn render_edge(terminal: Terminal, edge: &Edge, other: &str, own: &windlass_model::id::InstanceId) -> String {
    let own = own.key().map(|key| format!("[{key}] ")).unwrap_or_default();
    let what = match &edge.kind {
        EdgeKind::After => "declared `after`".to_owned(),
        EdgeKind::RemoteState { outputs: ConsumedOutputs::All, .. } => "all outputs".to_owned(),
        EdgeKind::RemoteState { outputs: ConsumedOutputs::Named(names), .. } if names.is_empty() => {
            "no output".to_owned()
        }
        EdgeKind::RemoteState { outputs: ConsumedOutputs::Named(names), .. } => {
            names.keys().cloned().collect::<Vec<_>>().join(", ")
        }
    };
    let mut out = format!("  {own}{other}  {} {}\n", clean(&what), terminal.dim(&format!("({})", edge.evidence)));
    if let Some(gate) = &edge.gate {
        let state = match &gate.state {
            GateState::Open => terminal.green("open"),
            GateState::Closed => terminal.yellow("closed"),
            GateState::Unknown(why) => terminal.yellow(&format!("unknown: {}", clean(why))),
        };
        let condition = gate.condition.split_whitespace().collect::<Vec<_>>().join(" ");
        out.push_str(&format!("    gate {state}: {}\n", clean(&condition)));
    }
    out
}
