//! The gateway as the admin socket sees it.

use crate::error::AdminError;
use crate::upgrade_request::{UpgradeReport, UpgradeRequest};

/// The running gateway: what the requests at the [`AdminSocket`](crate::AdminSocket) ask of it.
pub trait GatewayControl: Send + Sync + 'static {
    /// Replaces this process by a new one, and returns when that serves.
    ///
    /// # Errors
    ///
    /// [`AdminError::Upgrade`] if this process goes on serving, [`AdminError::Ending`] if it is
    /// about to end.
    fn upgrade(
        &self,
        request: UpgradeRequest,
    ) -> impl Future<Output = Result<UpgradeReport, AdminError>> + Send;
}
