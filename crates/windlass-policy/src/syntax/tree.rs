//! The tree of a module. Places do not count when trees are compared: two trees are equal when they say the same.

use std::fmt;

/// Where a node stands: bytes `start..end` of the text, on `line` (from 1). All places are equal to each other, so that trees can be
/// compared by what they say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loc {
    pub start: u32,
    pub end: u32,
    pub line: u32,
}

impl PartialEq for Loc {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Loc {
    /// From the start of `self` to the end of `other`.
    pub fn to(self, other: Self) -> Self {
        Self { end: other.end, ..self }
    }
    /// The bytes, for slicing the text.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Which Rego a module is written in: v0 has rule bodies without `if` and sets without `contains`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Dialect {
    #[default]
    V1,
    V0,
}

/// A `#` comment with its text after the `#`.
#[derive(Debug, Clone, PartialEq)]
pub struct Comment {
    pub text: String,
    pub loc: Loc,
    /// Nothing but white space stands before it on its line.
    pub alone: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// `package a.b` is `["a", "b"]`.
    pub package: Vec<String>,
    pub package_loc: Loc,
    pub imports: Vec<Import>,
    pub rules: Vec<Rule>,
    pub dialect: Dialect,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// With its root, e.g. `["data", "lib", "aws"]`.
    pub path: Vec<String>,
    pub alias: Option<String>,
    pub loc: Loc,
}

impl Import {
    /// The name that it brings; `None` for `rego.v1` and `future.keywords`.
    pub fn name(&self) -> Option<&str> {
        match self.path.first().map(String::as_str) {
            Some("rego" | "future") => None,
            _ => self.alias.as_deref().or_else(|| self.path.last().map(String::as_str)),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub default: bool,
    pub head: Head,
    /// `None` when there is no body at all.
    pub body: Option<Vec<Stmt>>,
    pub elses: Vec<Else>,
    /// A further body of the rule before it (`p { … } { … }`), which has the same head.
    pub chained: bool,
    pub loc: Loc,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Else {
    pub value: Option<Term>,
    pub body: Option<Vec<Stmt>>,
    pub loc: Loc,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub name: String,
    /// What follows the name: `.a` and `[x]`.
    pub path: Vec<Arg>,
    /// Of functions.
    pub params: Option<Vec<Term>>,
    /// The member that a set rule contains.
    pub key: Option<Term>,
    pub value: Option<Term>,
    pub loc: Loc,
    /// Where the name and what follows it stand.
    pub name_loc: Loc,
    /// v0's `p[x]` instead of `p contains x`.
    pub bracket_set: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Stmt {
    pub kind: StmtKind,
    pub withs: Vec<With>,
    pub loc: Loc,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StmtKind {
    Expr(Term),
    /// `a = b`
    Unify(Term, Term),
    /// `a := b`
    Assign(Term, Term),
    Not(Box<StmtKind>),
    /// `some a, b`
    Some(Vec<Term>),
    SomeIn {
        key: Option<Term>,
        value: Term,
        collection: Term,
    },
    Every {
        key: Option<Term>,
        value: Term,
        domain: Term,
        body: Vec<Stmt>,
    },
}

/// `with target as value`
#[derive(Debug, Clone, PartialEq)]
pub struct With {
    pub target: Term,
    pub value: Term,
    pub loc: Loc,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    pub kind: TermKind,
    pub loc: Loc,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TermKind {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    String(String),
    /// `$"…{term}…"`
    Template(Vec<Part>),
    Var(String),
    Ref(Box<Term>, Vec<Arg>),
    /// The function is a [`TermKind::Var`] or a [`TermKind::Ref`] of constant parts.
    Call(Box<Term>, Vec<Term>),
    Array(Vec<Term>),
    Set(Vec<Term>),
    Object(Vec<(Term, Term)>),
    ArrayCompr(Box<Term>, Vec<Stmt>),
    SetCompr(Box<Term>, Vec<Stmt>),
    ObjectCompr(Box<Term>, Box<Term>, Vec<Stmt>),
    Infix(Op, Box<Term>, Box<Term>),
    /// `key, value in collection`
    In(Option<Box<Term>>, Box<Term>, Box<Term>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(String),
    /// `{term with …}`
    Term(Term, Vec<With>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// `.name`
    Dot(String, Loc),
    /// `[term]`
    Bracket(Term),
}

impl Arg {
    /// The key, when it is a constant string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Dot(name, _) | Self::Bracket(Term { kind: TermKind::String(name), .. }) => Some(name),
            Self::Bracket(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    And,
    Or,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Op {
    /// Binding strength; greater binds tighter. `in` is 1.
    pub fn strength(self) -> u8 {
        match self {
            Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => 2,
            Self::Or => 3,
            Self::And => 4,
            Self::Add | Self::Sub => 5,
            Self::Mul | Self::Div | Self::Rem => 6,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Rem => "%",
            Self::And => "&",
            Self::Or => "|",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        })
    }
}

impl Term {
    pub fn new(kind: TermKind, loc: Loc) -> Self {
        Self { kind, loc }
    }
    pub fn var(name: impl Into<String>, loc: Loc) -> Self {
        Self::new(TermKind::Var(name.into()), loc)
    }
    pub fn string(text: impl Into<String>, loc: Loc) -> Self {
        Self::new(TermKind::String(text.into()), loc)
    }
    /// A call of a builtin by its dotted name.
    pub fn call(name: &str, args: Vec<Term>, loc: Loc) -> Self {
        Self::new(TermKind::Call(Box::new(Self::path(name.split('.').map(str::to_owned), loc)), args), loc)
    }
    /// A variable followed by constant keys.
    pub fn path(parts: impl IntoIterator<Item = String>, loc: Loc) -> Self {
        let mut parts = parts.into_iter();
        let head = Self::var(parts.next().unwrap_or_default(), loc);
        let args: Vec<Arg> = parts.map(|part| Arg::Dot(part, loc)).collect();
        if args.is_empty() { head } else { Self::new(TermKind::Ref(Box::new(head), args), loc) }
    }
    /// `a.b["c"]` → `["a", "b", "c"]`, when all parts are constant strings and the root is a variable.
    pub fn static_path(&self) -> Option<Vec<&str>> {
        match &self.kind {
            TermKind::Var(name) => Some(vec![name]),
            TermKind::Ref(head, args) => {
                let TermKind::Var(name) = &head.kind else { return None };
                std::iter::once(Some(name.as_str())).chain(args.iter().map(Arg::text)).collect()
            }
            _ => None,
        }
    }
    /// A value that is written out, without variables or calls.
    pub fn is_constant(&self) -> bool {
        match &self.kind {
            TermKind::Null | TermKind::Bool(_) | TermKind::Number(_) | TermKind::String(_) => true,
            TermKind::Array(items) | TermKind::Set(items) => items.iter().all(Self::is_constant),
            TermKind::Object(items) => items.iter().all(|(k, v)| k.is_constant() && v.is_constant()),
            _ => false,
        }
    }
}
