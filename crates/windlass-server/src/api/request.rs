//! What requests carry, read so that a mistake is answered like every other one: by a problem document.

use crate::problem::Failure;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};
use windlass_app::error::{AppError, ErrorKind};
use windlass_model::diagnostic::Diagnostic;

/// How many things a page of a list has when it is not said, and at most.
const PAGE: u32 = 50;
const PAGE_MOST: u32 = 500;

/// A request that makes no sense; `what` says why.
pub fn nonsense(what: impl std::fmt::Display) -> Failure {
    let diagnostic = Diagnostic::error("WL870", format!("the request makes no sense: {what}"))
        .help("`GET /api/v1/openapi.json` says what each request takes");
    Failure(AppError::new(ErrorKind::Usage, diagnostic))
}

/// A body of JSON; where there is none, as if it was `{}`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(nonsense)?;
        let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| nonsense(format!("its body cannot be read: {error}")))
    }
}

/// What stands behind the `?`.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(query)| Self(query)).map_err(|error| nonsense(error.body_text()))
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paged {
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many at most; 50 otherwise, 500 at most.
    pub limit: Option<u32>,
}

/// How many are meant by a limit that is asked for.
pub fn limit(asked: Option<u32>) -> u32 {
    asked.unwrap_or(PAGE).clamp(1, PAGE_MOST)
}

/// How a list is read on.
#[derive(Debug, Clone, serde::Serialize, ToSchema)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// `cursor` of the next page; `null` at the end.
    pub next: Option<String>,
}

impl<T> Listed<T> {
    /// The page of a whole list that `paged` asks for, in the order of the items' keys, which say where it is read on: what
    /// comes and goes meanwhile makes nothing else be left out or come twice.
    pub fn page(mut items: Vec<T>, paged: &Paged, key: impl Fn(&T) -> String) -> Self {
        items.sort_by_cached_key(&key);
        if let Some(cursor) = &paged.cursor {
            items.retain(|item| key(item) > *cursor);
        }
        let limit = limit(paged.limit) as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }

    /// A page that was read as such: it is the last one when it is not full.
    pub fn read(items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let next = items.last().filter(|_| items.len() >= limit as usize).map(key);
        Self { items, next }
    }

    pub fn map<U>(self, change: impl Fn(T) -> U) -> Listed<U> {
        Listed { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_changes_is_read_on_where_it_was() {
        let page = |items: &[&str], cursor: Option<&str>, limit: u32| {
            let paged = Paged { cursor: cursor.map(str::to_owned), limit: Some(limit) };
            let listed =
                Listed::page(items.iter().map(|item| (*item).to_owned()).collect(), &paged, |item| item.clone());
            (listed.items.join(" "), listed.next)
        };
        #[track_caller]
        fn check(got: (String, Option<String>), items: &str, next: Option<&str>) {
            assert_eq!((got.0.as_str(), got.1.as_deref()), (items, next));
        }
        check(page(&["c", "a", "b"], None, 2), "a b", Some("b"));
        check(page(&["c", "a", "b"], Some("b"), 2), "c", None);
        // One came before, and the one that was read last went away.
        check(page(&["c", "a", "aa"], Some("b"), 2), "c", None);
        check(page(&["a", "b"], None, 2), "a b", None);
        check(page(&[], Some("z"), 2), "", None);
        check(page(&["a", "b"], None, 0), "a", Some("a"));
    }
}
