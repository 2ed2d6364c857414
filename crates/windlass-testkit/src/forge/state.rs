//! What every forge that is made up has: people, changes, what was said about them, and who may do what. Only how that is asked
//! for and told differs from forge to forge.

use super::github::App;
use super::repository::{Bare, Joined, Method, Written};
use crate::TestkitError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;
use tempfile::TempDir;

/// The account of the token that tests use, and the token.
pub const ACCOUNT: &str = "windlass-bot";
pub const TOKEN: &str = "forge-token-of-tests-4711";
/// The repository that is followed.
pub const REPOSITORY: &str = "company/infra";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeState {
    Open,
    Merged,
    Closed,
}

/// A pull or merge request.
#[derive(Debug, Clone)]
pub struct Change {
    pub number: u64,
    pub title: String,
    pub author: String,
    pub state: ChangeState,
    pub draft: bool,
    /// Full name of the repository that the branch is in; empty when it was deleted.
    pub repository: String,
    pub branch: String,
    pub commit: String,
    pub base: String,
    pub merged_as: Option<String>,
    pub labels: BTreeSet<String>,
    pub comments: Vec<Comment>,
    pub reviews: Vec<Review>,
    /// Microseconds of the epoch.
    pub created_at: i64,
    pub updated_at: i64,
    /// How often it was changed.
    pub version: u64,
}

#[derive(Debug, Clone)]
pub struct Comment {
    pub id: u64,
    pub author: String,
    pub body: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub version: u64,
    /// Who answered with what, in the words of the forge.
    pub reactions: BTreeSet<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Approves,
    Refuses,
    Remarks,
}

#[derive(Debug, Clone)]
pub struct Review {
    pub id: u64,
    pub person: String,
    pub word: Word,
    pub commit: String,
    pub at: i64,
    /// It was taken back or away.
    pub dismissed: bool,
}

/// A status of a commit, in the words of the forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub commit: String,
    pub name: String,
    pub state: String,
    pub text: String,
    pub url: Option<String>,
    pub at: i64,
}

/// What a token may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    Read,
    Comment,
    Status,
    Label,
    Merge,
    Members,
}

impl Right {
    pub const ALL: [Self; 6] = [Self::Read, Self::Comment, Self::Status, Self::Label, Self::Merge, Self::Members];
}

#[derive(Debug, Clone)]
pub struct Token {
    pub login: String,
    pub rights: BTreeSet<Right>,
    /// Seconds of the epoch.
    pub ends_at: Option<i64>,
}

/// What merging waits for.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    /// Statuses that have to be successful.
    pub statuses: Vec<String>,
    /// By others than the author.
    pub approvals: usize,
}

/// What happened; webhooks tell of it.
#[derive(Debug, Clone)]
pub struct Happening {
    pub login: String,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// A branch of the repository itself moved; the commit is `None` where it was not there, or is not any more.
    Moved {
        branch: String,
        before: Option<String>,
        after: Option<String>,
    },
    Opened(u64),
    /// Its head moved.
    Pushed {
        number: u64,
        before: String,
    },
    Edited(u64),
    /// Not merged.
    Closed(u64),
    Reopened(u64),
    Merged(u64),
    Labelled(u64),
    Commented {
        number: u64,
        comment: Comment,
    },
    CommentEdited {
        number: u64,
        comment: Comment,
    },
    CommentDeleted {
        number: u64,
        comment: Comment,
    },
    Reviewed {
        number: u64,
        review: Review,
    },
    Dismissed {
        number: u64,
        review: Review,
    },
}

/// Why a change cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    NotOpen(ChangeState),
    Draft,
    HeadMoved,
    /// What the protection of the branch waits for.
    Waits(String),
    Conflict,
}

/// How many requests are taken in an hour.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub limit: u64,
    pub remaining: u64,
    /// Seconds of the epoch.
    pub resets_at: i64,
}

