//! A base that moved, and heads that did.

use super::look::{Looker, Moved, Stop};
use crate::affected::affected_find;
use crate::error::{AppResult, internal};
use crate::project::{Checkout, Detail};
use crate::repositories::News;
use std::collections::BTreeSet;
use std::sync::Arc;
use windlass_lang::definitions::is_windlass_file;
use windlass_model::change::{ChangeFilter, ChangeState};

/// Where it is kept up to which commit of the base changes know of it.
const BASE: &str = "base";
/// How many open changes are asked for at once.
const BATCH: u32 = 200;
const OPEN: ChangeFilter = ChangeFilter::In(ChangeState::Open);
/// Answers that are remembered.
const REMEMBERED: usize = 200;

impl Looker {
    /// What moved in the base between two of its commits is about these instances.
    pub async fn moved_between(&self, project: &str, old: &str, new: &str) -> Result<Moved, Stop> {
        let key = (project.to_owned(), old.to_owned(), new.to_owned());
        if let Some(known) = self.moved().get(&key) {
            return Ok(known.clone());
        }
        let Some(mirror) = self.installation.followed.mirror(project) else { return Ok(None) };
        let (from, to) = (old.to_owned(), new.to_owned());
        let find = move || {
            let checkout = Checkout::of_commits(mirror.commits());
            affected_find(&checkout, Some(&from), Some(&to), Detail::Edges)
        };
        let moved = match tokio::task::spawn_blocking(find).await.map_err(internal)? {
            // Definitions and policies decide about everything.
            Ok(answer) if answer.changes.iter().any(|change| is_windlass_file(&change.path)) => None,
            // Forced to somewhere else.
            Ok(answer) if answer.base.commit != old => None,
            Ok(answer) => {
                let found: BTreeSet<_> = answer.affected.into_iter().map(|affected| affected.instance).collect();
                Some(Arc::new(found))
            }
            // What cannot be compared may be about anything.
            Err(_) => None,
        };
        let mut known = self.moved();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, moved.clone());
        Ok(moved)
    }

    /// Has the open changes looked at whose review reads or touches what moved in the base since this was asked last.
    pub async fn base_moved(&self, project: &str) -> AppResult<()> {
        let Ok(good) = self.installation.good(project) else { return Ok(()) };
        let store = self.installation.common.store.of_project(project);
        let known = store.kv_get(super::SCOPE, BASE).await?;
        let known = match known {
            Some(known) if known == good.commit => return Ok(()),
            Some(known) => known,
            None => return Ok(store.kv_set(super::SCOPE, BASE, &good.commit).await?),
        };
        // What moved before that is done with: it is enough to compare once, however many changes there are.
        let moved = self.moved_between(project, &known, &good.commit).await.unwrap_or_default();
        let mut before = None;
        loop {
            let rows = store.change_list(Some(OPEN), before, BATCH).await?;
            let Some(last) = rows.last().map(|row| row.number) else { break };
            before = Some(last);
            for row in rows {
                let Some(review) = row.known.review.as_ref().filter(|review| review.base != good.commit) else {
                    continue;
                };
                let touched = match &moved {
                    // What cannot be compared may matter.
                    None => true,
                    Some(moved) if moved.is_empty() => false,
                    // While it is planned the look at its end asks.
                    Some(moved) => store
                        .review_get(&review.run)
                        .await?
                        .is_some_and(|found| found.review.stacks.iter().any(|stack| moved.contains(&stack.instance))),
                };
                if touched {
                    store.change_due(row.number, None).await?;
                }
            }
        }
        Ok(store.kv_set(super::SCOPE, BASE, &good.commit).await?)
    }

    /// Has the changes looked at whose branches a fetch found to have moved.
    pub async fn heads_moved(&self, news: &News) -> AppResult<()> {
        if news.first || !self.forges.projects().contains(&news.repository) {
            return Ok(());
        }
        let branches = news
            .moved
            .iter()
            .filter_map(|moved| Some((moved.name.strip_prefix("refs/heads/")?.to_owned(), moved.new.clone())));
        let store = self.installation.common.store.of_project(&news.repository);
        store.change_pushed(branches.collect()).await?;
        Ok(())
    }
}
