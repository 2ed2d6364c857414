//! Where a state lives: one normalised address per backend kind, equal for the writer and for everyone who reads it.

use crate::eval::Value;
use crate::tree::join;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Evaluated arguments of a backend or of a remote state's `config`.
pub type Config = BTreeMap<String, Value>;

/// The address, e.g. `s3:bucket/env:/prod/key`; or why a part of it is not known. Paths of the `local` backend are relative to
/// `root`, the directory of the root module, and come out relative to the repository.
///
/// # Errors
/// The reason, in words that follow "because".
pub fn address(backend: &str, config: &Config, workspace: &Value, root: &str) -> Result<Arc<str>, Arc<str>> {
    let workspace = match workspace {
        Value::Null => Arc::from("default"),
        Value::Unknown(why) => return Err(why.clone()),
        value => value.as_text().ok_or("the workspace is no text")?,
    };
    let default = &*workspace == "default";
    let required = |name: &str| match config.get(name) {
        None | Some(Value::Null) => {
            Err(Arc::from(format!("`{name}` of backend \"{backend}\" is not given in the configuration")))
        }
        Some(Value::Unknown(why)) => Err(why.clone()),
        Some(value) => {
            value.as_text().ok_or_else(|| Arc::from(format!("`{name}` of backend \"{backend}\" is no text")))
        }
    };
    let optional = |name: &str, default: &str| match config.get(name) {
        None | Some(Value::Null) => Ok(Arc::from(default)),
        Some(_) => required(name),
    };
    let trim = |text: &Arc<str>| text.trim_matches('/').to_owned();
    let address = match backend {
        "local" => {
            let path = if default {
                optional("path", "terraform.tfstate")?.to_string()
            } else {
                format!("{}/{workspace}/terraform.tfstate", optional("workspace_dir", "terraform.tfstate.d")?)
            };
            match join(root, &path) {
                Some(path) => format!("local:{path}"),
                // Outside the repository: two stacks that name it alike still share it only when it is absolute.
                None if path.starts_with('/') => format!("local:{path}"),
                None => format!("local:{root}/{path}"),
            }
        }
        "s3" => {
            let (bucket, key) = (required("bucket")?, trim(&required("key")?));
            if default {
                format!("s3:{bucket}/{key}")
            } else {
                format!("s3:{bucket}/{}/{workspace}/{key}", optional("workspace_key_prefix", "env:")?)
            }
        }
        "gcs" => {
            let prefix = trim(&optional("prefix", "")?);
            let slash = if prefix.is_empty() { "" } else { "/" };
            format!("gcs:{}/{prefix}{slash}{workspace}.tfstate", required("bucket")?)
        }
        "azurerm" => {
            let suffix = if default { String::new() } else { format!("env:{workspace}") };
            format!(
                "azurerm:{}/{}/{}{suffix}",
                required("storage_account_name")?,
                required("container_name")?,
                required("key")?
            )
        }
        "http" => format!("http:{}", required("address")?),
        "pg" => format!(
            "pg:{}/{}/{workspace}",
            optional("conn_str", "")?,
            optional("schema_name", "terraform_remote_state")?
        ),
        "consul" => {
            let suffix = if default { String::new() } else { format!("-env:{workspace}") };
            format!("consul:{}/{}{suffix}", optional("address", "")?, trim(&required("path")?))
        }
        "kubernetes" => format!(
            "kubernetes:{}/tfstate-{workspace}-{}",
            optional("namespace", "default")?,
            required("secret_suffix")?
        ),
        "cos" => {
            let prefix = trim(&optional("prefix", "")?);
            let key = optional("key", "terraform.tfstate")?;
            let workspace = if default { String::new() } else { format!("{workspace}/") };
            format!("cos:{}/{prefix}/{workspace}{key}", required("bucket")?)
        }
        "oss" => {
            let prefix = trim(&optional("prefix", "env:")?);
            let key = optional("key", "terraform.tfstate")?;
            let workspace = if default { String::new() } else { format!("{workspace}/") };
            format!("oss:{}/{prefix}/{workspace}{key}", required("bucket")?)
        }
        "remote" | "cloud" => {
            let workspaces = match config.get("workspaces") {
                Some(Value::Unknown(why)) => return Err(why.clone()),
                Some(Value::Object(object)) => object.clone(),
                // A block that is written once is an object, the attribute form may be a list of one.
                Some(Value::List(items)) => match items.first() {
                    Some(Value::Object(object)) => object.clone(),
                    _ => BTreeMap::new(),
                },
                _ => BTreeMap::new(),
            };
            let part = |name: &str| match workspaces.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::Unknown(why)) => Err(why.clone()),
                Some(value) => Ok(value.as_text()),
            };
            let name = match (part("name")?, part("prefix")?) {
                (Some(name), _) => name.to_string(),
                (None, Some(prefix)) => format!("{prefix}{workspace}"),
                (None, None) if !default => workspace.to_string(),
                (None, None) => {
                    return Err("the workspace of backend \"remote\" is chosen outside the configuration".into());
                }
            };
            format!("remote:{}/{}/{name}", optional("hostname", "app.terraform.io")?, required("organization")?)
        }
        other => return Err(format!("backend \"{other}\" is not known").into()),
    };
    Ok(address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(backend: &str, config: serde_json::Value, workspace: &str, want: Result<&str, &str>) {
        let Value::Object(config) = Value::from_json(&config) else { panic!("an object") };
        let found = address(backend, &config, &Value::string(workspace), "aws/network");
        match want {
            Ok(want) => assert_eq!(found.as_deref(), Ok(want)),
            Err(why) => assert!(found.clone().is_err_and(|e| e.contains(why)), "{found:?}"),
        }
    }

    #[test]
    fn every_backend_has_one_address() {
        use serde_json::json;
        check("local", json!({}), "default", Ok("local:aws/network/terraform.tfstate"));
        check("local", json!({"path": "../db/terraform.tfstate"}), "default", Ok("local:aws/db/terraform.tfstate"));
        check("local", json!({}), "tokyo", Ok("local:aws/network/terraform.tfstate.d/tokyo/terraform.tfstate"));
        check(
            "local",
            json!({"workspace_dir": "../db/states"}),
            "tokyo",
            Ok("local:aws/db/states/tokyo/terraform.tfstate"),
        );
        check("s3", json!({"bucket": "b", "key": "/k"}), "default", Ok("s3:b/k"));
        check("s3", json!({"bucket": "b", "key": "k"}), "prod", Ok("s3:b/env:/prod/k"));
        check("s3", json!({"bucket": "b"}), "default", Err("`key` of backend \"s3\" is not given"));
        check("gcs", json!({"bucket": "b", "prefix": "p/"}), "default", Ok("gcs:b/p/default.tfstate"));
        check(
            "azurerm",
            json!({"storage_account_name": "a", "container_name": "c", "key": "k"}),
            "x",
            Ok("azurerm:a/c/kenv:x"),
        );
        check("http", json!({"address": "https://e/s"}), "default", Ok("http:https://e/s"));
        check(
            "pg",
            json!({"conn_str": "postgres://h/d"}),
            "default",
            Ok("pg:postgres://h/d/terraform_remote_state/default"),
        );
        check("consul", json!({"path": "p"}), "w", Ok("consul:/p-env:w"));
        check("kubernetes", json!({"secret_suffix": "s"}), "default", Ok("kubernetes:default/tfstate-default-s"));
        check("cos", json!({"bucket": "b", "prefix": "p"}), "default", Ok("cos:b/p/terraform.tfstate"));
        check("oss", json!({"bucket": "b"}), "w", Ok("oss:b/env:/w/terraform.tfstate"));
        check(
            "remote",
            json!({"organization": "o", "workspaces": {"prefix": "net-"}}),
            "prod",
            Ok("remote:app.terraform.io/o/net-prod"),
        );
        check(
            "cloud",
            json!({"organization": "o", "workspaces": {"name": "n"}}),
            "default",
            Ok("remote:app.terraform.io/o/n"),
        );
        check("swift", json!({}), "default", Err("is not known"));
    }
}