#[derive(Debug)]
pub struct State {
    pub root: TempDir,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Names of accounts and their numbers.
    pub people: BTreeMap<String, u64>,
    /// Those who may write to nothing: anybody may review what everybody sees.
    pub outsiders: BTreeSet<String>,
    /// Those whose mail the forge does not know.
    pub nameless: BTreeSet<String>,
    /// `org/team` and who is in it.
    pub teams: BTreeMap<String, BTreeSet<String>>,
    pub tokens: BTreeMap<String, Token>,
    pub repositories: BTreeMap<String, Bare>,
    pub changes: BTreeMap<u64, Change>,
    /// In the order in which they were set.
    pub statuses: Vec<Status>,
    /// Labels of the repository and their numbers.
    pub labels: BTreeMap<String, u64>,
    pub protection: Protection,
    pub budget: Option<Budget>,
    /// Of Gitea: so many wishes to merge are put off, while it looks for conflicts.
    pub checking: usize,
    /// Of GitHub: what is installed where the repository is.
    pub app: Option<App>,
    pub happened: Vec<Happening>,
    /// Under which reference the repository offers the head of a change.
    reference: fn(u64) -> Option<String>,
    /// Branches of the followed repository when it was last looked at.
    seen: BTreeMap<String, String>,
    drawn: u64,
    clock: i64,
}

impl State {
    pub(super) fn new(reference: fn(u64) -> Option<String>) -> Result<Self, TestkitError> {
        let at = |source| TestkitError::Write { path: PathBuf::from("the forge"), source };
        let root = tempfile::tempdir().map_err(at)?;
        let main = Bare::init(&root.path().join(format!("{REPOSITORY}.git")))?;
        let token = Token { login: ACCOUNT.into(), rights: Right::ALL.into(), ends_at: None };
        let mut state = Self {
            root,
            url: String::new(),
            people: BTreeMap::new(),
            outsiders: BTreeSet::new(),
            nameless: BTreeSet::new(),
            teams: BTreeMap::new(),
            tokens: BTreeMap::from([(TOKEN.to_owned(), token)]),
            repositories: BTreeMap::from([(REPOSITORY.to_owned(), main)]),
            changes: BTreeMap::new(),
            statuses: Vec::new(),
            labels: BTreeMap::new(),
            protection: Protection::default(),
            budget: None,
            checking: 0,
            app: None,
            happened: Vec::new(),
            reference,
            seen: BTreeMap::new(),
            drawn: 0,
            clock: 0,
        };
        state.person(ACCOUNT);
        Ok(state)
    }

    /// A time later than every one before, microseconds of the epoch.
    pub fn now(&mut self) -> i64 {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        self.clock = now.max(self.clock + 1);
        self.clock
    }

    /// A number that nothing else has.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// The number of an account, which is made when it is not there.
    pub fn person(&mut self, login: &str) -> u64 {
        if let Some(id) = self.people.get(login) {
            return *id;
        }
        let id = 1_000 + self.draw();
        self.people.insert(login.to_owned(), id);
        id
    }

    /// The number of a person that was named before.
    pub fn id(&self, login: &str) -> u64 {
        self.people.get(login).copied().unwrap_or_default()
    }

    pub fn login(&self, id: u64) -> Option<&str> {
        self.people.iter().find(|(_, known)| **known == id).map(|(login, _)| login.as_str())
    }

    /// The number of a label, which is made when it is not there.
    pub fn label(&mut self, name: &str) -> u64 {
        if let Some(id) = self.labels.get(name) {
            return *id;
        }
        let id = self.draw();
        self.labels.insert(name.to_owned(), id);
        id
    }

    /// The commit of a branch of the followed repository when it was last looked at.
    pub fn branch(&self, name: &str) -> Option<&str> {
        self.seen.get(name).map(String::as_str)
    }

    pub fn main(&self) -> Result<&Bare, TestkitError> {
        self.repository(REPOSITORY)
    }

