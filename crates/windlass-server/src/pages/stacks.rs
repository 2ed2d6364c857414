//! All stacks: as a table that is read page by page, and as a graph.

use super::common::{Badge, Moment, Pages, Tone, minutes_ago};
use super::graph::{Edge, Graph, Node, Picture, What};
use super::{Frame, link};
use askama::Template;
use std::collections::BTreeSet;

/// How an instance of a stack is. Whoever asks for one state gets what is worst first: one instance has one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum StackState {
    Quarantined,
    /// Its last apply failed.
    Failed,
    /// An apply is under way.
    Applying,
    Drifted,
    InSync,
    /// Drift was never looked for.
    Unchecked,
    /// There is no state yet.
    NeverApplied,
}

impl StackState {
    pub const ALL: [Self; 7] = [
        Self::Quarantined,
        Self::Failed,
        Self::Applying,
        Self::Drifted,
        Self::InSync,
        Self::Unchecked,
        Self::NeverApplied,
    ];

    /// As in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
            Self::Applying => "applying",
            Self::Drifted => "drifted",
            Self::InSync => "in-sync",
            Self::Unchecked => "unchecked",
            Self::NeverApplied => "never-applied",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
            Self::Applying => "applying",
            Self::Drifted => "drifted",
            Self::InSync => "in sync",
            Self::Unchecked => "not checked",
            Self::NeverApplied => "never applied",
        }
    }

    pub fn tone(self) -> Tone {
        match self {
            Self::Quarantined | Self::Failed => Tone::Bad,
            Self::Applying => Tone::Info,
            Self::Drifted => Tone::Warn,
            Self::InSync => Tone::Ok,
            Self::Unchecked | Self::NeverApplied => Tone::Plain,
        }
    }

    pub fn badge(self) -> Badge {
        Badge::new(self.tone(), self.label())
    }
}

/// By what the table is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Sort {
    #[default]
    Name,
    /// Worst first.
    State,
    /// Last applied first.
    Applied,
}

impl Sort {
    /// As in addresses; empty for the usual order.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "",
            Self::State => "state",
            Self::Applied => "applied",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Name, Self::State, Self::Applied].into_iter().find(|s| s.as_str() == text)
    }
}

/// What the list is limited to, as in the address (`q`, `owner`, `environment`, `state`, `sort`), and what there is to
/// choose from.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Filter {
    /// A part of a name.
    pub text: String,
    pub owner: String,
    pub environment: String,
    pub state: Option<StackState>,
    pub sort: Sort,
    pub owners: Vec<String>,
    pub environments: Vec<String>,
}

