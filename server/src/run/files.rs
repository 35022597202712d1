//! Paths of the files that a policy names.

use std::path::{Path, PathBuf};

use ebpf::Role;

use crate::load::base;
use policy::Policy;

/// Returns the path of the admin socket; `None` if the policy has none. The name of a standby's
/// ends with `.standby`, so that it and the primary can both be reached.
pub(super) fn admin_path(file: &Path, policy: &Policy, role: Role) -> Option<PathBuf> {
    let socket = policy.gateway().admin.as_ref()?;
    let mut path = base(file).join(socket).into_os_string();
    if role == Role::Standby {
        path.push(".standby");
    }
    Some(path.into())
}

/// Returns the policy's file and the files that it names.
pub(super) fn files(path: &Path, policy: &Policy) -> Vec<PathBuf> {
    let tls = &policy.gateway().tls;
    let named = [&tls.certificate, &tls.key, &tls.client_ca]
        .into_iter()
        .chain(&tls.crl);
    std::iter::once(path.to_owned())
        .chain(named.map(|file| base(path).join(file)))
        .collect()
}
