//! What the record says of a change.

use super::look::{Look, Stop};
use crate::service::Service;
use windlass_model::change::plan::{Applied, EnvironmentNow, Of, Record, ReviewNow, Reviewed, Row, Stage, Stand};
use windlass_model::change::settings::ApplyWhen;
use windlass_model::definition::Definitions;
use windlass_model::effect::Action;
use windlass_model::id::RunId;
use windlass_model::review::{Level, Outcome, Review, StackReview};
use windlass_model::run::RunState;
use windlass_store::changes::looked;
use windlass_store::{ReviewRow, ReviewState, StoreError};

impl Look {
    pub fn service(&self) -> Result<Service, Stop> {
        Ok(self.looker.installation.service(&self.itself, &self.project)?)
    }

    /// Reads what the record says, and remembers what of it is to be followed.
    pub async fn record(&mut self) -> Result<Record, Stop> {
        let installation = self.looker.installation.clone();
        let good = installation.good(&self.project)?;
        let status = installation.followed.status(&self.project);
        let branch = status.as_ref().and_then(|status| status.branch.clone()).unwrap_or_default();
        let definitions = &good.deciding.definitions;
        let mut record = Record {
            settings: definitions.changes.clone(),
            base: good.commit.clone(),
            followed: branch == self.seen.change.base,
            ..Record::default()
        };
        let service = self.service()?;
        let mut states = (None, None, 0);
        if let Some(review) = self.known.review.clone().filter(|r| matches!(r.stage, Stage::Wanted | Stage::Made)) {
            let row = crate::waivers::review_get(&service, &review.run).await?;
            states.1 = row.as_ref().map(|row| row.state.as_str());
            states.2 = self.store.approval_list(&review.run).await?.len();
            self.adopt(&review, row.as_ref()).await?;
            if let Some(run) = self.state_of(&review.run).await? {
                states.0 = Some(run.as_str());
                let row = match &row {
                    Some(row) => Some(self.row(&service, definitions, row).await?),
                    None => None,
                };
                record.review = Some(ReviewNow { run, row });
            }
        }
        let mut followed = self.known.review.as_ref().map(|review| review.run.clone());
        if let Some(apply) = &self.known.apply {
            record.apply = self.state_of(&apply.run).await?;
            if let Some(state) = record.apply.filter(|state| !state.is_final()) {
                (states.0, followed) = (Some(state.as_str()), Some(apply.run.clone()));
            }
        }
        if let Some(row) = record.review.as_ref().and_then(|review| review.row.as_ref()) {
            record.before = self.store.place_before(self.number, &row.instances).await?;
        }
        record.moved = self.is_moved(&record).await?;
        self.follow.run = followed;
        self.follow.review = self.known.review.as_ref().map(|review| review.run.clone());
        self.follow.looked = looked(states.0, states.1, states.2);
        Ok(record)
    }

