//! Which resources of a plan refer to which, as its configuration tells. References through locals are not in a plan: what is
//! found is so, and there may be more.

use crate::effect::{Action, Effect};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// At most so many are kept of one resource.
const MOST: usize = 50;

/// By address of a resource that is updated, replaced or destroyed: the resources that refer to it, directly or through data
/// sources, variables and outputs of modules. These are named as in the configuration, without an index.
pub fn dependants(plan: &Value, effect: &Effect) -> BTreeMap<String, Vec<String>> {
    let touched: BTreeMap<&str, String> = effect
        .changes
        .iter()
        .filter(|c| matches!(c.action, Action::Update | Action::Replace | Action::ReplaceCreateFirst | Action::Destroy))
        .map(|c| (c.address.as_str(), without_indices(&c.address)))
        .collect();
    let Some(root) = plan.pointer("/configuration/root_module").filter(|_| !touched.is_empty()) else {
        return BTreeMap::new();
    };
    let mut graph = Graph::default();
    graph.module(root, "");
    let mut readers: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for name in &graph.resources {
        for target in graph.targets(name) {
            readers.entry(target).or_default().insert(name);
        }
    }
    touched
        .into_iter()
        .filter_map(|(address, name)| {
            let found = readers.get(name.as_str())?;
            let names: Vec<String> = found.iter().filter(|n| **n != name).take(MOST).map(|n| (*n).to_owned()).collect();
            (!names.is_empty()).then(|| (address.to_owned(), names))
        })
        .collect()
}

/// Names are those of resources and data sources, and `var.NAME` and `output.NAME`, each after the path of its module.
#[derive(Default)]
struct Graph {
    /// Managed resources.
    resources: BTreeSet<String>,
    refers: HashMap<String, BTreeSet<String>>,
    outputs: HashMap<String, Vec<String>>,
}

impl Graph {
    fn module(&mut self, module: &Value, prefix: &str) {
        for resource in module.get("resources").and_then(Value::as_array).into_iter().flatten() {
            let Some(address) = resource.get("address").and_then(Value::as_str) else { continue };
            let name = format!("{prefix}{address}");
            if resource.get("mode").and_then(Value::as_str) != Some("data") {
                self.resources.insert(name.clone());
            }
            let parts = ["expressions", "count_expression", "for_each_expression"];
            parts.iter().filter_map(|part| resource.get(*part)).for_each(|part| self.refer(&name, part, prefix));
            let wanted = resource.get("depends_on").and_then(Value::as_array);
            self.add(&name, wanted.into_iter().flatten().filter_map(Value::as_str), prefix);
        }
        for (output, value) in module.get("outputs").and_then(Value::as_object).into_iter().flatten() {
            let name = format!("{prefix}output.{output}");
            self.outputs.entry(prefix.to_owned()).or_default().push(name.clone());
            if let Some(expression) = value.get("expression") {
                self.refer(&name, expression, prefix);
            }
        }
        for (call, value) in module.get("module_calls").and_then(Value::as_object).into_iter().flatten() {
            let inner = format!("{prefix}module.{call}.");
            for (variable, expression) in value.get("expressions").and_then(Value::as_object).into_iter().flatten() {
                self.refer(&format!("{inner}var.{variable}"), expression, prefix);
            }
            if let Some(module) = value.get("module") {
                self.module(module, &inner);
            }
        }
    }

    /// All references within an expression; what is nested is a value, a block or a list of blocks.
    fn refer(&mut self, name: &str, expression: &Value, prefix: &str) {
        match expression {
            Value::Object(object) => {
                if let Some(Value::Array(references)) = object.get("references") {
                    self.add(name, references.iter().filter_map(Value::as_str), prefix);
                }
                object.values().for_each(|value| self.refer(name, value, prefix));
            }
            Value::Array(items) => items.iter().for_each(|item| self.refer(name, item, prefix)),
            _ => {}
        }
    }

