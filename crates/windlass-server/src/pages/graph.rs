//! The picture of a graph of stacks: directories that are folded into one box, boxes in layers (whoever is read stands left
//! of its readers), and few crossings. A pure function from the graph to coordinates, in pixels.
//!
//! Layers are longest paths; the order within a layer comes from sweeps by barycentre (Sugiyama, Tagawa, Toda 1981), with
//! placeholders where an edge passes a layer.

use super::common::Tone;
use std::collections::{BTreeMap, BTreeSet};

/// Up to so many stacks nothing is folded unless asked for; above, every directory is.
pub const UNFOLDED: usize = 120;
/// No picture has more boxes.
pub const MOST: usize = 180;

const WIDTH: i32 = 210;
const HEIGHT: i32 = 40;
/// Between layers, and between boxes of a layer.
const GAP: (i32, i32) = (90, 14);
const MARGIN: i32 = 16;
/// Characters of a label that fit into a box.
const LABEL: usize = 26;

/// One stack.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Node {
    /// `/`-separated; directories of it can be folded. With several repositories it begins with the repository's name.
    pub path: String,
    pub project: String,
    pub stack: String,
    pub tone: Tone,
    /// e.g. `in sync`.
    pub state: String,
}

/// `to` reads `from`; both are positions in the list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    /// Its condition is not met at present.
    pub closed: bool,
}

/// What is to be drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    /// Directories that are not as they would be by themselves: folded in a small graph, unfolded in a large one.
    pub turned: BTreeSet<String>,
}

/// One box of the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub what: What,
    pub tone: Tone,
    /// Left upper corner.
    pub x: i32,
    pub y: i32,
    /// The name, shortened from the left.
    pub label: String,
    /// A second line: the state, or how much is inside.
    pub note: String,
    /// All of it in words.
    pub title: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Stack {
        project: String,
        stack: String,
    },
    /// A folded directory.
    Directory(String),
    /// What did not fit: so many stacks.
    Rest(usize),
}

/// One line of the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Positions in the list of shapes.
    pub from: usize,
    pub to: usize,
    pub closed: bool,
    /// The `d` of an SVG path.
    pub path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    pub width: i32,
    pub height: i32,
    pub shapes: Vec<Shape>,
    pub lines: Vec<Line>,
    /// Unfolded directories with how many stacks are below each; they can be folded.
    pub unfolded: Vec<(String, usize)>,
}

impl Picture {
    pub const BOX_WIDTH: i32 = WIDTH;
    pub const BOX_HEIGHT: i32 = HEIGHT;
}

