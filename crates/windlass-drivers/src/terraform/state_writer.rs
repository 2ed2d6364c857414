//! Which release wrote a state, read from where it lies. Terraform itself neither refuses nor tells: it works on a state of any
//! later 1.x, writes its own version into it, and into every plan file and `state pull` of it.

use super::backend_lock::{agent, authorized};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How much of a state is read: the version is its second line.
const HEAD: u64 = 64 * 1024;

/// The version in the state of `workspace`, e.g. `1.11.4`; `None` when there is no state, or when it cannot be looked at: known
/// are the backends `local` and `http`. `recorded` is the backend as init recorded it (kind, and effective configuration), `None`
/// where none is configured; `directory` is where terraform runs. What cannot be read is left to terraform to complain about.
pub fn state_writer(directory: &Path, workspace: &str, recorded: Option<&(String, Value)>) -> Option<String> {
    let head = match recorded {
        None => read(&directory.join(local_path(workspace, &Value::Null)))?,
        Some((kind, config)) => match kind.as_str() {
            "local" => read(&directory.join(local_path(workspace, config)))?,
            "http" => fetch(config)?,
            _ => return None,
        },
    };
    version_in(&String::from_utf8_lossy(&head))
}

/// Where the `local` backend keeps the state of a workspace, relative to the directory of the stack.
fn local_path(workspace: &str, config: &Value) -> PathBuf {
    let text = |name: &str, default: &'static str| {
        let given = config.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        given.unwrap_or(default).to_owned()
    };
    if workspace == "default" {
        text("path", "terraform.tfstate").into()
    } else {
        Path::new(&text("workspace_dir", "terraform.tfstate.d")).join(workspace).join("terraform.tfstate")
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}

fn fetch(config: &Value) -> Option<Vec<u8>> {
    let address = config.get("address")?.as_str()?;
    let request = authorized(config, ureq::http::Request::builder().method("GET").uri(address)).body(()).ok()?;
    let mut response = agent().run(request).ok()?;
    let mut head = Vec::new();
    response.body_mut().as_reader().take(HEAD).read_to_end(&mut head).ok()?;
    (response.status().as_u16() == 200).then_some(head)
}

/// The first `"terraform_version": "…"` in the text of a state.
fn version_in(head: &str) -> Option<String> {
    let (_, rest) = head.split_once("\"terraform_version\"")?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    Some(value.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_version_is_found_where_the_state_lies() {
        let directory = tempfile::tempdir().unwrap();
        let check =
            |workspace: &str, recorded: Option<(&str, Value)>, file: &str, content: &str, want: Option<&str>| {
                let path = directory.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, content).unwrap();
                let recorded = recorded.map(|(kind, config)| (kind.to_owned(), config));
                let found = state_writer(directory.path(), workspace, recorded.as_ref());
                assert_eq!(found.as_deref(), want, "{workspace} {file}");
                std::fs::remove_file(path).unwrap();
            };
        let state = "{\n  \"version\": 4,\n  \"terraform_version\": \"1.9.8\",\n  \"serial\": 1\n}\n";
        check("default", None, "terraform.tfstate", state, Some("1.9.8"));
        check("default", None, "other.tfstate", state, None);
        check("tokyo", None, "terraform.tfstate.d/tokyo/terraform.tfstate", state, Some("1.9.8"));
        check("default", Some(("local", json!({ "path": "x/a.tfstate" }))), "x/a.tfstate", state, Some("1.9.8"));
        check(
            "tokyo",
            Some(("local", json!({ "path": null, "workspace_dir": "w" }))),
            "w/tokyo/terraform.tfstate",
            state,
            Some("1.9.8"),
        );
        check("default", None, "terraform.tfstate", "{\"encrypted_data\":\"x\"}", None);
        check("default", Some(("s3", json!({}))), "terraform.tfstate", state, None);
    }
}