    pub fn repository(&self, name: &str) -> Result<&Bare, TestkitError> {
        self.repositories.get(name).ok_or_else(|| refused(format!("there is no repository {name}")))
    }

    pub fn change(&mut self, number: u64) -> Result<&mut Change, TestkitError> {
        self.changes.get_mut(&number).ok_or_else(|| refused(format!("there is no change {number}")))
    }

    /// The change that a comment is on, and where among its comments.
    pub fn comment_find(&self, id: u64) -> Option<(u64, &Comment)> {
        self.changes.values().find_map(|change| {
            change.comments.iter().find(|comment| comment.id == id).map(|comment| (change.number, comment))
        })
    }

    /// The commits of a change, newest first.
    pub(super) fn commits(&self, number: u64) -> Vec<Written> {
        let found = self.changes.get(&number).zip(self.main().ok()).and_then(|(change, main)| {
            let before = change.merged_as.as_ref().map(|merged| format!("{merged}^1"));
            let base = before.unwrap_or_else(|| format!("refs/heads/{}", change.base));
            // What only a fork has is read there.
            let at = self.repository(&change.repository).unwrap_or(main);
            at.take(main, &main.commit(&base)?, "refs/compared").ok()?;
            at.between("refs/compared", &change.commit).ok()
        });
        found.unwrap_or_default()
    }