/// Directories of a path, outermost first: `a`, `a/b` of `a/b/c`.
fn directories(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

impl Graph {
    /// The choice with `directory` folded or unfolded.
    pub fn turn(&self, directory: &str) -> BTreeSet<String> {
        let mut turned = self.turned.clone();
        if !turned.remove(directory) {
            turned.insert(directory.to_owned());
        }
        turned
    }

    /// Lays the graph out.
    pub fn picture(&self) -> Picture {
        let mut inside: BTreeMap<&str, usize> = BTreeMap::new();
        for directory in self.nodes.iter().flat_map(|n| directories(&n.path)) {
            *inside.entry(directory).or_default() += 1;
        }
        let unfolded = |directory: &str| (self.nodes.len() <= UNFOLDED) != self.turned.contains(directory);

        // Which box each stack is in. A directory with one stack in it is that stack.
        let mut seen = BTreeSet::new();
        let mut places: Vec<(String, What)> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let mut place = None;
            for directory in directories(&node.path).filter(|d| inside[d] > 1) {
                if !unfolded(directory) {
                    place = Some((directory.to_owned(), What::Directory(directory.to_owned())));
                    break;
                }
                seen.insert(directory);
            }
            let own = || What::Stack { project: node.project.clone(), stack: node.stack.clone() };
            places.push(place.unwrap_or_else(|| (node.path.clone(), own())));
        }
        let mut boxes: BTreeMap<(String, What), Vec<usize>> = BTreeMap::new();
        for (index, place) in places.into_iter().enumerate() {
            boxes.entry(place).or_default().push(index);
        }
        let mut boxes: Vec<((String, What), Vec<usize>)> = boxes.into_iter().collect();
        if boxes.len() > MOST {
            let rest: Vec<usize> = boxes.split_off(MOST - 1).into_iter().flat_map(|(_, nodes)| nodes).collect();
            boxes.push(((format!("{} more", rest.len()), What::Rest(rest.len())), rest));
        }

        let mut home = vec![0; self.nodes.len()];
        for (index, (_, nodes)) in boxes.iter().enumerate() {
            nodes.iter().for_each(|n| home[*n] = index);
        }
        // One line between two boxes; it is open when one of its edges is.
        let mut links: BTreeMap<(usize, usize), bool> = BTreeMap::new();
        for edge in &self.edges {
            let (Some(from), Some(to)) = (home.get(edge.from), home.get(edge.to)) else { continue };
            if from != to {
                *links.entry((*from, *to)).or_insert(true) &= edge.closed;
            }
        }

        let layout = Layout::new(boxes.len(), links.keys().copied().collect());
        let shapes = boxes.into_iter().enumerate().map(|(index, ((path, what), nodes))| {
            let degree = |end: fn(&(usize, usize)) -> usize| links.keys().filter(|l| end(l) == index).count();
            self.shape(path, what, &nodes, layout.at[index], (degree(|l| l.1), degree(|l| l.0)))
        });
        let shapes: Vec<Shape> = shapes.collect();
        let lines = links.iter().map(|((from, to), closed)| {
            let path = layout.path(*from, *to);
            Line { from: *from, to: *to, closed: *closed, path }
        });
        Picture {
            width: layout.size.0,
            height: layout.size.1,
            lines: lines.collect(),
            shapes,
            unfolded: seen.into_iter().map(|d| (d.to_owned(), inside[d])).collect(),
        }
    }

    fn shape(
        &self,
        path: String,
        what: What,
        nodes: &[usize],
        (x, y): (i32, i32),
        (reads, read): (usize, usize),
    ) -> Shape {
        let worst = nodes.iter().map(|n| &self.nodes[*n]).max_by_key(|n| rank(n.tone));
        let tone = worst.map_or(Tone::Plain, |n| n.tone);
        let note = match &what {
            What::Stack { .. } => worst.map(|n| n.state.clone()).unwrap_or_default(),
            _ => {
                let bad = nodes.iter().filter(|n| rank(self.nodes[**n].tone) > rank(Tone::Ok)).count();
                let all = super::common::count(nodes.len(), "stack");
                if bad == 0 { all } else { format!("{all}, {bad} not in order") }
            }
        };
        let title = format!("{path}: {note}; reads {reads}, read by {read}");
        let length = path.chars().count();
        let label = match length > LABEL {
            true => format!("…{}", path.chars().skip(length - LABEL + 1).collect::<String>()),
            false => path,
        };
        let note =
            if note.chars().count() > LABEL + 4 { note.chars().take(LABEL + 3).chain(['…']).collect() } else { note };
        Shape { what, tone, x, y, label, note, title }
    }
}

fn rank(tone: Tone) -> u8 {
    match tone {
        Tone::Plain => 0,
        Tone::Info => 1,
        Tone::Ok => 2,
        Tone::Wait => 3,
        Tone::Warn => 4,
        Tone::Bad => 5,
    }
}

/// Coordinates of boxes, and of the places where edges pass layers.
struct Layout {
    /// Left upper corners.
    at: Vec<(i32, i32)>,
    size: (i32, i32),
    /// Per edge, where it enters each layer that it passes.
    bends: BTreeMap<(usize, usize), Vec<(i32, i32)>>,
}

