//! What a delivery of a forge is about. Nothing in it is believed beyond that: it says where to look.

use super::address::place;
use super::api::id;
use serde_json::Value;

/// What a delivery is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Where the forge says that the repository lies: hosts and paths, both in lower case.
    pub addresses: Vec<(String, String)>,
    /// What the forge calls the repository where it tells no address (Data Center), in lower case: `project/name`.
    pub names: Vec<String>,
    /// The change, where it is about one.
    pub change: Option<u64>,
    /// The id of the account that did it, as [`super::Forge::me`] gives ours.
    pub by: Option<String>,
}

impl Touched {
    /// Whether it is about the repository at `url`.
    pub fn is_about(&self, url: &str) -> bool {
        place(url).is_some_and(|(host, path)| {
            let path = path.to_lowercase();
            // Over HTTP there is a word before the name of the project.
            let name = path.strip_prefix("scm/").unwrap_or(&path);
            self.names.iter().any(|known| known == name) || self.addresses.contains(&(host, path))
        })
    }

    /// Whether it is about the repository that its forge calls so.
    pub fn is_named(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.names.contains(&name) || self.addresses.iter().any(|(_, path)| *path == name)
    }
}

/// Reads the body of a delivery of any of the forges.
pub fn touched(body: &Value) -> Touched {
    let change = NUMBERS.iter().find_map(|path| body.pointer(path)?.as_u64());
    // GitLab names what an event is about by its kind.
    let merge_request = || body["object_attributes"]["iid"].as_u64().filter(|_| body["object_kind"] == "merge_request");
    let issue = &body["issue"];
    // GitHub and Gitea tell of comments on changes as if they were issues.
    let is_change = issue["pull_request"].is_object() || body["is_pull"] == true;
    let change = change.or_else(merge_request).or_else(|| issue["number"].as_u64().filter(|_| is_change));
    let listed = body.pointer("/repository/links/clone").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().map(|link| &link["href"]);
    let plain = ADDRESSES.iter().filter_map(|path| body.pointer(path));
    let places = plain.chain(listed).filter_map(|url| place(url.as_str()?));
    let named =
        [&body["repository"], &body["pullRequest"]["toRef"]["repository"]].into_iter().filter_map(|repository| {
            let (project, name) = (repository["project"]["key"].as_str()?, repository["slug"].as_str()?);
            Some(format!("{project}/{name}").to_lowercase())
        });
    Touched {
        addresses: places.map(|(host, path)| (host, path.to_lowercase())).collect(),
        names: named.collect(),
        change,
        by: ACTORS.iter().map(|path| id(body.pointer(path).unwrap_or(&Value::Null))).find(|id| !id.is_empty()),
    }
}

/// Where the forges say which change it is.
const NUMBERS: [&str; 6] = [
    // GitHub, Gitea and Forgejo.
    "/pull_request/number",
    // GitHub, of checks.
    "/check_run/pull_requests/0/number",
    "/check_suite/pull_requests/0/number",
    // GitLab, of comments.
    "/merge_request/iid",
    // Bitbucket Cloud and Data Center.
    "/pullrequest/id",
    "/pullRequest/id",
];

/// Where the forges say who did it.
const ACTORS: [&str; 5] = [
    // GitHub, Gitea and Forgejo.
    "/sender/id",
    // GitLab.
    "/user/id",
    // Bitbucket Cloud and Data Center.
    "/actor/account_id",
    "/actor/uuid",
    "/actor/name",
];

