//! What adapters share whose forge takes one token with every request.

use super::ForgeError;
use super::api::{Api, Call, array, next_link};
use super::settings::{Account, Address};
use crate::client::Answer;
use serde_json::Value;
use std::cell::Cell;
use std::path::Path;
use ureq::http::Method;

/// A repository at a forge, with a token.
pub(super) struct Access {
    pub api: Api,
    /// Path of the repository below the address of the API.
    pub repository: String,
    account: Account,
    /// The header that a token is sent in.
    authorization: fn(&str) -> String,
}

impl Access {
    pub fn new(
        address: &Address,
        repository: String,
        account: Account,
        authorization: fn(&str) -> String,
        roots: Option<&Path>,
    ) -> Result<Self, ForgeError> {
        Ok(Self { api: Api::new(address, roots)?, repository, account, authorization })
    }

    fn allowed<T>(&self, ask: impl FnOnce(&[(&str, &str)]) -> Result<T, ForgeError>) -> Result<T, ForgeError> {
        ask(&[("authorization", &(self.authorization)(&self.account.token()?))])
    }

    /// A path of the repository.
    pub fn at(&self, path: impl AsRef<str>) -> String {
        format!("{}{}", self.repository, path.as_ref())
    }

    /// Whatever is answered to a question, where it is not about us.
    pub fn ask(&self, path: &str, what: &str) -> Result<Answer, ForgeError> {
        self.allowed(|headers| self.api.ask(&Call::get(path, what, headers)))
    }

    /// `None` where there is none.
    pub fn get(&self, path: &str, what: &str) -> Result<Option<Value>, ForgeError> {
        let answer = self.ask(path, what)?;
        match answer.status {
            404 => Ok(None),
            _ => self.api.taken(what, &answer).map(Some),
        }
    }

    /// Whatever is answered to a request that changes something.
    pub fn send(&self, method: Method, path: &str, body: Option<&Value>, what: &str) -> Result<Answer, ForgeError> {
        self.allowed(|headers| self.api.ask(&Call::send(method, path, body, what, headers).creates()))
    }

    /// Entries of a list up to the first that is not wanted. `path` has a query; its pages have numbers, and the header `Link`
    /// tells whether there is another one: where it leads may be an address that is not known here.
    pub fn numbered(
        &self,
        path: &str,
        what: &str,
        entries: impl Fn(Value) -> Option<Vec<Value>>,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Option<Vec<Value>>, ForgeError> {
        let page = Cell::new(1_u64);
        let next = |answer: &Answer, _: &Value| {
            next_link(answer)?;
            page.set(page.get() + 1);
            Some(format!("{path}&page={}", page.get()))
        };
        self.allowed(|headers| self.api.pages(&Call::get(path, what, headers), next, entries, wanted))
    }

    /// Entries of a list of the repository, as [`Self::numbered`].
    pub fn list(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>, ForgeError> {
        let found = self.numbered(&self.at(path), what, array, wanted)?;
        found.ok_or_else(|| self.hidden(what))
    }

    /// Entries of a list whose pages lead to the next as `next` finds; `None` where its first page is not found.
    pub fn linked(
        &self,
        path: &str,
        what: &str,
        next: impl Fn(&Answer, &Value) -> Option<String>,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Option<Vec<Value>>, ForgeError> {
        let values = |mut body: Value| array(body["values"].take());
        self.allowed(|headers| self.api.pages(&Call::get(path, what, headers), next, values, wanted))
    }

    /// That something is not there is believed of a repository that is shown to us: one that is not answers the same.
    pub fn must_see(&self, what: &str) -> Result<(), ForgeError> {
        match self.get(&self.repository, what)? {
            Some(_) => Ok(()),
            None => Err(self.api.forbidden(what, "the repository is not there, or not shown to us")),
        }
    }

    pub fn hidden(&self, what: &str) -> ForgeError {
        self.api.forbidden(what, "there is none, or it is not shown to us")
    }
}
