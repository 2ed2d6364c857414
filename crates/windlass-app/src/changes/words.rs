//! What a look says: the comment, statuses and labels, where they differ from what was said last.

use super::look::{Look, Stop};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use windlass_connect::forge::ForgeKind;
use windlass_model::change::owners::{Owners, PLACES};
use windlass_model::change::plan::{Known, Of, Record, Row, Stage};
use windlass_model::change::settings::ApplyWhen;
use windlass_model::change::tell::{LABELS, Told, told};
use windlass_model::change::{ChangeState, Check};
use windlass_model::review::document::Document;
use windlass_render::markdown::{self, Forge, Options, Size, Words};

impl Look {
    /// Says how it stands.
    pub async fn tell(&mut self, record: &Record) -> Result<(), Stop> {
        let open = self.seen.change.state == ChangeState::Open;
        let silent = self.is_silent(record);
        if silent && !(open && record.followed) {
            return Ok(());
        }
        let url = self.known.review.as_ref().map(|review| format!("{}/reviews/{}", self.looker.url, review.run));
        let kind = self.at.kind;
        let number = move |number| if kind == ForgeKind::Gitlab { format!("!{number}") } else { format!("#{number}") };
        let told = told(&self.seen, &self.known, record, number, url.as_deref());
        let merged = self.seen.change.state == ChangeState::Merged;
        self.known.unapplied = merged && record.followed && !told.state.is_success();
        if !silent {
            self.comment(record, &told, url).await?;
        }
        if record.followed {
            self.checks(&told).await?;
            self.labels(record, &told).await?;
        }
        Ok(())
    }

    /// There is nothing that anybody wants to read in a comment: one that is there is kept up to date, and none is made.
    fn is_silent(&self, record: &Record) -> bool {
        let Known { review, said, answers, .. } = &self.known;
        let asks = self.known.is_strange(&self.seen.change) && self.seen.change.state == ChangeState::Open;
        let nothing = review.as_ref().is_none_or(|review| review.stage == Stage::Nothing);
        said.comment.is_none() && answers.is_empty() && (nothing && !asks || !record.followed)
    }

    async fn comment(&mut self, record: &Record, told: &Told, url: Option<String>) -> Result<(), Stop> {
        let row = self.known.row(record).map(|(_, row)| row.clone());
        let text = self.text(record, row.as_ref(), told, url).await?;
        let digest = crate::policy::hex(&Sha256::digest(text.as_bytes()));
        if self.known.said.comment.is_none() || self.known.said.unsure {
            self.find_comment().await?;
        }
        if self.known.said.comment.is_none() || self.known.said.digest != digest {
            // Somebody who reads it at once answers before we hear that it is there.
            let now = self.store.now().await?;
            self.put_comment(text).await?;
            self.known.said.digest = digest;
            if let Some(row) = &row {
                self.known.show(row, now);
            }
            let head = &self.seen.change.head;
            if self.known.is_strange(&self.seen.change)
                && self.known.stranger.as_ref().is_none_or(|(commit, _)| *commit != head.commit)
            {
                self.known.stranger = Some((head.commit.clone(), now));
            }
            self.keep().await?;
        }
        Ok(())
    }

    /// Looks for a comment that we made, and did not hear of.
    async fn find_comment(&mut self) -> Result<(), Stop> {
        let (number, marker) = (self.number, markdown::marker(&self.options()));
        let all = self.ask(move |forge| forge.comments(number, None)).await?;
        let own = all
            .into_iter()
            .find(|found| found.author.id == self.seen.me.id && found.body.trim_start().starts_with(marker.trim_end()));
        self.known.said.unsure = false;
        if let Some(own) = own {
            self.known.said.comment = Some(own.id);
            self.known.said.digest.clear();
        }
        Ok(())
    }

    async fn put_comment(&mut self, text: String) -> Result<(), Stop> {
        let number = self.number;
        if let Some(comment) = self.known.said.comment.clone() {
            let body = text.clone();
            if self.ask(move |forge| forge.comment_update(number, &comment, &body)).await? {
                return Ok(());
            }
            // Somebody has deleted it.
            self.known.said.comment = None;
        }
        // Until its answer is here nobody knows whether it is there.
        self.known.said.unsure = true;
        self.keep().await?;
        let made = self.ask(move |forge| forge.comment_create(number, &text)).await?;
        self.known.said.comment = Some(made.id);
        self.known.said.unsure = false;
        self.keep().await
    }

    fn options(&self) -> Options {
        let limits = self.at.forge.limits();
        let forge = match self.at.kind {
            ForgeKind::Github => Forge::GitHub,
            ForgeKind::Gitlab => Forge::GitLab,
            ForgeKind::Gitea | ForgeKind::Forgejo => Forge::Gitea,
            ForgeKind::Bitbucket | ForgeKind::BitbucketDataCenter => Forge::Bitbucket,
        };
        let usual = forge.options();
        let limit = Size {
            characters: usual.limit.characters.min(limits.comment_chars),
            bytes: usual.limit.bytes.min(limits.comment_bytes),
        };
        Options { limit, key: format!("change/{}", self.project), ..usual }
    }

