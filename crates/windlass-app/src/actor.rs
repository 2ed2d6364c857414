//! Who acts in a local run, and where: the operating-system user with the identity git knows. Nobody has checked either, so it is
//! recorded as unverified.

use windlass_drivers::git::GitRepository;
use windlass_model::approval::Actor;

pub fn local(git: Option<&GitRepository>) -> Actor {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let name = user.map_or_else(|| format!("uid-{}", nix::unistd::getuid()), |user| user.name);
    let mut identities = vec![format!("user:{name}")];
    if let Some(identity) = git.and_then(GitRepository::user_identity)
        && let Some(mail) = identity.rsplit_once('<').and_then(|(_, rest)| rest.strip_suffix('>'))
    {
        identities.push(format!("email:{mail}"));
    }
    Actor { name, identities, verified: false }
}

/// What this machine is called.
pub fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}
