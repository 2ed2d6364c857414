//! Addresses of repositories.

/// Host (lower case) and path of an address, whatever way leads there, without `.git`; `None` for a path of this machine.
pub fn place(url: &str) -> Option<(String, String)> {
    let rest = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.to_owned(),
        None => {
            let (host, path) = url.split_once(':').filter(|(host, _)| !host.contains('/'))?;
            format!("{host}/{path}")
        }
    };
    let (authority, path) = rest.split_once('/')?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let path = path.trim_matches('/');
    Some((host.to_lowercase(), path.strip_suffix(".git").unwrap_or(path).to_owned()))
}
