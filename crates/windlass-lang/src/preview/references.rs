//! Where a syntax tree refers to data sources that are replaced.

use super::{Found, Outputs, cut, local_name, with_outputs};
use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, Traversal, TraversalOperator};
use hcl_edit::structure::{Attribute, Block};
use hcl_edit::template::ForTemplateExpr;
use hcl_edit::visit::{Visit, visit_attr, visit_block, visit_expr};
use std::collections::BTreeMap;

/// Arguments of the data source that a reference can read and that an override replaces.
const SETTINGS: [&str; 3] = ["backend", "config", "workspace"];

pub(super) struct References<'a> {
    replaced: &'a BTreeMap<String, Outputs>,
    /// Outputs of the data source whose own block is being visited: `self` in its conditions.
    own: Option<&'a Outputs>,
    pub found: Found,
}

impl<'a> References<'a> {
    pub fn new(replaced: &'a BTreeMap<String, Outputs>) -> Self {
        Self { replaced, own: None, found: Found::default() }
    }

    /// For what stands inside the block of this data source.
    pub fn within(replaced: &'a BTreeMap<String, Outputs>, own: Option<&'a Outputs>) -> Self {
        Self { own, ..Self::new(replaced) }
    }

    /// The data source that a traversal begins with.
    fn named(&self, node: &Traversal) -> Option<&'a str> {
        let Expression::Variable(root) = &node.expr else { return None };
        let [kind, name, ..] = node.operators.as_slice() else { return None };
        let (TraversalOperator::GetAttr(kind), TraversalOperator::GetAttr(name)) = (kind.value(), name.value()) else {
            return None;
        };
        if root.as_str() != "data" || kind.as_str() != "terraform_remote_state" {
            return None;
        }
        self.replaced.get_key_value(name.as_str()).map(|(name, _)| name.as_str())
    }

    fn settings(&mut self, name: &str, operators: &[hcl_edit::Decorated<TraversalOperator>]) {
        let mut rest = operators.iter().map(|operator| operator.value());
        let mut next = rest.next();
        if next.is_some_and(|operator| !matches!(operator, TraversalOperator::GetAttr(_))) {
            next = rest.next();
        }
        if let Some(TraversalOperator::GetAttr(setting)) = next
            && SETTINGS.contains(&setting.as_str())
        {
            self.found.settings.push((name.to_owned(), setting.as_str().to_owned()));
        }
    }
}

impl Visit for References<'_> {
    fn visit_block(&mut self, node: &Block) {
        let labels: Vec<&str> = node.labels.iter().map(|label| label.as_str()).collect();
        let outputs = match (node.ident.as_str(), labels.as_slice()) {
            ("data", ["terraform_remote_state", name]) => self.replaced.get_key_value(*name),
            _ => None,
        };
        let Some((name, outputs)) = outputs else { return visit_block(self, node) };
        self.found.blocks.push((name.clone(), node.body.has_attribute("count"), node.body.has_attribute("for_each")));
        let outer = self.own.replace(outputs);
        visit_block(self, node);
        self.own = outer;
    }

    fn visit_attr(&mut self, node: &Attribute) {
        // The data source is still there to be depended on.
        if node.key.as_str() != "depends_on" {
            visit_attr(self, node);
        }
    }

    fn visit_expr(&mut self, node: &Expression) {
        if let (Expression::Variable(name), Some(outputs), Some(range)) = (node, self.own, node.span())
            && name.as_str() == "self"
        {
            self.found.cuts.push(cut(range, with_outputs("self", outputs)));
        }
        visit_expr(self, node);
    }

    /// The default leaves out the collection.
    fn visit_for_template_expr(&mut self, node: &ForTemplateExpr) {
        self.visit_expr(&node.collection_expr);
        self.visit_template(&node.template);
    }

    fn visit_traversal(&mut self, node: &Traversal) {
        let rest = match (self.named(node), node.expr.span(), node.operators.get(1).and_then(|o| o.span())) {
            (Some(name), Some(start), Some(end)) => {
                self.found.cuts.push(cut(start.start..end.end, format!("local.{}", local_name(name))));
                self.settings(name, &node.operators[2..]);
                &node.operators[2..]
            }
            _ => {
                self.visit_expr(&node.expr);
                &node.operators
            }
        };
        for operator in rest {
            self.visit_traversal_operator(operator);
        }
    }
}
