//! `policy fmt`: one style for everybody, that of `opa fmt`. Comments stay, lists keep their line breaks.

use super::Source;
use super::print::{is_identifier, quoted};
use super::tree::*;
use windlass_model::diagnostic::Diagnostic;

/// Formats a module, in the dialect that it is written in. Formatting twice changes nothing, and the result says the same.
///
/// # Errors
/// WL407 when it cannot be parsed; WL416 when formatting would change what it says, which is a mistake of ours: the file is better
/// left as it is.
pub fn format(path: &str, text: &str) -> Result<String, Box<Diagnostic>> {
    let source = Source::parse(path.into(), text, None)?;
    let out = write(&source);
    let same = Source::parse(path.into(), out.as_str(), Some(source.module.dialect)).is_ok_and(|again| {
        sorted(&again.module) == sorted(&source.module) && texts(&again.comments) == texts(&source.comments)
    });
    if same {
        Ok(out)
    } else {
        Err(Box::new(
            Diagnostic::error("WL416", format!("{path} cannot be formatted without changing what it says"))
                .at(source.span(source.module.package_loc))
                .help("move comments out of expressions, onto lines of their own"),
        ))
    }
}

fn sorted(module: &Module) -> Module {
    let mut module = module.clone();
    module.imports.sort_by_key(import_key);
    module
}

fn import_key(import: &Import) -> (Vec<String>, Option<String>) {
    (import.path.clone(), import.alias.clone())
}

fn texts(comments: &[Comment]) -> Vec<&str> {
    let mut texts: Vec<&str> = comments.iter().map(|comment| comment.text.trim()).collect();
    texts.sort_unstable();
    texts
}

struct Writer<'s> {
    source: &'s Source,
    v0: bool,
    out: String,
    indent: usize,
    /// Comments that are written.
    comments: usize,
    /// Byte offset of each line's start.
    lines: Vec<u32>,
}

fn write(source: &Source) -> String {
    let lines = std::iter::once(0).chain(source.text.match_indices('\n').map(|(at, _)| at as u32 + 1)).collect();
    let v0 = source.module.dialect == Dialect::V0;
    let mut writer = Writer { source, v0, out: String::new(), indent: 0, comments: 0, lines };
    writer.module();
    writer.out
}

