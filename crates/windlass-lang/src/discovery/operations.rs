//! Stack instances that operations name, where that is always the same one.

use crate::expression::constant;
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::parameter::ChoiceSource;
use windlass_model::operation::{Action, Expression, OperationDefinition};
use windlass_model::stack::Stack;

/// Instances that no stack has.
pub(super) fn unknown_stacks(definitions: &Definitions, stacks: &[Stack]) -> Vec<Diagnostic> {
    let known: Vec<&str> = stacks.iter().flat_map(|stack| &stack.instances).map(|i| i.id.as_str()).collect();
    let mut diagnostics = Vec::new();
    for operation in &definitions.operations {
        for expression in stack_expressions(operation) {
            let Some(serde_json::Value::String(name)) = constant(expression, &operation.locals) else { continue };
            if known.contains(&name.as_str()) {
                continue;
            }
            let diagnostic =
                Diagnostic::error("WL121", format!("\"{name}\" is no instance of a stack")).at(expression.span.clone());
            let of_stack: Vec<&str> = known
                .iter()
                .copied()
                .filter(|id| id.strip_prefix(&name).is_some_and(|key| key.starts_with('[')))
                .collect();
            diagnostics.push(match (of_stack.as_slice(), crate::suggest(&name, known.iter().copied())) {
                ([_, ..], _) => diagnostic.help(format!("it has {}", of_stack.join(", "))),
                ([], Some(near)) => diagnostic.help(format!("did you mean \"{near}\"?")),
                ([], None) => diagnostic.help("`windlass stacks` lists all stacks"),
            });
        }
    }
    diagnostics
}

fn stack_expressions(operation: &OperationDefinition) -> Vec<&Expression> {
    let of_steps = operation.steps().into_iter().filter_map(|step| match &step.action {
        Action::Terraform { stack, .. } | Action::StackOutputs { stack } => Some(stack),
        _ => None,
    });
    let of_choices = operation.parameters.iter().filter_map(|parameter| match &parameter.choices.as_ref()?.from {
        ChoiceSource::StackOutput { stack, .. } => Some(stack),
        _ => None,
    });
    of_steps.chain(of_choices).collect()
}

#[cfg(test)]
mod tests {
    use crate::definitions::load;
    use crate::discovery::discover;
    use crate::tree::MemoryTree;

    #[test]
    fn instances_that_are_named_are_there() {
        let check = |stack: &str, want: &[&str]| {
            let operation = format!(
                "locals {{\n  net = \"net\"\n}}\noperation \"o\" {{\n  param \"p\" {{}}\n  step \"s\" {{ stack_outputs = {stack} }}\n}}\nstack \"db\" {{ regions = [\"tokyo\"] }}\n"
            );
            let backend = "terraform {\n  backend \"s3\" {}\n}\n";
            let tree = MemoryTree::new([
                ("windlass.hcl", operation.as_str()),
                ("net/main.tf", backend),
                ("db/main.tf", backend),
            ]);
            let (definitions, wrong) = load(&tree);
            assert_eq!(wrong, vec![], "{stack}");
            let found = discover(&tree, &definitions).diagnostics;
            let told: Vec<String> = found
                .iter()
                .filter(|d| d.code == "WL121")
                .map(|d| format!("{}: {} | {}", d.labels[0].span.line, d.summary, d.help.clone().unwrap_or_default()))
                .collect();
            assert_eq!(told, want, "{stack}");
        };
        check("stack.net", &[]);
        check("local.net", &[]);
        check("\"db[tokyo]\"", &[]);
        check("\"db[${param.p}]\"", &[]);
        check("stack.db", &["6: \"db\" is no instance of a stack | it has db[tokyo]"]);
        check("stack.db[tokio]", &["6: \"db[tokio]\" is no instance of a stack | did you mean \"db[tokyo]\"?"]);
        check("\"zzz\"", &["6: \"zzz\" is no instance of a stack | `windlass stacks` lists all stacks"]);
    }
}