    async fn state_of(&self, run: &RunId) -> Result<Option<RunState>, Stop> {
        match self.store.run_planned(run).await {
            Ok(record) => Ok(Some(record.state)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// An apply that somebody began elsewhere is one of the change as well.
    async fn adopt(&mut self, review: &Reviewed, row: Option<&ReviewRow>) -> Result<(), Stop> {
        let applied = row.is_some_and(|row| matches!(row.state, ReviewState::Applying | ReviewState::Applied));
        if !applied || self.known.apply.as_ref().is_some_and(|apply| apply.review == review.run) {
            return Ok(());
        }
        if let Some(run) = self.store.apply_of(&review.run).await? {
            self.known.apply = Some(Applied {
                run,
                review: review.run.clone(),
                of: review.of,
                commit: review.commit.clone(),
                whole: review.only.is_empty(),
                by: None,
                comment: None,
            });
        }
        Ok(())
    }

    async fn row(&self, service: &Service, definitions: &Definitions, row: &ReviewRow) -> Result<Row, Stop> {
        let review = &row.review;
        let stand = match row.state {
            ReviewState::Open | ReviewState::Approved => Stand::Open,
            ReviewState::Applying => Stand::Applying,
            ReviewState::Applied => Stand::Applied,
            ReviewState::Superseded => Stand::Superseded,
            ReviewState::Refused => Stand::Refused,
        };
        let missing = match stand {
            Stand::Open => crate::apply::review_missing(service, review).await?,
            _ => Vec::new(),
        };
        let changed = review.stacks.iter().filter(|stack| is_changed(stack));
        let when = changed.clone().map(|stack| when(definitions, stack)).max();
        Ok(Row {
            stand,
            verdict: review.verdict,
            commit: review.head.commit.clone(),
            effect: review.effect_digest.clone(),
            policy: review.policy_digest.clone(),
            when: when.unwrap_or(definitions.changes.apply),
            instances: changed.map(|stack| stack.instance.clone()).collect(),
            destroys: review.stacks.iter().any(destroys),
            environments: environments(definitions, review, &missing),
            missing,
        })
    }

    /// Whether what moved in the base matters; where it does not, that is remembered.
    async fn is_moved(&mut self, record: &Record) -> Result<bool, Stop> {
        let Some(review) = self.known.review.clone().filter(|review| review.of == Of::Head) else { return Ok(false) };
        if review.base == record.base || review.stage != Stage::Made || !record.followed {
            return Ok(false);
        }
        let Some(now) = record.review.as_ref().filter(|now| now.row.is_some()) else { return Ok(false) };
        let moved = self.looker.moved_between(&self.project, &review.base, &record.base).await?;
        let policies = self.looker.installation.good(&self.project)?.deciding.policies.digest.clone();
        let matters = match &moved {
            None => true,
            _ if now.row.as_ref().is_some_and(|row| row.policy != policies) => true,
            Some(moved) => {
                let row = self.store.review_get(&review.run).await?;
                row.is_some_and(|row| row.review.stacks.iter().any(|stack| moved.contains(&stack.instance)))
            }
        };
        if !matters && let Some(review) = &mut self.known.review {
            review.base = record.base.clone();
        }
        Ok(matters)
    }
}

fn is_changed(stack: &StackReview) -> bool {
    stack.outcome.effect().is_some_and(|effect| !effect.is_empty())
        || matches!(stack.outcome, Outcome::Preview { .. } | Outcome::Failed { .. })
}

fn destroys(stack: &StackReview) -> bool {
    let lost = |action| matches!(action, Action::Destroy | Action::Replace | Action::ReplaceCreateFirst);
    stack.outcome.effect().is_some_and(|effect| effect.changes.iter().any(|change| lost(change.action)))
}

/// When something of an instance is applied: as late as any of its environments asks for.
fn when(definitions: &Definitions, stack: &StackReview) -> ApplyWhen {
    let own = definitions.environments.iter().filter(|environment| stack.environments.contains(&environment.name));
    own.filter_map(|environment| environment.apply).max().unwrap_or(definitions.changes.apply)
}

fn environments(definitions: &Definitions, review: &Review, missing: &[String]) -> Vec<EnvironmentNow> {
    let of = |environment: &windlass_model::definition::Environment| {
        let stacks = || review.stacks.iter().filter(|stack| stack.environments.contains(&environment.name));
        stacks().next()?;
        let asks = format!("environment {} ", environment.name);
        let broken = |stack: &StackReview| matches!(stack.outcome, Outcome::Failed { .. } | Outcome::Skipped { .. });
        let denies = |stack: &StackReview| {
            let blocks = |level| matches!(level, Level::Deny | Level::Broken);
            stack.findings.iter().any(|finding| blocks(finding.level) && finding.waived.is_none())
        };
        Some(EnvironmentNow {
            name: environment.name.clone(),
            changes: stacks().any(is_changed),
            failed: stacks().any(broken),
            denied: stacks().any(denies),
            missing: missing.iter().filter(|sentence| sentence.starts_with(&asks)).cloned().collect(),
        })
    };
    definitions.environments.iter().filter_map(of).collect()
}
