//! A gateway for tests of the process around it.

use std::sync::Arc;

use crate::load;
use crate::test_support::GatewayFiles;
use gateway::Gateway;
use gateway::access_record::Recorder;

/// A gateway that listens nowhere, and its files.
pub(super) fn gateway() -> (GatewayFiles, Arc<Gateway>) {
    let files = GatewayFiles::with_clients("{}");
    let loaded = load::read(&files.dir().join("policy.yaml")).unwrap();
    let gateway = Gateway::new(loaded, Recorder::new(files.sink()));
    (files, gateway)
}
