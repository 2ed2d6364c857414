//! The description of the API (OpenAPI 3.1), made from the handlers and from who may use each endpoint. It is checked in, so that
//! a change of the API is seen in its review.

use super::{
    access, artefacts, audit, changes, ci, events, logins, logs, me, notifiers, operations, projects, reviews, runs,
    schedules, stacks, tokens, workers,
};
use crate::problem::Problem;
use crate::routes::{Endpoint, Guard, Routes};
use axum::http::{Method, header};
use axum::routing::get;
use serde_json::{Value, json};
use utoipa::OpenApi;
use windlass_model::access::{Permission, Role};

/// As it is served.
const CHECKED_IN: &str = include_str!("../../openapi.json");

pub fn routes(routes: Routes) -> Routes {
    let served = || async { ([(header::CONTENT_TYPE, "application/json")], CHECKED_IN) };
    routes.add(Method::GET, "/api/v1/openapi.json", Guard::Public, get(served))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Windlass",
        version = "1",
        description = "What the service does, for programs. Lists are read on by their `next` as `cursor`. Errors are problem \
                       documents (RFC 9457) with the code of a diagnostic. What one may not see is not found.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        projects::list,
        projects::show,
        projects::fetch,
        stacks::list,
        stacks::graph,
        stacks::show,
        stacks::applied,
        stacks::drift_list,
        stacks::drift_start,
        stacks::lock_list,
        stacks::lock_take_away,
        stacks::quarantine_list,
        stacks::quarantine_release,
        stacks::quarantine_push,
        stacks::quarantine_unlock,
        stacks::waiver_list,
        changes::list,
        changes::show,
        changes::environments,
        reviews::list,
        reviews::start,
        reviews::show,
        reviews::approve,
        reviews::refuse,
        reviews::waivable,
        reviews::waive,
        reviews::apply,
        runs::list,
        runs::show,
        runs::steps,
        runs::diff,
        runs::cancel,
        runs::halt,
        runs::resume,
        runs::repeat,
        runs::approve,
        operations::list,
        operations::show,
        operations::form,
        operations::start,
        operations::go_on,
        operations::answer,
        operations::run_show,
        operations::compare,
        schedules::list,
        schedules::pause,
        schedules::resume,
        schedules::backfill,
        schedules::starts,
        schedules::start_at,
        schedules::cancel,
        logs::show,
        logs::live,
        artefacts::list,
        artefacts::show,
        events::list,
        events::feed,
        events::run_stream,
        events::review_stream,
        access::explain,
        tokens::list,
        tokens::create,
        tokens::revoke,
        tokens::end,
        logins::begin,
        logins::poll,
        me::me,
        ci::exchange,
        audit::export,
        audit::seals,
        audit::checkpoint,
        workers::list,
        notifiers::list,
        notifiers::try_out,
    ),
    components(schemas(Problem))
)]
struct Described;

/// A path as OpenAPI writes it: what takes slashes has no star there.
fn path(endpoint: &Endpoint) -> String {
    endpoint.path.replace("{*", "{")
}

/// Who may use an endpoint, in words.
pub fn who(guard: Guard) -> String {
    match guard {
        Guard::Public => "Everybody who reaches the server.".to_owned(),
        Guard::SignedIn => "Everybody who is signed in; the answer has what they may see.".to_owned(),
        Guard::Server(permission) => format!("Who has `{permission}` for the server."),
        Guard::Project(permission) => format!("Who has `{permission}` in the project."),
        Guard::Within(permission) => format!("Who has `{permission}` on what it is about."),
    }
}

