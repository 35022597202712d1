//! Files of a gateway for tests: an authority, the gateway's certificate, and a policy.

use std::path::Path;

use certgen::{Authority, AuthoritySpec, Overwrite};
use host::log_writer::{LogOutput, Sink};
use tempfile::TempDir;

/// A policy up to its clients.
const POLICY: &str = "
version: 1
gateway:
  listen: ['127.0.0.1:0']
  tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
groups:
  db: {upstreams: ['127.0.0.1:1'], health: {check: off}}
";

/// A directory with `ca.crt`, `server.crt`, `server.key` and `policy.yaml`, which is removed on
/// drop.
pub(crate) struct GatewayFiles {
    dir: TempDir,
    policy: String,
    authority: Authority,
}

impl GatewayFiles {
    pub(crate) fn new(policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        authority.save(dir.path(), Overwrite::Refuse).unwrap();
        let own = authority.server(&["localhost"]).unwrap();
        own.save(dir.path(), "server", Overwrite::Refuse).unwrap();
        std::fs::write(dir.path().join("policy.yaml"), policy).unwrap();
        Self {
            dir,
            policy: policy.to_owned(),
            authority,
        }
    }

    /// Makes the files of a gateway with the group `db`, for these clients, in YAML.
    pub(crate) fn with_clients(clients: &str) -> Self {
        Self::new(&format!("{POLICY}clients: {clients}\n"))
    }

    /// Returns the directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the text of the policy.
    pub(crate) fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the authority that the gateway trusts.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns an output for access records, in the file `log`.
    pub(crate) fn sink(&self) -> Sink {
        Sink::open(LogOutput::File(self.dir().join("log")), |_| String::new()).unwrap()
    }
}
