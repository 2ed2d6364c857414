//! What the environment of a job says, in the words of each CI.

use super::wrong;
use crate::error::AppResult;
use serde_json::Value;
use windlass_connect::forge::{ForgeKind, ForgeSettings};

/// What the environment of a job says about where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// As people call the CI.
    pub ci: &'static str,
    pub forge: ForgeSettings,
    /// Where people find the repository.
    pub url: String,
    /// The change that the job is about; `None` for one of a branch.
    pub change: Option<u64>,
    /// The branch or commit that is compared with.
    pub base: Option<String>,
    /// The commit of the change that the job is about; `None` where it does not say.
    pub head: Option<String>,
    /// The page of the job.
    pub link: Option<String>,
    /// What it acts with, and the variable that it is usually in.
    pub token: Option<String>,
    pub token_in: &'static str,
}

/// Given before all others, in every CI: the token, and where the API of the forge is.
const TOKEN: &str = "WINDLASS_FORGE_TOKEN";
const API: &str = "WINDLASS_FORGE_API";

impl Environment {
    /// Reads it; `variable` gives a variable that is set and not empty.
    ///
    /// # Errors
    /// This is no job of a CI that is known, or it says nothing about its repository.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> AppResult<Self> {
        let has = |name: &str| variable(name).is_some();
        let found = if has("GITEA_ACTIONS") || has("FORGEJO_ACTIONS") {
            actions(variable, "Gitea Actions", ForgeKind::Gitea, "GITEA_TOKEN")
        } else if has("GITHUB_ACTIONS") {
            actions(variable, "GitHub Actions", ForgeKind::Github, "GITHUB_TOKEN")
        } else if has("GITLAB_CI") {
            gitlab(variable)
        } else if has("BITBUCKET_BUILD_NUMBER") {
            bitbucket(variable)
        } else if has("JENKINS_URL") {
            jenkins(variable)
        } else {
            let help = "GitHub and Gitea Actions, GitLab CI, Bitbucket Pipelines and Jenkins are known; elsewhere use `windlass review`";
            return Err(wrong("this is no job of a CI that is known here".into(), help));
        };
        let found = found.map(|found| match variable(API) {
            Some(api) => Self { forge: ForgeSettings { api: Some(api), ..found.forge }, ..found },
            None => found,
        });
        found.ok_or_else(|| {
            wrong(
                "the environment of this job does not say which repository it is of".into(),
                "docs/ci.md has what is read",
            )
        })
    }
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

fn settings(kind: ForgeKind, api: Option<String>, repository: Option<String>) -> ForgeSettings {
    ForgeSettings { kind, api, repository, token_file: None, app: None, root_certificates: None }
}

fn token(variable: Variables<'_>, name: &str) -> Option<String> {
    variable(TOKEN).or_else(|| variable(name))
}

/// What is no commit, where a branch is new.
fn before(commit: Option<String>) -> Option<String> {
    commit.filter(|commit| commit.bytes().any(|byte| byte != b'0'))
}

/// <https://docs.github.com/actions/reference/variables-reference>; those of Gitea and Forgejo have the same.
fn actions(variable: Variables<'_>, ci: &'static str, kind: ForgeKind, named: &'static str) -> Option<Environment> {
    let event = variable("GITHUB_EVENT_PATH").and_then(|path| std::fs::read(path).ok());
    let event: Value = event.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let (server, repository) = (variable("GITHUB_SERVER_URL")?, variable("GITHUB_REPOSITORY")?);
    let url = format!("{server}/{repository}");
    let pushed = || before(event["before"].as_str().map(str::to_owned));
    Some(Environment {
        ci,
        forge: settings(kind, variable("GITHUB_API_URL"), Some(repository)),
        change: windlass_connect::forge::touched(&event).change,
        base: event["pull_request"]["base"]["ref"].as_str().map(str::to_owned).or_else(pushed),
        // Not GITHUB_SHA, which is a merge that GitHub tries.
        head: event["pull_request"]["head"]["sha"].as_str().map(str::to_owned),
        link: variable("GITHUB_RUN_ID").map(|run| format!("{url}/actions/runs/{run}")),
        // A job of Gitea has it by this name, too.
        token: token(variable, named).or_else(|| variable("GITHUB_TOKEN")),
        token_in: named,
        url,
    })
}

/// <https://docs.gitlab.com/ci/variables/predefined_variables/>. The token of a job may not comment: one of the project is needed.
fn gitlab(variable: Variables<'_>) -> Option<Environment> {
    let target = variable("CI_MERGE_REQUEST_TARGET_BRANCH_NAME");
    Some(Environment {
        ci: "GitLab CI",
        forge: settings(ForgeKind::Gitlab, variable("CI_API_V4_URL"), Some(variable("CI_PROJECT_PATH")?)),
        url: variable("CI_PROJECT_URL")?,
        change: variable("CI_MERGE_REQUEST_IID").and_then(|number| number.parse().ok()),
        base: target.or_else(|| before(variable("CI_COMMIT_BEFORE_SHA"))),
        // The second is a merge where GitLab tries one, and says so by the first.
        head: variable("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA").or_else(|| variable("CI_COMMIT_SHA")),
        link: variable("CI_JOB_URL"),
        token: token(variable, "GITLAB_TOKEN"),
        token_in: "GITLAB_TOKEN",
    })
}

