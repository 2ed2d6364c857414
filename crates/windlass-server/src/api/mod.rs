//! The JSON API, below `/api/v1`. A handler reads the request, calls one use case and writes the answer; nothing is decided here.

mod access;
mod artefacts;
mod audit;
mod changes;
mod ci;
mod events;
mod logins;
mod logs;
mod me;
mod notifiers;
pub mod openapi;
mod operations;
mod projects;
mod request;
mod reviews;
mod runs;
mod schedules;
pub(crate) mod stacks;
mod tokens;
mod workers;

use crate::routes::Routes;
use axum::http::HeaderValue;
use request::{Asked, Body, Listed, Paged, limit, nonsense};
use windlass_app::error::{AppResult, internal};

/// All endpoints of the API.
pub fn routes(routes: Routes) -> Routes {
    let routes = projects::routes(routes);
    let routes = stacks::routes(routes);
    let routes = changes::routes(reviews::routes(routes));
    let routes = runs::routes(routes);
    let routes = schedules::routes(operations::routes(routes));
    let routes = artefacts::routes(logs::routes(routes));
    let routes = events::routes(routes);
    let routes = access::routes(routes);
    let routes = logins::routes(tokens::routes(me::routes(ci::routes(routes))));
    let routes = notifiers::routes(workers::routes(audit::routes(routes)));
    openapi::routes(routes)
}

/// Values of the model, which programs get as the terminal prints them with `--json`: the model does not know of schemas.
macro_rules! of_model {
    ($($(#[$about:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = Object)]
        pub struct $name(pub $inner);
    )*};
}
use of_model;

/// What tells a browser to save an answer, and under which name: the characters of it that mean nothing anywhere.
fn attachment(name: &str) -> AppResult<HeaderValue> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name = name.chars().map(plain).collect::<String>();
    // One that begins with a dot is hidden, or is no file at all.
    let name = format!("{}{}", if name.starts_with('.') || name.is_empty() { "-" } else { "" }, name);
    HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")).map_err(internal)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_to_save_under_means_nothing_else() {
        let check = |name: &str, want: &str| {
            let header = super::attachment(name).unwrap();
            assert_eq!(header.to_str().unwrap(), format!("attachment; filename=\"{want}\""), "{name}");
        };
        check("dump-2.tar.gz", "dump-2.tar.gz");
        check("a\"; filename=\"b.html", "a---filename--b.html");
        check("..\\..\\a", "-..-..-a");
        check(".bashrc", "-.bashrc");
        check("été\r\nSet-Cookie: a=b", "-t---Set-Cookie--a-b");
        check("", "-");
    }
}