impl Layout {
    fn new(number: usize, edges: Vec<(usize, usize)>) -> Self {
        let forward = without_cycles(number, &edges);
        let layer = layers(number, &forward);
        let lonely = |index: usize| !edges.iter().any(|(from, to)| *from == index || *to == index);

        // Members of the layers: boxes first, then placeholders, which get numbers above.
        let depth = layer.iter().max().map_or(0, |l| l + 1);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); depth];
        let alone: Vec<usize> = (0..number).filter(|i| lonely(*i)).collect();
        for index in (0..number).filter(|i| !lonely(*i)) {
            members[layer[index]].push(index);
        }
        let mut neighbours: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); number];
        let mut passes: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (from, to) in &forward {
            let mut last = *from;
            let mut passed = Vec::new();
            for level in &mut members[layer[*from] + 1..layer[*to]] {
                let dummy = neighbours.len();
                neighbours.push(Default::default());
                level.push(dummy);
                passed.push(dummy);
                neighbours[last].1.push(dummy);
                neighbours[dummy].0.push(last);
                last = dummy;
            }
            neighbours[last].1.push(*to);
            neighbours[*to].0.push(last);
            passes.insert((*from, *to), passed);
        }

        let mut position = vec![0.0; neighbours.len()];
        for level in &members {
            level.iter().enumerate().for_each(|(i, m)| position[*m] = i as f64);
        }
        for sweep in 0..12 {
            let down = sweep % 2 == 0;
            for step in 0..depth {
                let level = &mut members[if down { step } else { depth - 1 - step }];
                let mut keyed: Vec<(f64, usize)> = level
                    .iter()
                    .map(|m| {
                        let around = if down { &neighbours[*m].0 } else { &neighbours[*m].1 };
                        (mean(around, &position).unwrap_or(position[*m]), *m)
                    })
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                *level = keyed.into_iter().map(|(_, m)| m).collect();
                level.iter().enumerate().for_each(|(i, m)| position[*m] = i as f64);
            }
        }

        // Heights: each towards the middle of its neighbours, as far as the order and the room allow.
        let room = |member: usize| f64::from(if member < number { HEIGHT + GAP.1 } else { 12 });
        let mut y = vec![0.0; neighbours.len()];
        for level in &members {
            let mut next = 0.0;
            for member in level {
                y[*member] = next + room(*member) / 2.0;
                next += room(*member);
            }
        }
        for sweep in 0..8 {
            let down = sweep % 2 == 0;
            for step in 0..depth {
                let level = &members[if down { step } else { depth - 1 - step }];
                let wanted = level.iter().map(|m| {
                    let around = if down { &neighbours[*m].0 } else { &neighbours[*m].1 };
                    mean(around, &y).unwrap_or(y[*m])
                });
                let wanted: Vec<f64> = wanted.collect();
                // As high and as low as the order allows; the middle of the two keeps the order and the room.
                let (mut high, mut low) = (wanted.clone(), wanted);
                for i in 1..level.len() {
                    high[i] = high[i].max(high[i - 1] + (room(level[i - 1]) + room(level[i])) / 2.0);
                }
                for i in (1..level.len()).rev() {
                    low[i - 1] = low[i - 1].min(low[i] - (room(level[i - 1]) + room(level[i])) / 2.0);
                }
                for (i, member) in level.iter().enumerate() {
                    y[*member] = f64::midpoint(high[i], low[i]);
                }
            }
        }
        let used: Vec<usize> = members.iter().flatten().copied().collect();
        let top = used.iter().map(|m| y[*m] - room(*m) / 2.0).fold(f64::INFINITY, f64::min);
        let bottom = used.iter().map(|m| y[*m] + room(*m) / 2.0).fold(f64::NEG_INFINITY, f64::max);
        let (top, bottom) = if used.is_empty() { (0.0, 0.0) } else { (top, bottom) };
        let middle = |member: usize| MARGIN + (y[member] - top).round() as i32;

        let mut at = vec![(0, 0); number];
        let column = |level: usize| MARGIN + level as i32 * (WIDTH + GAP.0);
        for (level, members) in members.iter().enumerate() {
            for member in members.iter().filter(|m| **m < number) {
                at[*member] = (column(level), middle(*member) - HEIGHT / 2);
            }
        }
        let bends = passes.into_iter().map(|(edge, passed)| {
            let point = |(i, dummy): (usize, &usize)| (column(layer[edge.0] + 1 + i), middle(*dummy));
            (edge, passed.iter().enumerate().map(point).collect::<Vec<_>>())
        });
        let bends: BTreeMap<_, _> = bends.collect();

        // Boxes without any edge stand below in rows, as wide as the rest but never a single column.
        let linked_depth = members.iter().filter(|l| !l.is_empty()).count();
        let columns = linked_depth.max((alone.len() as f64).sqrt().ceil() as usize / 2).max(4).min(alone.len().max(1));
        let below = MARGIN + (bottom - top).round() as i32 + if used.is_empty() { 0 } else { GAP.1 };
        for (i, index) in alone.iter().enumerate() {
            at[*index] =
                (MARGIN + (i % columns) as i32 * (WIDTH + GAP.1), below + (i / columns) as i32 * (HEIGHT + GAP.1));
        }
        let edge =
            |value: fn(&(i32, i32)) -> i32, size: i32| at.iter().map(value).max().map_or(0, |v| v + size) + MARGIN;
        Self {
            size: (edge(|p| p.0, WIDTH), edge(|p| p.1, HEIGHT).max(bottom as i32 - top as i32 + 2 * MARGIN)),
            at,
            bends,
        }
    }

    /// Smooth from the right side of `from` over its bends to the left side of `to`.
    fn path(&self, from: usize, to: usize) -> String {
        let (bends, ends) = match self.bends.get(&(from, to)) {
            Some(bends) => (bends.clone(), (from, to)),
            // Part of a cycle: laid out the other way round.
            None => (self.bends.get(&(to, from)).cloned().unwrap_or_default(), (to, from)),
        };
        let start = (self.at[ends.0].0 + WIDTH, self.at[ends.0].1 + HEIGHT / 2);
        let end = (self.at[ends.1].0, self.at[ends.1].1 + HEIGHT / 2);
        let mut path = format!("M{} {}", start.0, start.1);
        let mut last = start;
        for point in bends.into_iter().chain([end]) {
            let middle = i32::midpoint(last.0, point.0);
            path.push_str(&format!("C{middle} {} {middle} {} {} {}", last.1, point.1, point.0, point.1));
            last = point;
            // Straight between the boxes of a layer that is passed.
            if point != end {
                last.0 += WIDTH;
                path.push_str(&format!("H{}", last.0));
            }
        }
        path
    }
}

