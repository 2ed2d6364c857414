//! Steps in layers as an SVG: a step stands right of everything that it waits for.

use crate::pages::parts::{count, step_class};
use std::collections::BTreeMap;
use std::fmt::Write;
use windlass_model::run::StepState;
use windlass_render::html::escape;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<'a> {
    pub id: &'a str,
    pub title: &'a str,
    pub state: StepState,
    /// Ids of the steps before it; those that are not drawn are left out.
    pub after: &'a [String],
    /// Where its log is.
    pub href: String,
}

/// What is drawn at most.
pub const MOST: usize = 150;

const WIDTH: usize = 176;
const HEIGHT: usize = 30;
const ACROSS: usize = 44;
const DOWN: usize = 10;
const MARGIN: usize = 6;
/// Characters that fit into a box.
const LETTERS: usize = 23;

/// The drawing; `None` where there are no steps or more than [`MOST`].
pub fn svg(nodes: &[Node<'_>]) -> Option<String> {
    if nodes.is_empty() || nodes.len() > MOST {
        return None;
    }
    let before = edges(nodes);
    let layers = ordered(layers(&before), &before);
    let mut at = vec![(0, 0); nodes.len()];
    let tallest = layers.iter().map(Vec::len).max().unwrap_or(0);
    for (column, layer) in layers.iter().enumerate() {
        let spare = (tallest - layer.len()) * (HEIGHT + DOWN) / 2;
        for (row, node) in layer.iter().enumerate() {
            at[*node] = (MARGIN + column * (WIDTH + ACROSS), MARGIN + spare + row * (HEIGHT + DOWN));
        }
    }
    let width = 2 * MARGIN + layers.len() * (WIDTH + ACROSS) - ACROSS;
    let height = 2 * MARGIN + tallest * (HEIGHT + DOWN) - DOWN;
    let mut out = format!(
        "<svg class=\"steps-graph\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"group\" \
         aria-label=\"{} in order; the table of steps says the same in words\">\n",
        count(nodes.len(), "step")
    );
    for (node, before) in before.iter().enumerate() {
        let (x, y) = (at[node].0, at[node].1 + HEIGHT / 2);
        for from in before {
            let (fx, fy) = (at[*from].0 + WIDTH, at[*from].1 + HEIGHT / 2);
            let bend = ACROSS / 2;
            // Writing to a string cannot fail; so below.
            let _ = writeln!(
                out,
                "<path class=\"edge\" d=\"M{fx} {fy}C{} {fy} {} {y} {x} {y}\"/>",
                fx + bend,
                x.saturating_sub(bend)
            );
        }
    }
    for (node, (x, y)) in nodes.iter().zip(&at) {
        let full = escape(&format!("{}: {}", node.title, node.state.as_str()));
        let _ = writeln!(
            out,
            "<a href=\"{}\" class=\"node {} {}\"><title>{full}</title><rect x=\"{x}\" y=\"{y}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"5\"/><text x=\"{}\" y=\"{}\">{}</text></a>",
            escape(&node.href),
            step_class(&node.state),
            node.state.as_str(),
            x + 8,
            y + HEIGHT / 2 + 4,
            escape(&fitted(node.title))
        );
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// For each node the numbers of those before it.
fn edges(nodes: &[Node<'_>]) -> Vec<Vec<usize>> {
    let numbers: BTreeMap<&str, usize> = nodes.iter().enumerate().map(|(number, node)| (node.id, number)).collect();
    let before = |(number, node): (usize, &Node<'_>)| {
        // Plans come in order, so that what is after a step cannot be before it: no circle can be drawn for ever.
        let known = node.after.iter().filter_map(|id| numbers.get(id.as_str()).copied());
        known.filter(|before| *before < number).collect()
    };
    nodes.iter().enumerate().map(before).collect()
}

/// Each node in the layer after the last of those before it.
fn layers(before: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut layer_of: Vec<usize> = Vec::with_capacity(before.len());
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for (node, before) in before.iter().enumerate() {
        let layer = before.iter().map(|b| layer_of[*b] + 1).max().unwrap_or(0);
        layer_of.push(layer);
        if layers.len() <= layer {
            layers.resize_with(layer + 1, Vec::new);
        }
        layers[layer].push(node);
    }
    layers
}

/// The same layers, each in the order of the middles of its neighbours (barycentre heuristic), which avoids most crossings.
fn ordered(mut layers: Vec<Vec<usize>>, before: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut after = vec![Vec::new(); before.len()];
    for (node, before) in before.iter().enumerate() {
        before.iter().for_each(|b| after[*b].push(node));
    }
    let mut place = vec![0.0; before.len()];
    let settle = |layer: &[usize], place: &mut [f64]| {
        layer.iter().enumerate().for_each(|(row, node)| place[*node] = row as f64 / layer.len() as f64);
    };
    layers.iter().for_each(|layer| settle(layer, &mut place));
    for sweep in 0..4 {
        let neighbours = if sweep % 2 == 0 { before } else { &after };
        let sort = |layer: &mut Vec<usize>| {
            let middle = |node: usize| {
                let of = &neighbours[node];
                if of.is_empty() { place[node] } else { of.iter().map(|n| place[*n]).sum::<f64>() / of.len() as f64 }
            };
            let mut middles: Vec<(f64, usize)> = layer.iter().map(|node| (middle(*node), *node)).collect();
            middles.sort_by(|a, b| a.0.total_cmp(&b.0));
            *layer = middles.into_iter().map(|(_, node)| node).collect();
            settle(layer, &mut place);
        };
        if sweep % 2 == 0 { layers.iter_mut().for_each(sort) } else { layers.iter_mut().rev().for_each(sort) }
    }
    layers
}

/// Cut in the middle: the ends tell what it does and where.
fn fitted(title: &str) -> String {
    let letters: Vec<char> = title.chars().collect();
    if letters.len() <= LETTERS {
        return title.to_owned();
    }
    let half = LETTERS / 2;
    letters[..half].iter().chain(['…'].iter()).chain(&letters[letters.len() - half..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<'a>(id: &'a str, after: &'a [String]) -> Node<'a> {
        Node { id, title: id, state: StepState::Pending, after, href: format!("#step-{id}") }
    }

    #[test]
    fn a_step_stands_right_of_all_that_it_waits_for() {
        #[track_caller]
        fn check(steps: &[(&str, &[&str])], want: &[&[usize]]) {
            let after: Vec<Vec<String>> =
                steps.iter().map(|(_, after)| after.iter().map(|a| (*a).to_owned()).collect()).collect();
            let nodes: Vec<Node<'_>> = steps.iter().zip(&after).map(|((id, _), after)| node(id, after)).collect();
            let before = edges(&nodes);
            assert_eq!(ordered(layers(&before), &before), want);
            assert_eq!(
                svg(&nodes).unwrap().matches("class=\"edge\"").count(),
                before.iter().map(Vec::len).sum::<usize>()
            );
        }
        check(&[("a", &[])], &[&[0]]);
        check(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"]), ("d", &["absent"])], &[&[0, 3], &[1], &[2]]);
        // Two chains that would cross.
        check(&[("a", &[]), ("b", &[]), ("c", &["b"]), ("d", &["a"])], &[&[0, 1], &[3, 2]]);
        // A circle, which no plan has.
        check(&[("a", &["b"]), ("b", &["a"])], &[&[0], &[1]]);
    }

    #[test]
    fn too_many_are_not_drawn() {
        let ids: Vec<String> = (0..=MOST).map(|n| n.to_string()).collect();
        let nodes: Vec<Node<'_>> = ids.iter().map(|id| node(id, &[])).collect();
        assert_eq!(svg(&nodes), None);
        assert_eq!(svg(&[]), None);
        assert!(svg(&nodes[..MOST]).is_some());
    }

    #[test]
    fn a_long_title_keeps_both_ends() {
        assert_eq!(fitted("apply aws/network"), "apply aws/network");
        assert_eq!(fitted("apply aws/region/network[ap-northeast-1]"), "apply aws/r…ortheast-1]");
    }
}
