//! The running gateway behind its admin socket.

use admin::{AdminError, GatewayControl, UpgradeReport, UpgradeRequest};
use tokio::sync::{mpsc, oneshot};

use crate::upgrade::UpgradeError;

/// Request for an upgrade, with the channel for its answer.
#[derive(Debug)]
pub(super) struct PendingRequest {
    /// The upgrade that is requested.
    pub(super) upgrade: UpgradeRequest,
    /// Channel for the result.
    pub(super) answer: oneshot::Sender<Result<UpgradeReport, UpgradeError>>,
}

/// Answers what is asked at the admin socket.
#[derive(Debug)]
pub(super) struct AdminControl {
    pub(super) upgrade_requests: mpsc::Sender<PendingRequest>,
}

impl GatewayControl for AdminControl {
    async fn upgrade(&self, upgrade: UpgradeRequest) -> Result<UpgradeReport, AdminError> {
        let (answer, upgraded) = oneshot::channel();
        let request = PendingRequest { upgrade, answer };
        let sent = self.upgrade_requests.send(request).await;
        sent.map_err(|_| AdminError::Ending)?;
        let upgraded = upgraded.await.map_err(|_| AdminError::Ending)?;
        upgraded.map_err(|error| AdminError::Upgrade(error.to_string()))
    }
}