    fn add<'a>(&mut self, name: &str, references: impl Iterator<Item = &'a str>, prefix: &str) {
        for reference in references {
            if let Some(target) = target(reference) {
                self.refers.entry(name.to_owned()).or_default().insert(format!("{prefix}{target}"));
            }
        }
    }

    /// The managed resources that a resource refers to.
    fn targets<'a>(&'a self, name: &str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut queue: Vec<&str> = self.refers.get(name).into_iter().flatten().map(String::as_str).collect();
        while let Some(next) = queue.pop() {
            if !seen.insert(next) {
                continue;
            }
            match self.resources.get(next) {
                Some(resource) => drop(found.insert(resource.as_str())),
                None => queue.extend(self.refers.get(next).into_iter().flatten().map(String::as_str)),
            }
        }
        found
    }
}

/// `aws_vpc.main.id` → `aws_vpc.main`, `module.net["a"].id` → `module.net.output.id`; `None` where it is no name of the graph.
fn target(reference: &str) -> Option<String> {
    let reference = without_indices(reference);
    let mut parts = reference.split('.');
    let (first, second) = (parts.next()?, parts.next()?);
    match first {
        "var" => Some(format!("var.{second}")),
        "data" => Some(format!("data.{second}.{}", parts.next()?)),
        // The module as a whole stands beside the output that is meant, or in `depends_on`.
        "module" => Some(format!("module.{second}.output.{}", parts.next()?)),
        "local" | "each" | "count" | "path" | "self" | "terraform" => None,
        _ => Some(format!("{first}.{second}")),
    }
}

/// `module.a["x.y"].aws_vpc.main[0]` → `module.a.aws_vpc.main`.
pub(super) fn without_indices(address: &str) -> String {
    let address = address.split(" (deposed ").next().unwrap_or(address);
    let mut out = String::with_capacity(address.len());
    let (mut inside, mut quoted, mut escaped) = (false, false, false);
    for c in address.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if inside => quoted = !quoted,
            '[' if !quoted => inside = true,
            ']' if !quoted => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_followed_through_modules_and_data_sources() {
        let refer = |names: &[&str]| json!({"a": {"references": names}});
        let resource =
            |address: &str, names: &[&str]| json!({"address": address, "mode": "managed", "expressions": refer(names)});
        let plan = json!({"configuration": {"root_module": {
            "resources": [
                resource("aws_vpc.main", &[]),
                resource("aws_subnet.a", &["aws_vpc.main.id", "aws_vpc.main"]),
                {"address": "data.aws_ami.x", "mode": "data", "expressions": {"filter": [{"values": {"references": ["aws_vpc.main"]}}]}},
                resource("aws_instance.b", &["data.aws_ami.x.id", "data.aws_ami.x", "local.gone"]),
                resource("aws_instance.c", &["module.net.subnet", "module.net"]),
                {"address": "aws_instance.d", "mode": "managed", "depends_on": ["aws_vpc.main"]},
            ],
            "module_calls": {"net": {
                "expressions": {"vpc": {"references": ["aws_vpc.main.id", "aws_vpc.main"]}},
                "module": {
                    "resources": [resource("aws_subnet.inner", &["var.vpc"])],
                    "outputs": {"subnet": {"expression": {"references": ["aws_subnet.inner.id"]}}}
                }
            }}
        }}});
        let change = |address: &str, action: &str| json!({"address": address, "type": "t", "change": {"actions": [action], "before": {"a": 1}, "after": {"a": 2}}});
        let check = |changes: Value, want: Value| {
            let mut plan = plan.clone();
            plan["format_version"] = json!("1.2");
            plan["resource_changes"] = changes;
            let effect = Effect::from_plan_json("a".into(), &plan, b"key").unwrap();
            assert_eq!(json!(dependants(&plan, &effect)), want);
        };
        check(json!([]), json!({}));
        check(json!([change("aws_vpc.main", "create")]), json!({}));
        let all = ["aws_instance.b", "aws_instance.d", "aws_subnet.a", "module.net.aws_subnet.inner"];
        check(json!([change("aws_vpc.main", "update")]), json!({"aws_vpc.main": all}));
        check(json!([change("aws_vpc.main[0]", "delete")]), json!({"aws_vpc.main[0]": all}));
        check(
            json!([change("module.net[\"x.y\"].aws_subnet.inner", "update")]),
            json!({"module.net[\"x.y\"].aws_subnet.inner": ["aws_instance.c"]}),
        );
    }
}
