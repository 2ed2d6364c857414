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
    pub variables: &'a Variables,
    pub workspace: Value,
    /// Directory of the root module.
    pub root: &'a str,
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
        Self { tree, module, variables, workspace, root, locals: RefCell::default() }
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
            ("var", name) => Some(
                self.variables
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| Value::unknown(format!("variable `{name}` has no value here"))),
            ),
            ("local", name) => {
                match self.locals.borrow().get(name) {
                    Some(Some(value)) => return Some(value.clone()),
                    Some(None) => return Some(Value::unknown(format!("local `{name}` refers to itself"))),
                    None => {}
                }
                let Some((_, expr)) = self.module.locals.get(name) else {
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
