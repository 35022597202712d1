//! A gateway for tests of the process around it.

use std::sync::Arc;

use crate::access_record::Recorder;
use crate::gateway::Gateway;
use crate::load;
use crate::test_support::GatewayFiles;

const POLICY: &str = "
version: 1
gateway:
  listen: ['127.0.0.1:0']
  tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
groups:
  db: {upstreams: ['127.0.0.1:1'], health: {check: off}}
clients: {}
";

/// A gateway that listens nowhere, and its files.
pub(super) fn gateway() -> (GatewayFiles, Arc<Gateway>) {
    let files = GatewayFiles::new(POLICY);
    let loaded = load::read(&files.policy()).unwrap();
    let gateway = Gateway::new(loaded, Recorder::new(files.sink()));
    (files, gateway)
}