    async fn text(&self, record: &Record, row: Option<&Row>, told: &Told, url: Option<String>) -> Result<String, Stop> {
        let mut document = match (row, &self.known.review) {
            (Some(_), Some(review)) => match self.store.review_get(&review.run).await? {
                Some(_) => {
                    let service = self.service()?;
                    let row = crate::waivers::review_get(&service, &review.run).await?;
                    match row {
                        Some(row) => Some(crate::review::document(&service, &row).await?),
                        None => None,
                    }
                }
                None => None,
            },
            _ => None,
        };
        // What it was before is of no use while it is planned again.
        let current = self.known.review.as_ref().is_some_and(|review| match review.of {
            Of::Head => review.commit == self.seen.change.head.commit,
            Of::Merged => true,
        });
        if !current {
            document = None;
        }
        let mut lines = told.lines.clone();
        if let (Some(document), Some(row)) = (&mut document, row) {
            self.address(document, row);
            lines.insert(0, told.title.clone());
        }
        let ask = match row.filter(|row| !row.missing.is_empty()) {
            Some(_) => self.whom(document.as_ref(), record).await?,
            None => Vec::new(),
        };
        let answers = &self.known.answers;
        let words = Words {
            state: Some(told.state),
            title: told.title.clone(),
            lines,
            message: told.message.clone(),
            ask,
            answers: answers.iter().map(|answer| (answer.person.login.clone(), answer.text.clone())).collect(),
            link: url,
        };
        Ok(markdown::change(document.as_ref(), &words, &self.options()))
    }

    /// What the reader does next is said as it is done here.
    fn address(&self, document: &mut Document, row: &Row) {
        let open = self.seen.change.state == ChangeState::Open;
        let headline = &mut document.headline;
        let Some(command) = headline.command.take() else { return };
        let here = match command.contains("approve") {
            true => Some("windlass approve"),
            // It is asked for already.
            false if self.known.waiting.is_some() => None,
            false if command.contains("apply") && (!open || row.when == ApplyWhen::BeforeMerge) => {
                Some("windlass apply")
            }
            false => None,
        };
        headline.command = here.map(str::to_owned);
        if here.is_none() {
            headline.todo.clear();
        }
    }

    /// Whom CODEOWNERS of the base and the owners of stacks name.
    async fn whom(&self, document: Option<&Document>, record: &Record) -> Result<Vec<String>, Stop> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        for entry in document.iter().flat_map(|document| &document.stacks) {
            found.extend(entry.owner.as_ref().map(|owner| format!("team {owner}")));
        }
        if let Some(mirror) = self.looker.installation.followed.mirror(&self.project) {
            let (base, head) = (record.base.clone(), self.seen.change.head.commit.clone());
            let owners = tokio::task::spawn_blocking(move || {
                let git = mirror.commits();
                let text = PLACES.iter().find_map(|place| git.file_at(&base, place))?;
                let owners = Owners::parse(&String::from_utf8_lossy(&text));
                let from = git.merge_base(&base, &head).ok()?;
                let changes = git.changes(&from, &windlass_drivers::git::Target::Commit(head)).ok()?;
                Some(owners.of_all(changes.iter().map(|change| &*change.path)))
            });
            found.extend(owners.await.map_err(crate::error::internal)?.unwrap_or_default());
        }
        let author = format!("@{}", self.seen.change.author.login);
        found.remove(&author);
        Ok(found.into_iter().collect())
    }

    async fn checks(&mut self, told: &Told) -> Result<(), Stop> {
        let Some(commit) = told.commit.clone() else { return Ok(()) };
        let same = self.known.said.commit == commit;
        if same && self.known.said.checks == told.checks {
            return Ok(());
        }
        let before: Vec<Check> = if same { self.known.said.checks.clone() } else { Vec::new() };
        for check in told.checks.iter().filter(|check| !before.contains(check)) {
            let (commit, check) = (commit.clone(), check.clone());
            self.ask(move |forge| forge.check_set(&commit, &check)).await?;
        }
        // An environment that is not touched any more keeps nobody waiting.
        let gone = before.iter().filter(|old| !told.checks.iter().any(|check| check.name == old.name));
        for old in gone.filter(|old| !old.state.is_success()) {
            let text = "Nothing would change".to_owned();
            let check = Check { state: windlass_model::change::CheckState::Success, text, ..old.clone() };
            let commit = commit.clone();
            self.ask(move |forge| forge.check_set(&commit, &check)).await?;
        }
        (self.known.said.commit, self.known.said.checks) = (commit, told.checks.clone());
        self.keep().await
    }

    async fn labels(&mut self, record: &Record, told: &Told) -> Result<(), Stop> {
        let Some(label) = told.label.filter(|_| record.settings.labels) else { return Ok(()) };
        let wanted = vec![label.to_owned()];
        if self.known.said.labels == wanted {
            return Ok(());
        }
        let others = LABELS.iter().filter(|other| **other != label);
        let there = &self.seen.change.labels;
        let remove: Vec<String> = others
            .map(|other| (*other).to_owned())
            .filter(|other| there.contains(other) || self.known.said.labels.contains(other))
            .collect();
        let (number, add) = (self.number, wanted.clone());
        self.ask(move |forge| forge.labels_change(number, &add, &remove)).await?;
        self.known.said.labels = wanted;
        self.keep().await
    }
}
