//! Going through trees.

use super::tree::*;

/// Calls `f` with every term of a body, outer ones first.
pub fn body<'t>(statements: &'t [Stmt], f: &mut dyn FnMut(&'t Term)) {
    for statement in statements {
        kind(&statement.kind, f);
        for with in &statement.withs {
            term(&with.target, f);
            term(&with.value, f);
        }
    }
}

fn kind<'t>(statement: &'t StmtKind, f: &mut dyn FnMut(&'t Term)) {
    match statement {
        StmtKind::Expr(one) => term(one, f),
        StmtKind::Unify(left, right) | StmtKind::Assign(left, right) => {
            term(left, f);
            term(right, f);
        }
        StmtKind::Not(inner) => kind(inner, f),
        StmtKind::Some(names) => names.iter().for_each(|name| term(name, f)),
        StmtKind::SomeIn { key, value, collection } => {
            key.iter().for_each(|key| term(key, f));
            term(value, f);
            term(collection, f);
        }
        StmtKind::Every { key, value, domain, body: inner } => {
            key.iter().for_each(|key| term(key, f));
            term(value, f);
            term(domain, f);
            body(inner, f);
        }
    }
}

/// Calls `f` with a term and every term inside it, outer ones first.
pub fn term<'t>(one: &'t Term, f: &mut dyn FnMut(&'t Term)) {
    f(one);
    match &one.kind {
        TermKind::Null | TermKind::Bool(_) | TermKind::Number(_) | TermKind::String(_) | TermKind::Var(_) => {}
        TermKind::Template(parts) => parts.iter().for_each(|part| {
            if let Part::Term(inner, withs) = part {
                term(inner, f);
                for with in withs {
                    term(&with.target, f);
                    term(&with.value, f);
                }
            }
        }),
        TermKind::Ref(head, path) => {
            term(head, f);
            args(path, f);
        }
        TermKind::Call(function, operands) => {
            term(function, f);
            operands.iter().for_each(|operand| term(operand, f));
        }
        TermKind::Array(items) | TermKind::Set(items) => items.iter().for_each(|item| term(item, f)),
        TermKind::Object(items) => items.iter().for_each(|(key, value)| {
            term(key, f);
            term(value, f);
        }),
        TermKind::ArrayCompr(head, inner) | TermKind::SetCompr(head, inner) => {
            term(head, f);
            body(inner, f);
        }
        TermKind::ObjectCompr(key, value, inner) => {
            term(key, f);
            term(value, f);
            body(inner, f);
        }
        TermKind::Infix(_, left, right) => {
            term(left, f);
            term(right, f);
        }
        TermKind::In(key, value, collection) => {
            key.iter().for_each(|key| term(key, f));
            term(value, f);
            term(collection, f);
        }
    }
}

fn args<'t>(path: &'t [Arg], f: &mut dyn FnMut(&'t Term)) {
    for arg in path {
        if let Arg::Bracket(key) = arg {
            term(key, f);
        }
    }
}

/// Calls `f` with every term of a rule.
pub fn rule<'t>(rule: &'t Rule, f: &mut dyn FnMut(&'t Term)) {
    args(&rule.head.path, f);
    let head = &rule.head;
    head.params.iter().flatten().chain(&head.key).chain(&head.value).for_each(|one| term(one, f));
    body(rule.body.as_deref().unwrap_or_default(), f);
    for other in &rule.elses {
        other.value.iter().for_each(|value| term(value, f));
        body(other.body.as_deref().unwrap_or_default(), f);
    }
}

/// Calls `f` with every `with` of a rule, also inside its terms.
pub fn withs<'t>(one: &'t Rule, f: &mut dyn FnMut(&'t With)) {
    fn of<'t>(statements: &'t [Stmt], f: &mut dyn FnMut(&'t With)) {
        for statement in statements {
            statement.withs.iter().for_each(&mut *f);
            if let StmtKind::Every { body, .. } = &statement.kind {
                of(body, f);
            }
        }
    }
    let mut bodies: Vec<&'t [Stmt]> = one.body.iter().map(Vec::as_slice).collect();
    bodies.extend(one.elses.iter().filter_map(|other| other.body.as_deref()));
    for statements in &bodies {
        of(statements, f);
    }
    rule(one, &mut |term| match &term.kind {
        TermKind::ArrayCompr(_, inner) | TermKind::SetCompr(_, inner) | TermKind::ObjectCompr(_, _, inner) => {
            of(inner, f);
        }
        TermKind::Template(parts) => parts.iter().for_each(|part| {
            if let Part::Term(_, withs) = part {
                withs.iter().for_each(&mut *f);
            }
        }),
        _ => {}
    });
}

/// Calls `f` with the bodies of the comprehensions of a term; those inside them are left to `f`.
pub fn closures(one: &mut Term, f: &mut dyn FnMut(&mut Vec<Stmt>)) {
    match &mut one.kind {
        TermKind::Null | TermKind::Bool(_) | TermKind::Number(_) | TermKind::String(_) | TermKind::Var(_) => {}
        TermKind::Template(parts) => parts.iter_mut().for_each(|part| {
            if let Part::Term(inner, withs) = part {
                closures(inner, f);
                withs.iter_mut().for_each(|with| closures(&mut with.value, f));
            }
        }),
        TermKind::Ref(head, path) => {
            closures(head, f);
            for arg in path {
                if let Arg::Bracket(key) = arg {
                    closures(key, f);
                }
            }
        }
        TermKind::Call(_, items) | TermKind::Array(items) | TermKind::Set(items) => {
            items.iter_mut().for_each(|item| closures(item, f));
        }
        TermKind::Object(items) => items.iter_mut().for_each(|(key, value)| {
            closures(key, f);
            closures(value, f);
        }),
        TermKind::ArrayCompr(head, inner) | TermKind::SetCompr(head, inner) => {
            closures(head, f);
            f(inner);
        }
        TermKind::ObjectCompr(key, value, inner) => {
            closures(key, f);
            closures(value, f);
            f(inner);
        }
        TermKind::Infix(_, left, right) => {
            closures(left, f);
            closures(right, f);
        }
        TermKind::In(key, value, collection) => {
            key.iter_mut().for_each(|key| closures(key, f));
            closures(value, f);
            closures(collection, f);
        }
    }
}

/// The same for a statement; the body of `every` is one, too.
pub fn statement_closures(statement: &mut Stmt, f: &mut dyn FnMut(&mut Vec<Stmt>)) {
    fn of(kind: &mut StmtKind, f: &mut dyn FnMut(&mut Vec<Stmt>)) {
        match kind {
            StmtKind::Expr(one) => closures(one, f),
            StmtKind::Unify(left, right) | StmtKind::Assign(left, right) => {
                closures(left, f);
                closures(right, f);
            }
            StmtKind::Not(inner) => of(inner, f),
            StmtKind::Some(_) => {}
            StmtKind::SomeIn { key, value, collection } => {
                key.iter_mut().for_each(|key| closures(key, f));
                closures(value, f);
                closures(collection, f);
            }
            StmtKind::Every { domain, body, .. } => {
                closures(domain, f);
                f(body);
            }
        }
    }
    of(&mut statement.kind, f);
    statement.withs.iter_mut().for_each(|with| closures(&mut with.value, f));
}
