//! Certificates of the demo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use certgen::{Authority, AuthoritySpec, IssuedCertificate, Overwrite};

use crate::demo::error::DemoError;
use policy::Policy;

/// Issues the gateway's certificate and one for each client of the policy, unless they exist.
pub(super) fn issue_missing(
    authority: &Authority,
    dir: &Path,
    policy: &Path,
) -> Result<(), DemoError> {
    let text = std::fs::read_to_string(policy)?;
    let policy = Policy::parse(&policy.display().to_string(), &text)
        .map_err(crate::load::LoadError::from)?;
    if !dir.join("server.crt").exists() {
        let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1", "no-such-group"]
            .map(str::to_owned)
            .into();
        for group in policy.groups() {
            names.extend(group.sni.iter().map(ToString::to_string));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        authority
            .server(&names)?
            .save(dir, "server", Overwrite::Refuse)?;
    }
    let clients: BTreeMap<_, _> = policy
        .clients()
        .map(|client| (client.name.to_string(), client))
        .collect();
    for name in clients.keys() {
        if !dir.join(format!("{name}.crt")).exists() {
            authority.client(name)?.save(dir, name, Overwrite::Refuse)?;
        }
    }
    Ok(())
}

/// Issues a client's certificate from a new authority that the gateway does not trust.
pub(super) fn stranger(name: &str) -> Result<IssuedCertificate, DemoError> {
    Ok(Authority::new(&AuthoritySpec::default())?.client(name)?)
}
