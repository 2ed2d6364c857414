//! What the API refuses, by the documented rules of names, labels, Jobs and Secrets.

use serde_json::Value;

/// Checks an object that is to be made; an error names the field.
pub fn created(plural: &str, object: &Value) -> Result<(), String> {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().ok_or("metadata.name: Required value: name or generateName is required")?;
    if !is_subdomain(name) {
        return Err(format!(
            "metadata.name: Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of …"
        ));
    }
    of_metadata("metadata", metadata)?;
    match plural {
        "jobs" => job(name, &object["spec"]),
        "secrets" => secret(object),
        _ => Err(format!("{plural} are not made by users here")),
    }
}

/// Checks a changed object against what it was.
pub fn updated(old: &Value, new: &Value) -> Result<(), String> {
    for field in ["/spec/template", "/spec/selector", "/spec/completions", "/metadata/uid", "/metadata/name"] {
        if old.pointer(field) != new.pointer(field) {
            return Err(format!("{}: Invalid value: field is immutable", field[1..].replace('/', ".")));
        }
    }
    of_metadata("metadata", &new["metadata"])
}

fn of_metadata(at: &str, metadata: &Value) -> Result<(), String> {
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        let value = value.as_str().ok_or_else(|| format!("{at}.labels: a value is no string"))?;
        if !is_qualified(key) {
            return Err(format!("{at}.labels: Invalid value: {key:?}: name part must consist of …"));
        }
        if !(value.is_empty() || is_label(value)) {
            return Err(format!(
                "{at}.labels: Invalid value: {value:?}: must be no more than 63 characters, a valid label …"
            ));
        }
    }
    for key in metadata["annotations"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if !is_qualified(&key.to_lowercase()) {
            return Err(format!("{at}.annotations: Invalid value: {key:?}"));
        }
    }
    Ok(())
}

fn job(name: &str, spec: &Value) -> Result<(), String> {
    // Its pods get the name as a label.
    if name.len() > 63 {
        return Err("spec.template.labels: Invalid value: must be no more than 63 characters".into());
    }
    for field in ["backoffLimit", "ttlSecondsAfterFinished", "parallelism", "completions", "activeDeadlineSeconds"] {
        if spec[field].as_i64().is_some_and(|number| number < 0) || spec[field].is_f64() || spec[field].is_string() {
            return Err(format!("spec.{field}: Invalid value: must be greater than or equal to 0"));
        }
    }
    one_of("spec.podReplacementPolicy", &spec["podReplacementPolicy"], &["Failed", "TerminatingOrFailed"])?;
    of_metadata("spec.template", &spec["template"]["metadata"])?;
    let pod = &spec["template"]["spec"];
    if !pod["restartPolicy"].is_string() {
        return Err("spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"".into());
    }
    one_of("spec.template.spec.restartPolicy", &pod["restartPolicy"], &["OnFailure", "Never"])?;
    if pod["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        return Err("spec.template.spec.terminationGracePeriodSeconds: must be greater than or equal to 0".into());
    }
    for (key, value) in pod["nodeSelector"].as_object().into_iter().flatten() {
        if !is_qualified(key) || !value.as_str().is_some_and(|value| value.is_empty() || is_label(value)) {
            return Err(format!("spec.template.spec.nodeSelector: Invalid value: {key:?}"));
        }
    }
    if pod["serviceAccountName"].as_str().is_some_and(|name| !is_subdomain(name)) {
        return Err("spec.template.spec.serviceAccountName: Invalid value".into());
    }
    let security = &pod["securityContext"];
    if security["runAsNonRoot"] == true && security["runAsUser"] == 0 {
        return Err("spec.template.spec.securityContext: runAsNonRoot contradicts runAsUser".into());
    }
    let containers = pod["containers"].as_array().filter(|all| !all.is_empty());
    for container in containers.ok_or("spec.template.spec.containers: Required value")? {
        of_container(pod, container).map_err(|why| format!("spec.template.spec.containers[0].{why}"))?;
    }
    Ok(())
}

fn of_container(pod: &Value, container: &Value) -> Result<(), String> {
    if !container["name"].as_str().is_some_and(is_dns_label) {
        return Err("name: Required value".into());
    }
    if container["image"].as_str().unwrap_or_default().is_empty() {
        return Err("image: Required value".into());
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
            return Err(format!("env[].name: Invalid value: {name:?}"));
        }
    }
    for from in container["envFrom"].as_array().into_iter().flatten() {
        if !from["secretRef"]["name"].as_str().is_some_and(is_subdomain) {
            return Err("envFrom[].secretRef.name: Required value".into());
        }
    }
    let resources = &container["resources"];
    for kind in ["limits", "requests"] {
        for (name, amount) in resources[kind].as_object().into_iter().flatten() {
            let amount =
                amount.as_str().and_then(quantity).ok_or_else(|| format!("resources.{kind}.{name}: Invalid value"))?;
            let limit = resources["limits"][name].as_str().and_then(quantity);
            if kind == "requests" && limit.is_some_and(|limit| amount > limit) {
                return Err(format!("resources.requests.{name}: must be less than or equal to {name} limit"));
            }
        }
    }
    let volumes: Vec<&Value> = pod["volumes"].as_array().into_iter().flatten().map(|volume| &volume["name"]).collect();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        if !volumes.contains(&&mount["name"]) {
            return Err(format!("volumeMounts[].name: Not found: {}", mount["name"]));
        }
        if mount["mountPath"].as_str().is_none_or(|path| path.is_empty() || path.contains(':')) {
            return Err("volumeMounts[].mountPath: Required value".into());
        }
    }
    Ok(())
}

fn secret(secret: &Value) -> Result<(), String> {
    let mut size = 0;
    for (key, value) in secret["data"].as_object().into_iter().flatten() {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if key.is_empty() || key.len() > 253 || !key.bytes().all(fine) {
            return Err(format!("data[{key}]: Invalid value: a valid config key must consist of …"));
        }
        size += value.as_str().map_or(0, |text| text.len() * 3 / 4);
    }
    if size > 1 << 20 {
        return Err("data: Too long: may not be more than 1048576 bytes".into());
    }
    for owner in secret["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
        if ["apiVersion", "kind", "name", "uid"].iter().any(|field| owner[*field].as_str().is_none_or(str::is_empty)) {
            return Err("metadata.ownerReferences: uid, kind, name and apiVersion must not be empty".into());
        }
    }
    Ok(())
}

fn one_of(field: &str, value: &Value, known: &[&str]) -> Result<(), String> {
    match value.as_str() {
        Some(text) if !known.contains(&text) => Err(format!("{field}: Unsupported value: {text:?}")),
        _ => Ok(()),
    }
}

/// The number that a quantity such as `64Mi` or `500m` is.
pub fn quantity(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let factor = match &text[digits..] {
        "" => 1.0,
        "m" => 0.001,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(text[..digits].parse::<f64>().ok()? * factor)
}

fn is_dns_label(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label(name),
        None => is_label(key),
    }
}
