//! Names as a module sees them.

use crate::eval::{Scope, Value, evaluate};
use crate::terraform::module::Module;
use crate::terraform::syntax::{Body, Expr};
use crate::tree::{Tree, join};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// `path.module`, `path.root` and `path.cwd` evaluate to these, so that a path can be told to be relative to the module or to
/// the root whoever calls.
pub const MODULE_MARK: &str = "\u{1}M";
pub const ROOT_MARK: &str = "\u{1}R";

/// Values of the variables of one module call or instance.
pub type Variables = BTreeMap<String, Value>;

pub struct ModuleScope<'a> {
    pub tree: &'a dyn Tree,
    pub module: &'a Module,
    /// Values that are given; the others have their defaults.
    pub variables: &'a Variables,
    pub workspace: Value,
    /// Directory of the root module.
    pub root: &'a str,
    /// Without a caller nothing is known of the variables.
    caller: bool,
    locals: RefCell<HashMap<String, Option<Value>>>,
}

impl<'a> ModuleScope<'a> {
    pub fn new(
        tree: &'a dyn Tree,
        module: &'a Module,
        variables: &'a Variables,
        workspace: Value,
        root: &'a str,
    ) -> Self {
        Self { tree, module, variables, workspace, root, caller: true, locals: RefCell::default() }
    }

    /// The module whoever calls it: its variables are not known.
    pub fn of_any_caller(tree: &'a dyn Tree, module: &'a Module, variables: &'a Variables) -> Self {
        let workspace = Value::unknown("the workspace is the caller's");
        Self { caller: false, ..Self::new(tree, module, variables, workspace, &module.directory) }
    }

    fn variable(&self, name: &str) -> Value {
        if let Some(value) = self.variables.get(name) {
            return value.clone();
        }
        let Some(item) = self.module.variables.get(name).filter(|_| self.caller) else {
            return Value::unknown(format!("variable `{name}` has no value here"));
        };
        match self.module.value(item, "default") {
            Some(default) => evaluate(&default, &Nothing),
            None if *self.module.directory == *self.root => {
                Value::unknown(format!("variable `{name}` is required and has no value in the repository"))
            }
            None => Value::unknown(format!("variable `{name}` is not given by its caller")),
        }
    }

    pub fn eval(&self, expr: &Expr) -> Value {
        evaluate(expr, self)
    }

    /// A path as written, relative to the repository; `None` when it leaves the repository.
    pub fn repository_path(&self, path: &str) -> Option<String> {
        repository_path(path, &self.module.directory, self.root)
    }

    /// Attributes and single nested blocks as one object; the marks in texts become real relative paths.
    pub fn config(&self, body: &Body) -> BTreeMap<String, Value> {
        let mut out: BTreeMap<String, Value> =
            body.attributes.iter().map(|a| (a.name.clone(), self.plain(self.eval(&a.value)))).collect();
        for block in &body.blocks {
            out.insert(block.kind.clone(), Value::Object(self.config(&block.body)));
        }
        out
    }

    /// Replaces the marks by paths relative to the root module.
    pub fn plain(&self, value: Value) -> Value {
        match value {
            Value::String(text) if text.contains('\u{1}') => {
                let up = "../".repeat(self.root.split('/').filter(|s| !s.is_empty()).count());
                let module = if *self.module.directory == *self.root {
                    ".".to_owned()
                } else {
                    format!("{up}{}", self.module.directory)
                };
                Value::string(text.replace(MODULE_MARK, &module).replace(ROOT_MARK, "."))
            }
            Value::List(items) => Value::List(items.into_iter().map(|v| self.plain(v)).collect()),
            Value::Object(object) => Value::Object(object.into_iter().map(|(k, v)| (k, self.plain(v))).collect()),
            other => other,
        }
    }
}

/// See [`ModuleScope::repository_path`].
pub fn repository_path(path: &str, module: &str, root: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix(MODULE_MARK) {
        return join(module, rest.trim_start_matches('/'));
    }
    join(root, path.strip_prefix(ROOT_MARK).map_or(path, |rest| rest.trim_start_matches('/')))
}

impl Scope for ModuleScope<'_> {
    fn lookup(&self, root: &str, name: Option<&str>) -> Option<Value> {
        match (root, name?) {
            ("var", name) => Some(self.variable(name)),
            ("local", name) => {
                match self.locals.borrow().get(name) {
                    Some(Some(value)) => return Some(value.clone()),
                    Some(None) => return Some(Value::unknown(format!("local `{name}` refers to itself"))),
                    None => {}
                }
                let Some(expr) = self.module.local(name) else {
                    return Some(Value::unknown(format!("there is no local `{name}`")));
                };
                self.locals.borrow_mut().insert(name.to_owned(), None);
                let value = evaluate(expr, self);
                self.locals.borrow_mut().insert(name.to_owned(), Some(value.clone()));
                Some(value)
            }
            ("path", "module") => Some(Value::string(MODULE_MARK)),
            ("path", "root" | "cwd") => Some(Value::string(ROOT_MARK)),
            ("terraform" | "tofu", "workspace") => Some(self.workspace.clone()),
            _ => None,
        }
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let path = self.repository_path(path)?;
        let (path, _) = crate::tree::resolve(self.tree, &path)?;
        self.tree.read(&path).ok().flatten()
    }
}

/// A scope without names, for variable files and defaults.
pub struct Nothing;

impl Scope for Nothing {
    fn lookup(&self, _: &str, _: Option<&str>) -> Option<Value> {
        None
    }
    fn file(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}