    /// The login of the account that a mail is of.
    pub(super) fn login_of<'a>(&self, mail: &'a str) -> Option<&'a str> {
        let login = mail.strip_suffix("@example.com")?;
        (self.people.contains_key(login) && !self.nameless.contains(login)).then_some(login)
    }

    /// The newest word of each status of a commit.
    pub fn statuses_of(&self, commit: &str) -> Vec<Status> {
        let mut newest: BTreeMap<&str, &Status> = BTreeMap::new();
        for status in self.statuses.iter().filter(|status| status.commit == commit) {
            newest.insert(&status.name, status);
        }
        newest.into_values().cloned().collect()
    }

    pub(super) fn happens(&mut self, login: &str, what: What) {
        self.happened.push(Happening { login: login.to_owned(), what });
    }

    fn touch(&mut self, number: u64) {
        let now = self.now();
        if let Some(change) = self.changes.get_mut(&number) {
            change.updated_at = now;
        }
    }

    /// Sees what was pushed to the repositories since the last look, by whatever way.
    pub(super) fn look(&mut self, login: &str) -> Result<(), TestkitError> {
        let mut tips: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (name, bare) in &self.repositories {
            tips.insert(name.clone(), bare.branches()?.into_iter().collect());
        }
        let now = tips.get(REPOSITORY).cloned().unwrap_or_default();
        let before = std::mem::replace(&mut self.seen, now.clone());
        for branch in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (before.get(branch).cloned(), now.get(branch).cloned());
            if before != after {
                self.happens(login, What::Moved { branch: branch.clone(), before, after });
            }
        }
        let open = self.changes.values().filter(|change| change.state == ChangeState::Open);
        let moved = open.filter_map(|change| {
            let tip = tips.get(&change.repository)?.get(&change.branch)?;
            (*tip != change.commit).then(|| (change.number, tip.clone()))
        });
        for (number, tip) in moved.collect::<Vec<_>>() {
            self.head_set(login, number, &tip)?;
        }
        Ok(())
    }

    fn head_set(&mut self, login: &str, number: u64, tip: &str) -> Result<(), TestkitError> {
        let now = self.now();
        let change = self.change(number)?;
        let before = std::mem::replace(&mut change.commit, tip.to_owned());
        (change.updated_at, change.version) = (now, change.version + 1);
        let repository = change.repository.clone();
        if let Some(reference) = (self.reference)(number) {
            self.main()?.take(self.repository(&repository)?, tip, &reference)?;
        }
        self.happens(login, What::Pushed { number, before });
        Ok(())
    }

    /// Somebody writes files, or takes them away where there is no text, and pushes that: on top of the branch, or of `from`.
    pub fn push(
        &mut self,
        login: &str,
        repository: &str,
        branch: &str,
        from: Option<&str>,
        files: &[(&str, Option<&str>)],
    ) -> Result<String, TestkitError> {
        self.person(login);
        let bare = self.repository(repository)?.clone();
        let reference = format!("refs/heads/{branch}");
        let parent = match from {
            Some(from) => bare.commit(from),
            None => bare.commit(&reference).or_else(|| bare.commit("refs/heads/main")),
        };
        let commit = bare.write(login, parent.as_deref(), files, &format!("{branch}: something new"))?;
        bare.point(&reference, &commit)?;
        self.look(login)?;
        Ok(commit)
    }

    /// Somebody pushes so many commits to a branch of the followed repository that change nothing.
    pub fn push_many(&mut self, login: &str, branch: &str, count: usize) -> Result<String, TestkitError> {
        self.person(login);
        let (main, reference) = (self.main()?.clone(), format!("refs/heads/{branch}"));
        let tip = main.commit(&reference).ok_or_else(|| refused(format!("there is no branch {branch}")))?;
        let commit = main.pile(login, &tip, count)?;
        main.point(&reference, &commit)?;
        self.look(login)?;
        Ok(commit)
    }

    pub fn fork(&mut self, login: &str) -> Result<String, TestkitError> {
        self.person(login);
        let name = format!("{login}/infra");
        let bare = self.main()?.fork(&self.root.path().join(format!("{name}.git")))?;
        self.repositories.insert(name.clone(), bare);
        Ok(name)
    }

    /// A fork is deleted; the forge keeps what it showed of it.
    pub fn fork_delete(&mut self, name: &str) -> Result<(), TestkitError> {
        self.repositories.remove(name).ok_or_else(|| refused(format!("there is no repository {name}")))?;
        for change in self.changes.values_mut().filter(|change| change.repository == name) {
            change.repository.clear();
        }
        Ok(())
    }

    pub fn open(
        &mut self,
        login: &str,
        title: &str,
        repository: &str,
        branch: &str,
        base: &str,
    ) -> Result<u64, TestkitError> {
        self.person(login);
        let head = self.repository(repository)?;
        let Some(commit) = head.commit(&format!("refs/heads/{branch}")) else {
            return Err(refused(format!("there is no branch {branch} in {repository}")));
        };
        let number = self.changes.len() as u64 + 1;
        if let Some(reference) = (self.reference)(number) {
            self.main()?.take(head, &commit, &reference)?;
        }
        let now = self.now();
        let change = Change {
            number,
            title: title.into(),
            author: login.into(),
            state: ChangeState::Open,
            draft: false,
            repository: repository.into(),
            branch: branch.into(),
            commit,
            base: base.into(),
            merged_as: None,
            labels: BTreeSet::new(),
            comments: Vec::new(),
            reviews: Vec::new(),
            created_at: now,
            updated_at: now,
            version: 0,
        };
        self.changes.insert(number, change);
        self.happens(login, What::Opened(number));
        Ok(number)
    }

    pub fn draft_set(&mut self, login: &str, number: u64, draft: bool) -> Result<(), TestkitError> {
        let change = self.change(number)?;
        (change.draft, change.version) = (draft, change.version + 1);
        self.touch(number);
        self.happens(login, What::Edited(number));
        Ok(())
    }

    pub fn base_set(&mut self, login: &str, number: u64, base: &str) -> Result<(), TestkitError> {
        let change = self.change(number)?;
        (change.base, change.version) = (base.to_owned(), change.version + 1);
        self.touch(number);
        self.happens(login, What::Edited(number));
        Ok(())
    }

    pub fn comment(&mut self, login: &str, number: u64, body: &str) -> Result<Comment, TestkitError> {
        self.person(login);
        let (id, now) = (self.draw(), self.now());
        let comment = Comment {
            id,
            author: login.into(),
            body: body.into(),
            created_at: now,
            updated_at: now,
            version: 0,
            reactions: BTreeSet::new(),
        };
        self.change(number)?.comments.push(comment.clone());
        self.touch(number);
        self.happens(login, What::Commented { number, comment: comment.clone() });
        Ok(comment)
    }

    pub fn comment_edit(&mut self, login: &str, id: u64, body: &str) -> Result<Comment, TestkitError> {
        let now = self.now();
        let number = self.comment_find(id).map(|(number, _)| number);
        let number = number.ok_or_else(|| refused(format!("there is no comment {id}")))?;
        let change = self.change(number)?;
        let comment = change.comments.iter_mut().find(|comment| comment.id == id);
        let comment = comment.ok_or_else(|| refused(format!("there is no comment {id}")))?;
        (comment.body, comment.updated_at, comment.version) = (body.to_owned(), now, comment.version + 1);
        let comment = comment.clone();
        self.touch(number);
        self.happens(login, What::CommentEdited { number, comment: comment.clone() });
        Ok(comment)
    }

    pub fn comment_delete(&mut self, login: &str, id: u64) -> Result<(), TestkitError> {
        let found = self.comment_find(id).map(|(number, comment)| (number, comment.clone()));
        let (number, comment) = found.ok_or_else(|| refused(format!("there is no comment {id}")))?;
        self.change(number)?.comments.retain(|comment| comment.id != id);
        self.touch(number);
        self.happens(login, What::CommentDeleted { number, comment });
        Ok(())
    }

    /// Somebody reviews the commit that is the head now. Nobody approves what is their own.
    pub fn review(&mut self, login: &str, number: u64, word: Word) -> Result<u64, TestkitError> {
        self.person(login);
        let (id, at) = (self.draw(), self.now());
        let change = self.change(number)?;
        if change.author == login && word != Word::Remarks {
            return Err(refused(format!("{login} opened change {number}, and cannot review it")));
        }
        let review = Review { id, person: login.into(), word, commit: change.commit.clone(), at, dismissed: false };
        change.reviews.push(review.clone());
        self.touch(number);
        self.happens(login, What::Reviewed { number, review });
        Ok(id)
    }

    /// What a person said does not count any more: they took it back, or somebody dismissed it.
    pub fn dismiss(&mut self, login: &str, number: u64, person: &str) -> Result<(), TestkitError> {
        let change = self.change(number)?;
        let counted = |review: &&mut Review| review.person == person && review.word != Word::Remarks;
        let Some(review) = change.reviews.iter_mut().rev().find(counted) else {
            return Err(refused(format!("{person} has not reviewed change {number}")));
        };
        review.dismissed = true;
        let review = review.clone();
        self.touch(number);
        self.happens(login, What::Dismissed { number, review });
        Ok(())
    }

    /// The newest word of each person that is more than a remark, whether or not it was dismissed.
    pub fn words(&self, number: u64) -> Vec<&Review> {
        let mut newest: BTreeMap<&str, &Review> = BTreeMap::new();
        let reviews = self.changes.get(&number).into_iter().flat_map(|change| &change.reviews);
        for review in reviews.filter(|review| review.word != Word::Remarks) {
            newest.insert(&review.person, review);
        }
        newest.into_values().collect()
    }

    pub fn labels_set(&mut self, login: &str, number: u64, add: &[&str], remove: &[&str]) -> Result<(), TestkitError> {
        for name in add {
            self.label(name);
        }
        let labels = &mut self.change(number)?.labels;
        labels.extend(add.iter().map(|name| (*name).to_owned()));
        labels.retain(|name| !remove.contains(&name.as_str()));
        self.touch(number);
        self.happens(login, What::Labelled(number));
        Ok(())
    }

    pub fn status_set(&mut self, status: Status) {
        self.statuses.push(status);
    }

    /// What stands in the way of merging a change whose head is `commit`, where that is known.
    pub fn hindrance(&self, number: u64, commit: Option<&str>) -> Option<Hindrance> {
        let change = self.changes.get(&number)?;
        if change.state != ChangeState::Open {
            return Some(Hindrance::NotOpen(change.state));
        }
        if commit.is_some_and(|commit| commit != change.commit) {
            return Some(Hindrance::HeadMoved);
        }
        if change.draft {
            return Some(Hindrance::Draft);
        }
        let good = ["success", "SUCCESSFUL"];
        let statuses = self.statuses_of(&change.commit);
        let is_good = |name: &&String| {
            statuses.iter().any(|status| status.name == **name && good.contains(&status.state.as_str()))
        };
        if let Some(name) = self.protection.statuses.iter().find(|name| !is_good(name)) {
            return Some(Hindrance::Waits(format!("Required status check \"{name}\" is expected.")));
        }
        let approvals = self.words(number).into_iter().filter(|r| r.word == Word::Approves && !r.dismissed).count();
        if approvals < self.protection.approvals {
            let wanted = self.protection.approvals;
            return Some(Hindrance::Waits(format!("At least {wanted} approving review is required.")));
        }
        None
    }

    /// Merges a change, or says what stands in the way.
    pub fn merge(
        &mut self,
        login: &str,
        number: u64,
        commit: Option<&str>,
        method: Method,
    ) -> Result<Result<String, Hindrance>, TestkitError> {
        self.look(login)?;
        if let Some(hindrance) = self.hindrance(number, commit) {
            return Ok(Err(hindrance));
        }
        let change = self.change(number)?.clone();
        let main = self.main()?.clone();
        main.take(self.repository(&change.repository)?, &change.commit, &format!("refs/merging/{number}"))?;
        let reference = format!("refs/heads/{}", change.base);
        let base = main.commit(&reference).ok_or_else(|| refused(format!("there is no branch {}", change.base)))?;
        let message = format!("{} (#{number})", change.title);
        let Joined::Commit(merged) = main.join(login, &base, &change.commit, method, &message)? else {
            return Ok(Err(Hindrance::Conflict));
        };
        main.point(&reference, &merged)?;
        let now = self.now();
        let change = self.change(number)?;
        (change.state, change.merged_as) = (ChangeState::Merged, Some(merged.clone()));
        (change.updated_at, change.version) = (now, change.version + 1);
        self.happens(login, What::Merged(number));
        self.look(login)?;
        Ok(Ok(merged))
    }

    pub fn close(&mut self, login: &str, number: u64) -> Result<(), TestkitError> {
        let change = self.change(number)?;
        if change.state != ChangeState::Open {
            return Err(refused(format!("change {number} is not open")));
        }
        (change.state, change.version) = (ChangeState::Closed, change.version + 1);
        self.touch(number);
        self.happens(login, What::Closed(number));
        Ok(())
    }

    pub fn reopen(&mut self, login: &str, number: u64) -> Result<(), TestkitError> {
        let change = self.change(number)?;
        if change.state != ChangeState::Closed {
            return Err(refused(format!("change {number} is not closed")));
        }
        (change.state, change.version) = (ChangeState::Open, change.version + 1);
        self.touch(number);
        self.happens(login, What::Reopened(number));
        self.look(login)
    }

    /// Deletes a branch of the followed repository; `false` when there is none.
    pub fn branch_delete(&mut self, login: &str, branch: &str) -> Result<bool, TestkitError> {
        let (main, reference) = (self.main()?.clone(), format!("refs/heads/{branch}"));
        if main.commit(&reference).is_none() {
            return Ok(false);
        }
        main.remove(&reference)?;
        self.look(login)?;
        Ok(true)
    }
}

pub(super) fn refused(problem: String) -> TestkitError {
    TestkitError::Refused { problem }
}