/// <https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/>.
fn bitbucket(variable: Variables<'_>) -> Option<Environment> {
    let repository = variable("BITBUCKET_REPO_FULL_NAME")?;
    let url = format!("https://bitbucket.org/{repository}");
    Some(Environment {
        ci: "Bitbucket Pipelines",
        forge: settings(ForgeKind::Bitbucket, None, Some(repository)),
        change: variable("BITBUCKET_PR_ID").and_then(|number| number.parse().ok()),
        base: variable("BITBUCKET_PR_DESTINATION_BRANCH"),
        head: variable("BITBUCKET_COMMIT"),
        link: variable("BITBUCKET_BUILD_NUMBER").map(|run| format!("{url}/pipelines/results/{run}")),
        token: token(variable, "BITBUCKET_TOKEN"),
        token_in: "BITBUCKET_TOKEN",
        url,
    })
}

/// Of a multibranch pipeline (<https://plugins.jenkins.io/branch-api/>): the address of a change tells whose forge it is.
fn jenkins(variable: Variables<'_>) -> Option<Environment> {
    let link = variable("BUILD_URL");
    let change = variable("CHANGE_URL");
    let Some(change) = change else {
        // One of a branch tells nobody anything.
        let url = variable("GIT_URL")?;
        let base = before(variable("GIT_PREVIOUS_SUCCESSFUL_COMMIT"));
        let forge = settings(ForgeKind::Github, None, None);
        let (ci, change, head, token) = ("Jenkins", None, None, None);
        return Some(Environment { ci, forge, url, change, base, head, link, token, token_in: TOKEN });
    };
    let marks = [
        ("/-/merge_requests/", ForgeKind::Gitlab, "GITLAB_TOKEN"),
        ("/pull-requests/", ForgeKind::Bitbucket, "BITBUCKET_TOKEN"),
        ("/pulls/", ForgeKind::Gitea, "GITEA_TOKEN"),
        ("/pull/", ForgeKind::Github, "GITHUB_TOKEN"),
    ];
    let found = marks.into_iter().find_map(|(mark, kind, named)| Some((change.split_once(mark)?, kind, named)));
    let ((place, number), kind, named) = found?;
    let number = number.split(['/', '?', '#']).next()?.parse().ok()?;
    let is_cloud = place.starts_with("https://bitbucket.org/");
    let (kind, url) = match kind {
        ForgeKind::Bitbucket if !is_cloud => {
            // `https://HOST/projects/PROJECT/repos/NAME`.
            let (host, rest) = place.split_once("/projects/")?;
            let (project, name) = rest.split_once("/repos/")?;
            (ForgeKind::BitbucketDataCenter, format!("{host}/scm/{project}/{name}"))
        }
        kind => (kind, place.to_owned()),
    };
    Some(Environment {
        ci: "Jenkins",
        forge: settings(kind, None, None),
        url,
        change: Some(number),
        base: variable("CHANGE_TARGET"),
        head: None,
        link,
        token: token(variable, named),
        token_in: named,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> AppResult<Environment> {
        Environment::read(&|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    /// CI, kind, address, change, base, link and token.
    type Want<'a> = (&'a str, ForgeKind, &'a str, Option<u64>, Option<&'a str>, Option<&'a str>, Option<&'a str>);

    fn check(pairs: &[(&str, &str)], want: Want<'_>) {
        let found = read(pairs).unwrap();
        let found = (
            found.ci,
            found.forge.kind,
            found.url.as_str(),
            found.change,
            found.base.as_deref(),
            found.link.as_deref(),
            found.token.as_deref(),
        );
        assert_eq!(found, want, "{pairs:?}");
    }

    #[test]
    fn actions_say_it_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("event.json");
        let path = path.to_str().unwrap();
        let url = "https://github.com/company/infra";
        let base = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_API_URL", "https://api.github.com"),
            ("GITHUB_REPOSITORY", "company/infra"),
            ("GITHUB_RUN_ID", "99"),
            ("GITHUB_TOKEN", "ghs_x"),
            ("GITHUB_EVENT_PATH", path),
        ];
        let link = Some("https://github.com/company/infra/actions/runs/99");
        let check = |event: &str, more: &[(&str, &str)], ci, kind, change, base_is, token| {
            std::fs::write(path, event).unwrap();
            let pairs: Vec<_> = base.iter().chain(more).copied().collect();
            check(&pairs, (ci, kind, url, change, base_is, link, token));
        };
        let (github, hub) = ("GitHub Actions", ForgeKind::Github);
        let pull = r#"{"number":7,"pull_request":{"number":7,"base":{"ref":"main"}}}"#;
        check(pull, &[], github, hub, Some(7), Some("main"), Some("ghs_x"));
        check(pull, &[("WINDLASS_FORGE_TOKEN", "own")], github, hub, Some(7), Some("main"), Some("own"));
        let comment = r#"{"issue":{"number":7,"pull_request":{}}}"#;
        check(comment, &[], github, hub, Some(7), None, Some("ghs_x"));
        check(r#"{"before":"abc","after":"def"}"#, &[], github, hub, None, Some("abc"), Some("ghs_x"));
        check(r#"{"before":"0000000000"}"#, &[], github, hub, None, None, Some("ghs_x"));
        check("no json", &[], github, hub, None, None, Some("ghs_x"));
        let gitea = [("GITEA_ACTIONS", "true")];
        check(pull, &gitea, "Gitea Actions", ForgeKind::Gitea, Some(7), Some("main"), Some("ghs_x"));
    }

    #[test]
    fn the_others_say_it_in_variables() {
        let gitlab = [
            ("GITLAB_CI", "true"),
            ("CI_PROJECT_URL", "https://gitlab.com/a/b/infra"),
            ("CI_PROJECT_PATH", "a/b/infra"),
            ("CI_API_V4_URL", "https://gitlab.com/api/v4"),
            ("CI_MERGE_REQUEST_IID", "7"),
            ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
            ("CI_JOB_URL", "https://gitlab.com/j"),
        ];
        let url = "https://gitlab.com/a/b/infra";
        check(
            &gitlab,
            ("GitLab CI", ForgeKind::Gitlab, url, Some(7), Some("main"), Some("https://gitlab.com/j"), None),
        );
        let bitbucket = [
            ("BITBUCKET_BUILD_NUMBER", "3"),
            ("BITBUCKET_REPO_FULL_NAME", "team/infra"),
            ("BITBUCKET_PR_ID", "7"),
            ("BITBUCKET_PR_DESTINATION_BRANCH", "main"),
            ("BITBUCKET_TOKEN", "t"),
        ];
        let url = "https://bitbucket.org/team/infra";
        let link = "https://bitbucket.org/team/infra/pipelines/results/3";
        let (ci, kind) = ("Bitbucket Pipelines", ForgeKind::Bitbucket);
        check(&bitbucket, (ci, kind, url, Some(7), Some("main"), Some(link), Some("t")));
    }

    #[test]
    fn jenkins_says_it_by_the_address_of_the_change() {
        let check = |change: &str, kind, url: &str| {
            let pairs =
                [("JENKINS_URL", "https://ci"), ("CHANGE_URL", change), ("CHANGE_TARGET", "main"), ("BUILD_URL", "b")];
            check(&pairs, ("Jenkins", kind, url, Some(7), Some("main"), Some("b"), None));
        };
        check("https://github.com/o/r/pull/7", ForgeKind::Github, "https://github.com/o/r");
        check("https://git.example/o/r/pulls/7", ForgeKind::Gitea, "https://git.example/o/r");
        check("https://git.example/a/b/r/-/merge_requests/7/diffs", ForgeKind::Gitlab, "https://git.example/a/b/r");
        check("https://bitbucket.org/o/r/pull-requests/7", ForgeKind::Bitbucket, "https://bitbucket.org/o/r");
        let center = "https://git.example/projects/OPS/repos/infra/pull-requests/7/overview";
        check(center, ForgeKind::BitbucketDataCenter, "https://git.example/scm/OPS/infra");
        let branch = [("JENKINS_URL", "https://ci"), ("GIT_URL", "https://git.example/o/r.git")];
        assert_eq!(read(&branch).unwrap().change, None);
        assert!(read(&[("JENKINS_URL", "https://ci"), ("CHANGE_URL", "https://x/7")]).is_err());
    }

    #[test]
    fn the_commit_of_the_change_is_not_a_merge_that_was_tried() {
        let gitlab = [("GITLAB_CI", "true"), ("CI_PROJECT_URL", "https://g/a/b"), ("CI_PROJECT_PATH", "a/b")];
        let head = |more: &[(&str, &str)]| {
            let pairs: Vec<_> = gitlab.iter().chain(more).copied().collect();
            read(&pairs).unwrap().head
        };
        assert_eq!(head(&[("CI_COMMIT_SHA", "abc")]).as_deref(), Some("abc"));
        let merged = [("CI_COMMIT_SHA", "abc"), ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "def")];
        assert_eq!(head(&merged).as_deref(), Some("def"));
    }

    #[test]
    fn what_is_no_job_is_told() {
        for pairs in [&[][..], &[("HOME", "/root")], &[("GITHUB_ACTIONS", "true")], &[("GITLAB_CI", "true")]] {
            let error = read(pairs).unwrap_err();
            assert_eq!(error.diagnostics[0].code, "WL784", "{pairs:?}");
        }
    }
}