impl Writer<'_> {
    fn line_of(&self, at: u32) -> u32 {
        self.lines.partition_point(|start| *start <= at) as u32
    }

    /// The line on which a node ends.
    fn last(&self, loc: Loc) -> u32 {
        self.line_of(loc.end.saturating_sub(1))
    }

    fn text(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn line(&mut self) {
        while self.out.ends_with(' ') {
            self.out.pop();
        }
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n('\t', self.indent));
    }

    /// An empty line, if there is none yet.
    fn blank(&mut self) {
        let end = self.out.trim_end_matches(['\t', ' ']).len();
        self.out.truncate(end);
        while self.out.ends_with("\n\n") {
            self.out.pop();
        }
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.extend(std::iter::repeat_n('\t', self.indent));
    }

    fn is_blank(&self, line: u32) -> bool {
        let index = line as usize;
        if index == 0 || index > self.lines.len() {
            return false;
        }
        let start = self.lines[index - 1] as usize;
        let end = self.lines.get(index).map_or(self.source.text.len(), |end| *end as usize);
        self.source.text[start..end].trim().is_empty()
    }

    fn next_comment(&self) -> Option<&Comment> {
        self.source.comments.get(self.comments)
    }

    fn comment(&mut self) {
        if let Some(comment) = self.source.comments.get(self.comments) {
            let text = comment.text.clone();
            self.text("#");
            self.text(&text);
            self.comments += 1;
        }
    }

    fn pending(&self, line: u32) -> bool {
        self.next_comment().is_some_and(|comment| comment.loc.line < line)
    }

    /// Writes the comments above `line`, each on its own line; the writer is at the start of a line, and stays there.
    fn above(&mut self, line: u32, first: bool) {
        let mut first = first;
        let mut wrote = None;
        while let Some(comment) = self.next_comment().filter(|comment| comment.loc.line < line) {
            let at = comment.loc.line;
            if !first && at > 1 && self.is_blank(at - 1) {
                self.blank();
            }
            self.comment();
            self.line();
            first = false;
            wrote = Some(at);
        }
        if wrote.is_some() && line > 1 && line != u32::MAX && self.is_blank(line - 1) {
            self.blank();
        }
    }

    /// Writes the comment that stands behind what ended on `line`.
    fn behind(&mut self, line: u32) {
        if self.next_comment().is_some_and(|comment| comment.loc.line == line && !comment.alone) {
            self.text(" ");
            self.comment();
        }
    }

    fn module(&mut self) {
        let module = &self.source.module;
        self.above(module.package_loc.line, true);
        self.text("package ");
        self.path(&module.package);
        self.behind(module.package_loc.line);
        self.line();
        self.imports();
        let mut before: Option<(u32, bool)> = None;
        let mut index = 0;
        while index < module.rules.len() {
            let rule = &module.rules[index];
            let mut end = index + 1;
            while module.rules.get(end).is_some_and(|next| next.chained) {
                end += 1;
            }
            let first_line = self.next_comment().map_or(rule.loc.line, |c| c.loc.line.min(rule.loc.line));
            let has_comments = self.pending(rule.loc.line);
            let kept = std::mem::take(&mut self.out);
            self.above(rule.loc.line, true);
            let start = self.out.len();
            self.rule(rule, &module.rules[index + 1..end]);
            let last = self.last(module.rules[end - 1].loc);
            self.behind(last);
            let tall = self.out[start..].contains('\n');
            let written = std::mem::replace(&mut self.out, kept);
            let apart = before.is_none_or(|(line, tall_before)| {
                tall_before || tall || has_comments || (line + 1..first_line).any(|line| self.is_blank(line))
            });
            if apart {
                self.blank();
            }
            self.text(&written);
            self.line();
            before = Some((last, tall || rule.default));
            index = end;
        }
        if self.next_comment().is_some() {
            self.blank();
            self.above(u32::MAX, true);
        }
        let end = self.out.trim_end().len();
        self.out.truncate(end);
        self.out.push('\n');
    }

    fn imports(&mut self) {
        let mut group: Vec<(&Import, String)> = Vec::new();
        let mut last = 0;
        let source = self.source;
        for import in &source.module.imports {
            let has_comments = self.pending(import.loc.line);
            if !group.is_empty() && (import.loc.line > last + 1 || has_comments) {
                self.import_group(&mut group);
            }
            if group.is_empty() {
                self.blank();
                self.above(import.loc.line, true);
            }
            let kept = std::mem::take(&mut self.out);
            self.text("import ");
            self.path(&import.path);
            if let Some(alias) = &import.alias {
                self.text(" as ");
                self.text(alias);
            }
            last = self.last(import.loc);
            self.behind(last);
            let written = std::mem::replace(&mut self.out, kept);
            group.push((import, written));
        }
        self.import_group(&mut group);
    }

    fn import_group(&mut self, group: &mut Vec<(&Import, String)>) {
        group.sort_by_key(|(import, _)| import_key(import));
        for (_, written) in group.drain(..) {
            self.text(&written);
            self.line();
        }
    }

    fn path(&mut self, path: &[String]) {
        for (index, key) in path.iter().enumerate() {
            if index == 0 { self.text(key) } else { self.key(key) }
        }
    }

    fn key(&mut self, key: &str) {
        if is_identifier(key) {
            self.text(".");
            self.text(key);
        } else {
            self.text("[");
            self.text(&quoted(key));
            self.text("]");
        }
    }

    fn rule(&mut self, rule: &Rule, chained: &[Rule]) {
        if rule.default {
            self.text("default ");
        }
        let head = &rule.head;
        self.text(&head.name);
        for arg in &head.path {
            match arg {
                // As it was written: brackets say that the key is one of many.
                Arg::Dot(name, loc) if self.source.text[loc.range()].starts_with(['"', '`']) => {
                    self.text(&format!("[{}]", quoted(name)));
                }
                arg => self.args(std::slice::from_ref(arg)),
            }
        }
        if let Some(params) = &head.params {
            self.text("(");
            self.list(params, ")", head.name_loc, head.loc);
        }
        if let Some(key) = &head.key {
            if head.bracket_set {
                self.text("[");
                self.member(key);
                self.text("]");
            } else {
                self.text(" contains ");
                self.term(key, false);
            }
        }
        if let Some(value) = &head.value {
            self.text(if self.v0 && !rule.default { " = " } else { " := " });
            self.term(value, false);
        }
        let mut short = false;
        if let Some(body) = &rule.body {
            let needs_if = self.v0 && head.path.len() == 1 && head.value.is_none() && head.key.is_none();
            self.text(if self.v0 && !needs_if { " " } else { " if " });
            short = self.body(body, self.last(head.loc), rule.loc, needs_if);
        }
        for other in &rule.elses {
            if short {
                self.blank_before_else();
            } else {
                self.text(" ");
            }
            self.text("else");
            if let Some(value) = &other.value {
                self.text(if self.v0 { " = " } else { " := " });
                self.term(value, false);
            }
            short = true;
            if let Some(body) = &other.body {
                self.text(if self.v0 { " " } else { " if " });
                let start = other.value.as_ref().map_or(other.loc.line, |value| self.last(value.loc));
                short = self.body(body, start, other.loc, false);
            }
        }
        for next in chained {
            self.text(" ");
            self.body(next.body.as_deref().unwrap_or_default(), next.loc.line, next.loc, false);
        }
    }

    fn blank_before_else(&mut self) {
        self.line();
        self.line();
    }

    /// A body; true when it is written without braces on the line of its head.
    fn body(&mut self, body: &[Stmt], head: u32, whole: Loc, v1: bool) -> bool {
        if let [only] = body
            && (!self.v0 || v1)
            && only.loc.line == head
            && !begins_like_a_body(only)
            && self
                .next_comment()
                .is_none_or(|c| c.loc.line > self.last(only.loc) || !within(c.loc, only.loc) && !within(c.loc, whole))
        {
            self.statement(only);
            return true;
        }
        let end = body.last().map_or(head, |last| self.last(last.loc));
        self.braced(body, head, end.max(self.closing_line(whole, body)));
        false
    }

    /// The line of the brace that closes the body.
    fn closing_line(&self, whole: Loc, body: &[Stmt]) -> u32 {
        let from = body.last().map_or(whole.start, |last| last.loc.end) as usize;
        // Between the last statement and the brace are only comments and white space.
        let mut at = from;
        let text = &self.source.text;
        while let Some(c) = text[at..].chars().next() {
            match c {
                '}' | ']' => return self.line_of(at as u32),
                '#' => at += text[at..].find('\n').unwrap_or(text.len() - at),
                c => at += c.len_utf8(),
            }
        }
        self.last(whole)
    }

    fn braced(&mut self, body: &[Stmt], head: u32, closing: u32) {
        self.text("{");
        self.behind(head);
        self.indent += 1;
        self.statements(body, closing);
        self.indent -= 1;
        self.line();
        self.text("}");
    }

    /// Statements on lines of their own, up to a closing brace on line `closing`.
    fn statements(&mut self, body: &[Stmt], closing: u32) {
        let mut before: Option<u32> = None;
        for (index, statement) in body.iter().enumerate() {
            self.line();
            let first = self.next_comment().map_or(statement.loc.line, |c| c.loc.line.min(statement.loc.line));
            if before.is_some_and(|before| (before + 1..first).any(|line| self.is_blank(line))) {
                self.blank();
            }
            self.above(statement.loc.line, true);
            self.statement(statement);
            let last = self.last(statement.loc);
            if body.get(index + 1).is_none_or(|next| next.loc.line != last) {
                self.behind(last);
            }
            before = Some(last);
        }
        if self.pending(closing) {
            self.line();
            let first = self.next_comment().map_or(closing, |comment| comment.loc.line);
            if before.is_some_and(|before| (before + 1..first).any(|line| self.is_blank(line))) {
                self.blank();
            }
            self.above(closing, true);
            let end = self.out.trim_end().len();
            self.out.truncate(end);
        }
    }

    fn statement(&mut self, statement: &Stmt) {
        let start = self.out.len();
        self.kind(&statement.kind, statement.loc);
        // After a line break, a sign would go on with the statement before.
        if let StmtKind::Expr(term) | StmtKind::Unify(term, _) = &statement.kind
            && let TermKind::Number(number) = &leftmost(term).kind
            && self.out[start..].starts_with('-')
        {
            self.out.replace_range(start..start + number.len(), &format!("({number})"));
        }
        self.withs(&statement.withs, statement.loc.line);
    }

    fn withs(&mut self, withs: &[With], start: u32) {
        let mut line = withs.first().map_or(start, |with| self.line_of(with.loc.start.saturating_sub(1)));
        for with in withs {
            if with.loc.line > line {
                self.indent += 1;
                self.line();
                self.indent -= 1;
            } else {
                self.text(" ");
            }
            self.text("with ");
            self.term(&with.target, false);
            self.text(" as ");
            self.term(&with.value, false);
            line = self.last(with.loc);
        }
    }

    fn kind(&mut self, kind: &StmtKind, loc: Loc) {
        match kind {
            StmtKind::Expr(Term { kind: TermKind::Infix(op, left, right), .. }) => {
                self.term(left, strength(left) < op.strength());
                self.text(&format!(" {op} "));
                self.term(right, strength(right) <= op.strength());
            }
            StmtKind::Expr(term) => self.term(term, false),
            StmtKind::Unify(left, right) => {
                self.term(left, false);
                self.text(" = ");
                self.member(right);
            }
            StmtKind::Assign(left, right) => {
                self.term(left, false);
                self.text(" := ");
                self.member(right);
            }
            StmtKind::Not(inner) => {
                self.text("not ");
                self.kind(inner, loc);
            }
            StmtKind::Some(names) => {
                self.text("some ");
                self.inline(names);
            }
            StmtKind::SomeIn { key, value, collection } => {
                self.text("some ");
                if let Some(key) = key {
                    self.above_in(key);
                    self.text(", ");
                }
                self.above_in(value);
                self.text(" in ");
                self.above_in(collection);
            }
            StmtKind::Every { key, value, domain, body } => {
                self.text("every ");
                if let Some(key) = key {
                    self.term(key, false);
                    self.text(", ");
                }
                self.term(value, false);
                self.text(" in ");
                self.above_in(domain);
                self.text(" ");
                let head = self.last(domain.loc);
                let closing = self.closing_line(loc, body);
                if closing == head {
                    self.text("{ ");
                    self.joined(body);
                    self.text(" }");
                } else {
                    self.braced(body, head, closing);
                }
            }
        }
    }

    fn joined(&mut self, body: &[Stmt]) {
        for (index, statement) in body.iter().enumerate() {
            if index > 0 {
                self.text("; ");
            }
            self.statement(statement);
        }
    }

    fn inline(&mut self, terms: &[Term]) {
        for (index, term) in terms.iter().enumerate() {
            if index > 0 {
                self.text(", ");
            }
            self.member(term);
        }
    }

    /// A member of a list: a pair with `in` needs brackets there.
    fn member(&mut self, term: &Term) {
        let pair = matches!(term.kind, TermKind::In(Some(_), ..));
        self.brackets(term, pair);
    }

    /// The first member of a literal, where `|` would begin a comprehension.
    fn first(&mut self, term: &Term) {
        let union = matches!(term.kind, TermKind::Infix(Op::Or, ..) | TermKind::In(Some(_), ..));
        self.brackets(term, union);
    }

    fn brackets(&mut self, term: &Term, brackets: bool) {
        if brackets {
            self.text("(");
        }
        self.term(term, false);
        if brackets {
            self.text(")");
        }
    }

    fn above_in(&mut self, term: &Term) {
        self.brackets(term, matches!(term.kind, TermKind::In(..)));
    }

    fn args(&mut self, args: &[Arg]) {
        for arg in args {
            match arg {
                Arg::Dot(name, _) => self.key(name),
                Arg::Bracket(term) => {
                    self.text("[");
                    self.term(term, false);
                    self.text("]");
                }
            }
        }
    }

    /// The rest of a list after its opening bracket at the end of `open`; `whole` ends with the closing one.
    fn list(&mut self, items: &[Term], close: &str, open: Loc, whole: Loc) {
        self.entries(
            items,
            close,
            open,
            whole,
            |_, item| item.loc,
            |writer, index, item| {
                if index == 0 && close != ")" { writer.first(item) } else { writer.member(item) }
            },
        );
    }

    fn entries<T>(
        &mut self,
        items: &[T],
        close: &str,
        open: Loc,
        whole: Loc,
        loc: impl Fn(&Self, &T) -> Loc,
        mut write: impl FnMut(&mut Self, usize, &T),
    ) {
        let start = self.last(open);
        let last = items.last().map_or(start, |item| self.last(loc(self, item)));
        let breaks = {
            let mut line = start;
            items.iter().any(|item| {
                let place = loc(self, item);
                let breaks = self.line_of(place.start) != line;
                line = self.last(place);
                breaks
            })
        };
        if !breaks {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    self.text(", ");
                }
                write(self, index, item);
            }
            self.text(close);
            return;
        }
        self.behind(start);
        self.indent += 1;
        let mut line = None;
        for (index, item) in items.iter().enumerate() {
            let place = loc(self, item);
            let at = self.line_of(place.start);
            if line == Some(at) {
                self.text(" ");
            } else {
                self.line();
                self.above(at, true);
            }
            write(self, index, item);
            self.text(",");
            let end = self.last(place);
            if items.get(index + 1).is_none_or(|next| self.line_of(loc(self, next).start) != end) {
                self.behind(end);
            }
            line = Some(end);
        }
        let end = self.last(whole);
        if self.next_comment().is_some_and(|c| c.loc.line > last && c.loc.line < end) {
            self.line();
            self.above(end, true);
            let end = self.out.trim_end().len();
            self.out.truncate(end);
        }
        self.indent -= 1;
        self.line();
        self.text(close);
    }

    fn term(&mut self, term: &Term, nested: bool) {
        match &term.kind {
            TermKind::Null => self.text("null"),
            TermKind::Bool(value) => self.text(if *value { "true" } else { "false" }),
            TermKind::Number(_) | TermKind::String(_) | TermKind::Template(_) => self.written(term),
            TermKind::Var(name) => self.text(name),
            TermKind::Ref(head, args) => {
                self.term(head, true);
                self.args(args);
            }
            TermKind::Call(function, args) => {
                self.term(function, false);
                self.text("(");
                self.list(args, ")", function.loc, term.loc);
            }
            TermKind::Array(items) => {
                self.text("[");
                self.list(items, "]", Loc { end: term.loc.start + 1, ..term.loc }, term.loc);
            }
            TermKind::Set(items) if items.is_empty() => self.text("set()"),
            TermKind::Set(items) => {
                self.text("{");
                self.list(items, "}", Loc { end: term.loc.start + 1, ..term.loc }, term.loc);
            }
            TermKind::Object(items) => {
                self.text("{");
                let open = Loc { end: term.loc.start + 1, ..term.loc };
                self.entries(
                    items,
                    "}",
                    open,
                    term.loc,
                    |_, (key, value)| key.loc.to(value.loc),
                    |writer, _, (key, value)| {
                        writer.first(key);
                        writer.text(": ");
                        writer.first(value);
                    },
                );
            }
            TermKind::ArrayCompr(head, body) => self.comprehension("[", &[head], body, "]", term.loc),
            TermKind::SetCompr(head, body) => self.comprehension("{", &[head], body, "}", term.loc),
            TermKind::ObjectCompr(key, value, body) => self.comprehension("{", &[key, value], body, "}", term.loc),
            TermKind::Infix(op, left, right) => {
                if nested {
                    self.text("(");
                }
                self.term(left, true);
                self.text(&format!(" {op} "));
                self.term(right, true);
                if nested {
                    self.text(")");
                }
            }
            TermKind::In(key, value, collection) => {
                if nested {
                    self.text("(");
                }
                if let Some(key) = key {
                    self.above_in(key);
                    self.text(", ");
                    self.above_in(value);
                } else {
                    // A chain of `in` reads from the left.
                    self.brackets(value, matches!(value.kind, TermKind::In(Some(_), ..)));
                }
                self.text(" in ");
                self.above_in(collection);
                if nested {
                    self.text(")");
                }
            }
        }
    }

    /// As the author wrote it; brackets around it are not part of it.
    fn written(&mut self, term: &Term) {
        let source = self.source;
        let text = source.text[term.loc.range()].trim_start_matches('(').trim();
        match &term.kind {
            // The place of a number in brackets is that of the brackets.
            TermKind::Number(number) => self.text(number),
            TermKind::String(value)
                if !text.starts_with(['"', '`']) || !source.text[term.loc.range()].starts_with(['"', '`']) =>
            {
                self.text(&quoted(value));
            }
            TermKind::Template(_) if !source.text[term.loc.range()].starts_with('$') => {
                self.text(&super::print::term(term));
            }
            _ => self.text(text),
        }
    }

    fn comprehension(&mut self, open: &str, heads: &[&Term], body: &[Stmt], close: &str, loc: Loc) {
        self.text(open);
        for (index, head) in heads.iter().enumerate() {
            if index > 0 {
                self.text(": ");
            }
            self.brackets(head, matches!(head.kind, TermKind::Infix(..) | TermKind::In(..)));
        }
        self.text(" |");
        let start = heads.last().map_or(loc.line, |head| self.last(head.loc));
        let end = self.last(loc);
        let breaks = body.iter().any(|statement| statement.loc.line != start);
        if breaks {
            self.behind(start);
            self.indent += 1;
            self.statements(body, end);
            self.indent -= 1;
            self.line();
        } else {
            self.text(" ");
            self.joined(body);
        }
        self.text(close);
    }
}

/// What a term begins with.
fn leftmost(term: &Term) -> &Term {
    match &term.kind {
        TermKind::Infix(_, left, _) | TermKind::In(Some(left), ..) | TermKind::In(None, left, _) => leftmost(left),
        TermKind::Ref(head, _) => leftmost(head),
        _ => term,
    }
}

fn strength(term: &Term) -> u8 {
    match &term.kind {
        TermKind::Infix(op, ..) => op.strength(),
        TermKind::In(..) => 0,
        _ => u8::MAX,
    }
}

/// A statement that begins with a brace, as a body would; only an object cannot be taken for one.
fn begins_like_a_body(statement: &Stmt) -> bool {
    match &statement.kind {
        StmtKind::Expr(term) | StmtKind::Unify(term, _) | StmtKind::Assign(term, _) => {
            let term = leftmost(term);
            let object = matches!(&term.kind, TermKind::Object(items) if !items.is_empty())
                || matches!(term.kind, TermKind::ObjectCompr(..));
            !object && matches!(term.kind, TermKind::Set(_) | TermKind::SetCompr(..) | TermKind::Object(_))
        }
        _ => false,
    }
}

fn within(inner: Loc, outer: Loc) -> bool {
    inner.start >= outer.start && inner.end <= outer.end
}
