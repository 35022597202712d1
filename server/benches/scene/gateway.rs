//! The gateway of the benchmarks that run in memory: its certificate, its policy and its clients'
//! trust.

use std::path::Path;
use std::sync::Arc;

use certgen::{Authority, Overwrite};
use gateway::snapshot::GatewaySnapshot;
use gateway::tls_files::settings_files;
use lb::LoadBalancer;
use policy::Policy;
use rustls::RootCertStore;
use rustls_pki_types::UnixTime;
use tls::TlsSettings;

/// Port that the clients connect to.
pub(crate) const PORT: u16 = 8443;
/// A policy with the group `db`, up to its clients.
const POLICY: &str = "version: 1
gateway:
  listen: ['127.0.0.1:8443']
  tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
groups:
  db: {upstreams: ['127.0.0.1:1'], health: {check: off}}
clients:
";

/// Returns a policy in which these clients may reach `db`.
pub(crate) fn policy(clients: impl IntoIterator<Item = String>) -> Policy {
    let clients = clients
        .into_iter()
        .map(|name| format!("  {name}: {{groups: [db]}}\n"));
    let text = POLICY.to_owned() + &clients.collect::<String>();
    Policy::parse("policy.yaml", &text).expect("a valid policy")
}

/// Saves the authority and a certificate of the gateway in `dir`.
pub(crate) fn save(authority: &Authority, dir: &Path) {
    let own = authority.server(&["db"]).expect("a certificate");
    let saved = authority.save(dir, Overwrite::Refuse);
    saved.expect("a folder that takes files");
    let saved = own.save(dir, "server", Overwrite::Refuse);
    saved.expect("a folder that takes files");
}

/// Loads the policy with the files in `dir`.
pub(crate) fn load(policy: Policy, dir: &Path) -> Arc<GatewaySnapshot> {
    let tls = TlsSettings::load(&settings_files(&policy.gateway().tls, dir), UnixTime::now())
        .expect("what was saved");
    let balancer = LoadBalancer::default();
    Arc::new(GatewaySnapshot::first(policy, Arc::new(tls), &balancer))
}

/// Returns a client's trust in the gateway's authority.
pub(crate) fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let root = roots.add(authority.certificate_der().clone());
    root.expect("the authority is an anchor");
    roots
}