/// One instance of a stack.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Row {
    pub project: String,
    pub stack: String,
    /// As it is written, e.g. `aws/network[tokyo]`.
    pub instance: String,
    pub owner: String,
    pub environments: Vec<String>,
    pub state: StackState,
    /// How many it reads, and how many read it.
    pub upstreams: usize,
    pub downstreams: usize,
    pub applied: Option<Moment>,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum View {
    /// One page of the table; `here` and `next` are cursors, empty on the first and the last page.
    Table { rows: Vec<Row>, here: String, next: String },
    /// All that match.
    Graph(Graph),
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Stacks {
    pub filter: Filter,
    /// Instances that match, and all that this person may see.
    pub matching: usize,
    pub total: usize,
    pub view: View,
}

impl Stacks {
    fn pairs<'a>(&'a self, frame: &'a Frame) -> Vec<(&'a str, &'a str)> {
        vec![
            ("project", &frame.project),
            ("q", &self.filter.text),
            ("owner", &self.filter.owner),
            ("environment", &self.filter.environment),
            ("state", self.filter.state.map_or("", StackState::as_str)),
        ]
    }

    fn is_graph(&self) -> bool {
        matches!(self.view, View::Graph(_))
    }

    /// The same choice as a table or as a graph.
    fn view_href(&self, frame: &Frame, view: &str) -> String {
        let mut pairs = self.pairs(frame);
        pairs.push(("view", view));
        link::query("/stacks", &pairs)
    }

    fn sort_href(&self, frame: &Frame, sort: Sort) -> String {
        let mut pairs = self.pairs(frame);
        pairs.push(("sort", sort.as_str()));
        link::query("/stacks", &pairs)
    }

    fn pages(&self, frame: &Frame, here: &str, next: &str) -> Pages {
        let mut pairs = self.pairs(frame);
        pairs.push(("sort", self.filter.sort.as_str()));
        Pages::new("/stacks", &pairs, here, next)
    }

    /// The graph with exactly these directories turned.
    fn turned_href(&self, frame: &Frame, turned: BTreeSet<String>) -> String {
        let mut pairs = self.pairs(frame);
        pairs.push(("view", "graph"));
        pairs.extend(turned.iter().map(|directory| ("turn", directory.as_str())));
        link::query("/stacks", &pairs)
    }

    pub fn sample() -> Self {
        let row = |project: &str, stack: &str, key: &str, state, applied: Option<i64>| Row {
            project: project.into(),
            stack: stack.into(),
            instance: if key.is_empty() { stack.into() } else { format!("{stack}[{key}]") },
            owner: "sre".into(),
            environments: vec![if key == "osaka" { "staging".into() } else { "production".into() }],
            state,
            upstreams: usize::from(stack != "aws/network"),
            downstreams: 2,
            applied: applied.map(minutes_ago),
        };
        Self {
            filter: Filter {
                owners: vec!["ledger".into(), "sre".into()],
                environments: vec!["production".into(), "staging".into()],
                ..Filter::default()
            },
            matching: 214,
            total: 214,
            view: View::Table {
                rows: vec![
                    row("shop", "aws/cache", "tokyo", StackState::Failed, Some(90)),
                    row("shop", "aws/db", "tokyo", StackState::Applying, Some(3)),
                    row("shop", "aws/db", "osaka", StackState::InSync, Some(60 * 26)),
                    row("shop", "aws/iam", "", StackState::Drifted, Some(60 * 24 * 9)),
                    row("shop", "aws/network", "tokyo", StackState::Quarantined, Some(15)),
                    row("data", "gcp/warehouse", "", StackState::Unchecked, Some(60 * 24 * 40)),
                    row("data", "gcp/new", "", StackState::NeverApplied, None),
                ],
                here: String::new(),
                next: "gcp/new".into(),
            },
        }
    }

    pub fn sample_graph() -> Self {
        let node = |path: &str, state: StackState| Node {
            path: path.into(),
            project: "shop".into(),
            stack: path.into(),
            tone: state.tone(),
            state: state.label().into(),
        };
        let nodes = vec![
            node("aws/app", StackState::InSync),
            node("aws/cache", StackState::Failed),
            node("aws/cassandra", StackState::InSync),
            node("aws/db", StackState::Drifted),
            node("aws/iam", StackState::InSync),
            node("aws/kubernetes", StackState::InSync),
            node("aws/monitor", StackState::Applying),
            node("aws/network", StackState::Quarantined),
            node("azure/cosmosdb", StackState::NeverApplied),
            node("azure/kubernetes", StackState::InSync),
            node("azure/network", StackState::InSync),
            node("dns", StackState::InSync),
        ];
        let pairs = [(7, 2), (7, 3), (7, 1), (7, 5), (3, 0), (1, 0), (5, 0), (2, 6), (7, 6), (10, 9), (9, 8), (0, 6)];
        let edges =
            pairs.iter().map(|(from, to)| Edge { from: *from, to: *to, closed: (*from, *to) == (2, 6) }).collect();
        let graph = Graph { nodes, edges, turned: BTreeSet::new() };
        Self { matching: 12, total: 12, view: View::Graph(graph), ..Self::sample() }
    }

    /// A large graph: folded.
    pub fn sample_large_graph() -> Self {
        let nodes: Vec<Node> = (0..10_000)
            .map(|i| {
                let path = format!("team-{:02}/service-{:03}/stack-{i}", i % 40, i % 400);
                let tone = if i % 997 == 0 { Tone::Warn } else { Tone::Ok };
                Node { stack: path.clone(), path, project: "shop".into(), tone, state: "in sync".into() }
            })
            .collect();
        let within = (40..10_000).map(|i| Edge { from: i % 40, to: i, closed: false });
        let between = (1..40).map(|i| Edge { from: i / 4, to: i, closed: false });
        let edges = within.chain(between).collect();
        let graph = Graph { nodes, edges, turned: BTreeSet::from(["team-07".to_owned()]) };
        Self { matching: 10_000, total: 10_000, view: View::Graph(graph), ..Self::sample() }
    }

    pub fn sample_empty() -> Self {
        let view = View::Table { rows: Vec::new(), here: String::new(), next: String::new() };
        Self { filter: Filter::default(), matching: 0, total: 0, view }
    }
}

