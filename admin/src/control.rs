//! The gateway as the admin socket sees it.

use crate::clients::ClientsReport;
use crate::error::AdminError;
use crate::groups::{GroupsReport, UpstreamsReport};
use crate::status::StatusReport;
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

    /// Returns the state of the process. This and the other reads run on a thread of their own, and
    /// may take as long as a copy of what they return.
    fn status(&self) -> StatusReport;

    /// Returns the groups.
    fn groups(&self) -> GroupsReport;

    /// Returns the upstreams of all groups.
    fn upstreams(&self) -> UpstreamsReport;

    /// Returns the clients.
    fn clients(&self) -> ClientsReport;
}