fn mean(of: &[usize], values: &[f64]) -> Option<f64> {
    (!of.is_empty()).then(|| of.iter().map(|i| values[*i]).sum::<f64>() / of.len() as f64)
}

/// The edges, each of those that close a cycle turned round; folded directories may read each other. Sorted, each once.
fn without_cycles(number: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut targets = vec![Vec::new(); number];
    edges.iter().for_each(|(from, to)| targets[*from].push(*to));
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; number];
    let mut forward = BTreeSet::new();
    for root in 0..number {
        if marks[root] != Mark::New {
            continue;
        }
        marks[root] = Mark::Open;
        let mut path = vec![(root, 0)];
        while let Some((node, next)) = path.last_mut() {
            let (node, target) = (*node, targets[*node].get(*next).copied());
            *next += 1;
            match target {
                None => {
                    marks[node] = Mark::Done;
                    path.pop();
                }
                Some(target) if marks[target] == Mark::Open => {
                    forward.insert((target, node));
                }
                Some(target) => {
                    forward.insert((node, target));
                    if marks[target] == Mark::New {
                        marks[target] = Mark::Open;
                        path.push((target, 0));
                    }
                }
            }
        }
    }
    forward.into_iter().collect()
}

/// Length of the longest path that leads to each; `edges` have no cycle.
fn layers(number: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut missing = vec![0; number];
    let mut targets = vec![Vec::new(); number];
    for (from, to) in edges {
        missing[*to] += 1;
        targets[*from].push(*to);
    }
    let mut layer = vec![0; number];
    let mut ready: Vec<usize> = (0..number).filter(|i| missing[*i] == 0).collect();
    while let Some(index) = ready.pop() {
        for target in &targets[index] {
            layer[*target] = layer[*target].max(layer[index] + 1);
            missing[*target] -= 1;
            if missing[*target] == 0 {
                ready.push(*target);
            }
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(paths: &[&str], edges: &[(&str, &str)]) -> Graph {
        let node = |path: &&str| Node {
            path: path.to_string(),
            project: "p".into(),
            stack: path.to_string(),
            tone: Tone::Ok,
            state: "in sync".into(),
        };
        let place = |path: &str| paths.iter().position(|p| *p == path).unwrap();
        Graph {
            nodes: paths.iter().map(node).collect(),
            edges: edges.iter().map(|(a, b)| Edge { from: place(a), to: place(b), closed: false }).collect(),
            turned: BTreeSet::new(),
        }
    }

    fn labels(picture: &Picture) -> Vec<&str> {
        picture.shapes.iter().map(|s| s.label.as_str()).collect()
    }

    #[track_caller]
    fn no_overlap(picture: &Picture) {
        for (i, a) in picture.shapes.iter().enumerate() {
            assert!(a.x >= 0 && a.y >= 0 && a.x + WIDTH <= picture.width && a.y + HEIGHT <= picture.height, "{a:?}");
            for b in &picture.shapes[i + 1..] {
                let apart = (a.x - b.x).abs() >= WIDTH || (a.y - b.y).abs() >= HEIGHT;
                assert!(apart, "{a:?} lies on {b:?}");
            }
        }
    }

    #[test]
    fn whoever_is_read_stands_left_of_its_readers() {
        let graph = graph(
            &["app", "db", "dns", "net", "solo"],
            &[("net", "db"), ("db", "app"), ("net", "app"), ("net", "dns")],
        );
        let picture = graph.picture();
        no_overlap(&picture);
        for line in &picture.lines {
            assert!(picture.shapes[line.from].x < picture.shapes[line.to].x, "{line:?}");
        }
        assert_eq!(picture.lines.len(), 4);
        // The long edge bends once, where it passes the layer of `db`.
        let long = picture.lines.iter().find(|l| (l.from, l.to) == (3, 0)).unwrap();
        assert_eq!(long.path.matches('C').count(), 2, "{}", long.path);
        assert_eq!(picture.shapes[3].title, "net: in sync; reads 0, read by 3");
    }

    #[test]
    fn crossings_that_need_not_be_are_not() {
        // Written so that the order of names crosses: a→z, b→y, c→x.
        let graph = graph(&["a", "b", "c", "x", "y", "z"], &[("a", "z"), ("b", "y"), ("c", "x")]);
        let picture = graph.picture();
        let y = |label: &str| picture.shapes.iter().find(|s| s.label == label).unwrap().y;
        for (upper, lower) in [(("a", "z"), ("b", "y")), (("b", "y"), ("c", "x")), (("a", "z"), ("c", "x"))] {
            assert_eq!(y(upper.0) < y(lower.0), y(upper.1) < y(lower.1), "{upper:?} {lower:?}");
        }
    }

    #[test]
    fn directories_fold_and_unfold() {
        let paths = ["aws/a", "aws/b", "aws/deep/c", "azure/x", "top"];
        let edges = [("aws/a", "aws/b"), ("aws/a", "azure/x"), ("azure/x", "aws/b")];
        let mut small = graph(&paths, &edges);
        let check = |graph: &Graph, want: &[&str], lines: usize, unfolded: &[(&str, usize)]| {
            let picture = graph.picture();
            no_overlap(&picture);
            assert_eq!(labels(&picture), want);
            assert_eq!(picture.lines.len(), lines);
            let told: Vec<(&str, usize)> = picture.unfolded.iter().map(|(d, n)| (d.as_str(), *n)).collect();
            assert_eq!(told, unfolded);
        };
        check(&small, &paths, 3, &[("aws", 3)]);
        // Both directions between `aws` and `azure/x` stay, and nothing hangs.
        small.turned = small.turn("aws");
        check(&small, &["aws", "azure/x", "top"], 2, &[]);
        small.turned = small.turn("aws");
        check(&small, &paths, 3, &[("aws", 3)]);
    }

    #[test]
    fn a_line_is_closed_only_when_all_its_edges_are() {
        let mut graph = graph(&["a/1", "a/2", "b"], &[("a/1", "b"), ("a/2", "b")]);
        graph.turned = graph.turn("a");
        let check = |graph: &Graph, want: bool| assert_eq!(graph.picture().lines[0].closed, want);
        graph.edges[0].closed = true;
        check(&graph, false);
        graph.edges[1].closed = true;
        check(&graph, true);
    }

    #[test]
    fn ten_thousand_stacks_are_drawn_at_once_and_in_few_boxes() {
        let paths: Vec<String> =
            (0..10_000).map(|i| format!("team-{:02}/service-{:03}/stack-{i}", i % 40, i % 400)).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mut large = graph(&paths, &[]);
        large.edges = (1..10_000).map(|i| Edge { from: i / 2, to: i, closed: false }).collect();
        let check = |graph: &Graph, boxes: usize| {
            let started = std::time::Instant::now();
            let picture = graph.picture();
            assert_eq!(picture.shapes.len(), boxes);
            no_overlap(&picture);
            assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        };
        check(&large, 40);
        large.turned = large.turn("team-01");
        check(&large, 49);
        for i in 0..400 {
            large.turned.insert(format!("team-{:02}", i % 40));
            large.turned.insert(format!("team-{:02}/service-{i:03}", i % 40));
        }
        check(&large, MOST);
        let picture = large.picture();
        assert_eq!(picture.shapes.last().unwrap().what, What::Rest(10_000 - MOST + 1));
    }

    #[test]
    fn nothing_is_a_picture_too() {
        let picture = Graph::default().picture();
        assert!(picture.shapes.is_empty() && picture.width > 0 && picture.height > 0);
    }
}