/// The description of the endpoints of the API in `table`.
///
/// # Errors
/// It has endpoints that are not described, or describes some that are not there; one line each.
pub fn document(table: &[Endpoint]) -> Result<Value, Vec<String>> {
    let mut document = serde_json::to_value(Described::openapi()).map_err(|error| vec![error.to_string()])?;
    let mut wrong = Vec::new();
    let mut described: Vec<(String, String)> = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        described
            .extend(item.as_object().into_iter().flatten().map(|(method, _)| (method.to_uppercase(), path.clone())));
    }
    let of_api =
        |endpoint: &&Endpoint| endpoint.path.starts_with("/api/v1/") && endpoint.path != "/api/v1/openapi.json";
    for endpoint in table.iter().filter(of_api) {
        let (method, path) = (endpoint.method.to_lowercase(), path(endpoint));
        described.retain(|(m, p)| (m, p) != (&endpoint.method, &path));
        match document["paths"].get_mut(&path).and_then(|item| item.get_mut(&method)) {
            Some(operation) => complete(operation, endpoint),
            None => wrong.push(format!(
                "{} {} is not described: name its handler in api/openapi.rs",
                endpoint.method, endpoint.path
            )),
        }
    }
    wrong.extend(described.into_iter().map(|(method, path)| format!("{method} {path} is described and not there")));
    document["components"]["securitySchemes"] = json!({
        "token": { "type": "http", "scheme": "bearer", "description": "An API token, or the short one of a job." },
        "session": { "type": "apiKey", "in": "cookie", "name": "windlass",
            "description": "The session of a browser (`__Host-windlass` under https). Requests that change something also carry \
                            its token as `X-CSRF-Token`." },
    });
    document["servers"] = json!([{ "url": "/" }]);
    if wrong.is_empty() { Ok(document) } else { Err(wrong) }
}

/// Adds to an operation what follows from its endpoint.
fn complete(operation: &mut Value, endpoint: &Endpoint) {
    let about = operation["description"].as_str().map(|text| format!("{text}\n\n")).unwrap_or_default();
    operation["description"] = format!("{about}For: {}", who(endpoint.guard)).into();
    operation["security"] = match endpoint.guard {
        Guard::Public => json!([]),
        _ => json!([{ "token": [] }, { "session": [] }]),
    };
    operation["x-guard"] = json!(endpoint.guard);
    for (_, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = "As asked for".into();
        }
    }
    operation["responses"]["default"] = json!({
        "description": "It went wrong, or may not be",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    if endpoint.once {
        let key = json!({
            "name": "Idempotency-Key", "in": "header", "required": false, "schema": { "type": "string", "maxLength": 200 },
            "description": "With the same key it is done once, and the same answer comes again for 24 hours.",
        });
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.push(key),
            None => operation["parameters"] = json!([key]),
        }
    }
}

/// Who may use which endpoint, as a Markdown table: by the role that somebody has in the project it is about.
pub fn matrix(table: &[Endpoint]) -> String {
    let mut rows: Vec<String> = table.iter().map(row).collect();
    rows.sort();
    let head = "| endpoint | for | nobody | signed in | viewer | developer | operator | admin | server's admins |\n\
                |---|---|---|---|---|---|---|---|---|\n";
    format!("{head}{}", rows.concat())
}

fn row(endpoint: &Endpoint) -> String {
    let (permission, nobody, signed_in) = match endpoint.guard {
        Guard::Public => (None, true, true),
        Guard::SignedIn => (None, false, true),
        Guard::Server(permission) | Guard::Project(permission) | Guard::Within(permission) => {
            (Some(permission), false, false)
        }
    };
    let yes = |yes: bool| if yes { " yes |" } else { " |" };
    // What is asked for the server no project can give, whatever the permission is of.
    let of_server = matches!(endpoint.guard, Guard::Server(_));
    let has = |role: Role| !of_server && permission.is_none_or(|permission| role.has(permission));
    let roles: String = Role::ALL.iter().map(|role| yes(has(*role))).collect();
    let name = permission.map_or_else(
        || if nobody { "everybody".to_owned() } else { "who is signed in".to_owned() },
        |permission: Permission| format!("`{permission}`"),
    );
    let (nobody, signed_in) = (yes(nobody), yes(signed_in));
    format!("| `{} {}` | {name} |{nobody}{signed_in}{roles} yes |\n", endpoint.method, endpoint.path)
}