#[derive(Template)]
#[template(path = "stacks.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Stacks,
}

#[derive(Template)]
#[template(path = "stacks_graph.html")]
struct Drawing<'a> {
    frame: &'a Frame,
    page: &'a Stacks,
    graph: &'a Graph,
    picture: Picture,
}

impl askama::filters::HtmlSafe for Drawing<'_> {}

impl Page<'_> {
    fn drawing<'a>(&'a self, graph: &'a Graph) -> Drawing<'a> {
        Drawing { frame: self.frame, page: self.page, graph, picture: graph.picture() }
    }
}

/// The whole page.
pub fn render(frame: &Frame, page: &Stacks) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_hostile};
    use super::super::{Frame, Section};
    use super::*;

    #[test]
    fn the_table_keeps_its_choice_from_page_to_page() {
        let frame = Frame { project: "shop".into(), ..Frame::sample(Section::Stacks) };
        let mut page = Stacks::sample();
        page.filter.text = "aws".into();
        page.filter.state = Some(StackState::Drifted);
        page.filter.sort = Sort::State;
        let html = render(&frame, &page);
        check(&html);
        for want in [
            "/stacks?project=shop&#38;q=aws&#38;state=drifted&#38;sort=state&#38;after=gcp%2Fnew",
            "/stacks?project=shop&#38;q=aws&#38;state=drifted&#38;view=graph",
            "<option value=\"drifted\" selected>",
            "aws/network[tokyo]",
            "aria-sort=\"descending\"",
        ] {
            assert!(html.contains(want), "{want}\n{html}");
        }
        check_hostile(&page, |page| render(&frame, page));
    }

    #[test]
    fn the_graph_is_links_with_a_text_beside_it() {
        let frame = Frame::sample(Section::Stacks);
        let html = render(&frame, &Stacks::sample_graph());
        for want in [
            "href=\"/stacks/shop/aws/network\"",
            "aws/network: quarantined; reads 0, read by 5",
            "the same as a table",
            "/stacks?view=graph&#38;turn=aws",
        ] {
            assert!(html.contains(want), "{want}\n{html}");
        }
        check_hostile(&Stacks::sample_graph(), |page| render(&frame, page));
        let large = render(&frame, &Stacks::sample_large_graph());
        check(&large);
        assert!(large.matches("class=\"node").count() < 200);
        assert!(large.len() < 200_000, "{}", large.len());
    }

    #[test]
    fn an_empty_list_says_what_to_do() {
        let frame = Frame::sample(Section::Stacks);
        let check_empty = |page: &Stacks, want: &str| {
            let html = render(&frame, page);
            check(&html);
            assert!(html.contains(want), "{html}");
        };
        check_empty(&Stacks::sample_empty(), "No stack is known yet");
        let none = Stacks { total: 12, ..Stacks::sample_empty() };
        check_empty(&none, "No stack matches");
    }
}