const ADDRESSES: [&str; 12] = [
    "/repository",
    "/repository/clone_url",
    "/repository/ssh_url",
    "/repository/html_url",
    "/repository/git_url",
    "/repository/git_http_url",
    "/repository/git_ssh_url",
    "/repository/homepage",
    "/project/git_http_url",
    "/project/git_ssh_url",
    "/project/web_url",
    "/repository/links/html/href",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_is_found_in_what_each_forge_sends() {
        let check = |body: &str, want: Option<u64>| {
            let found = touched(&serde_json::from_str(body).unwrap());
            assert_eq!(found.change, want, "{body}");
        };
        // GitHub, Gitea, Forgejo.
        check(r#"{"action":"opened","number":7,"pull_request":{"number":7}}"#, Some(7));
        check(r#"{"action":"created","issue":{"number":7,"pull_request":{"url":"u"}},"comment":{}}"#, Some(7));
        check(r#"{"action":"created","issue":{"number":7},"is_pull":true}"#, Some(7));
        check(r#"{"action":"created","issue":{"number":7},"comment":{}}"#, None);
        check(r#"{"action":"created","issue":{"number":7,"pull_request":null},"is_pull":false}"#, None);
        check(r#"{"check_run":{"pull_requests":[{"number":7}]}}"#, Some(7));
        check(r#"{"check_run":{"pull_requests":[]}}"#, None);
        check(r#"{"ref":"refs/heads/main","after":"a"}"#, None);
        // GitLab.
        check(r#"{"object_kind":"merge_request","object_attributes":{"id":99,"iid":7}}"#, Some(7));
        check(r#"{"object_kind":"note","object_attributes":{"id":99},"merge_request":{"id":98,"iid":7}}"#, Some(7));
        check(r#"{"object_kind":"issue","object_attributes":{"iid":7}}"#, None);
        // Bitbucket Cloud and Data Center.
        check(r#"{"pullrequest":{"id":7}}"#, Some(7));
        check(r#"{"eventKey":"pr:opened","pullRequest":{"id":7}}"#, Some(7));
        check(r#"{"pull_request":{"number":"7"}}"#, None);
        check("[]", None);
    }

    #[test]
    fn who_did_it_is_found_in_what_each_forge_sends() {
        let check = |body: &str, want: Option<&str>| {
            let found = touched(&serde_json::from_str(body).unwrap());
            assert_eq!(found.by.as_deref(), want, "{body}");
        };
        check(r#"{"pull_request":{"number":7,"user":{"id":2}},"sender":{"id":1,"login":"anna"}}"#, Some("1"));
        check(r#"{"object_kind":"note","user":{"id":1,"username":"anna"}}"#, Some("1"));
        check(r#"{"actor":{"account_id":"557058:1","uuid":"{2}","nickname":"anna"}}"#, Some("557058:1"));
        check(r#"{"actor":{"uuid":"{2}"}}"#, Some("{2}"));
        check(r#"{"actor":{"id":1,"name":"anna"}}"#, Some("anna"));
        check(r#"{"ref":"refs/heads/main"}"#, None);
    }

    #[test]
    fn a_project_of_data_center_is_found_by_its_change() {
        let body = r#"{"pullRequest":{"id":7,"toRef":{"repository":{"slug":"infra","project":{"key":"OPS"}}}}}"#;
        let found = touched(&serde_json::from_str(body).unwrap());
        assert_eq!(found.change, Some(7));
        assert!(found.is_about("https://git.example/scm/ops/infra.git"), "{found:?}");
        assert!(found.is_about("ssh://git@git.example/OPS/infra"), "{found:?}");
        assert!(!found.is_about("https://git.example/scm/ops/other.git"), "{found:?}");
    }

    #[test]
    fn recorded_deliveries_of_github_are_understood() {
        let file = "api.github.com/index.json";
        let package = windlass_testkit::npm::package("@octokit/webhooks-examples", "7.6.1", file).unwrap();
        let text = std::fs::read_to_string(package.join(file)).unwrap();
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut read = std::collections::BTreeMap::new();
        for event in &events {
            let name = event["name"].as_str().unwrap();
            for body in event["examples"].as_array().unwrap() {
                let pull = &body["pull_request"]["number"];
                let want = match name {
                    "pull_request" | "pull_request_review" => Some(pull.as_u64().unwrap()),
                    "issue_comment" if body["issue"]["pull_request"].is_object() => body["issue"]["number"].as_u64(),
                    "issue_comment" | "push" => None,
                    _ => continue,
                };
                let found = touched(body);
                assert_eq!(found.change, want, "{name} {body}");
                let url = format!("git@github.com:{}.git", body["repository"]["full_name"].as_str().unwrap());
                assert!(found.is_about(&url), "{url} {found:?}");
                *read.entry(name).or_insert(0) += 1;
            }
        }
        let names: Vec<&str> = read.keys().copied().collect();
        assert_eq!(names, ["issue_comment", "pull_request", "pull_request_review", "push"], "{read:?}");
    }
}
