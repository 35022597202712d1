//! What is waited for before clients are admitted: the first word of the probes.

use crate::gateway::Gateway;

/// How many groups of which nothing is known are named, at most.
const GROUPS_NAMED: usize = 20;

/// Starts the probes, and waits until they have found out for each group whether it can serve: clients who
/// are admitted before would be refused. The wait is bounded; after it the gateway serves as it is.
pub(super) async fn first_verdicts(gateway: &Gateway) {
    let balancer = gateway.balancer();
    balancer
        .start()
        .expect("a runtime calls this, and nothing has ended yet");
    let undecided = balancer.first_verdicts().await;
    if undecided.is_empty() {
        return;
    }
    let named: Vec<&str> = undecided.iter().map(|name| &**name).collect();
    tracing::warn!(
        count = named.len(),
        groups = named[..named.len().min(GROUPS_NAMED)].join(" "),
        "the first probes take long; these groups refuse clients until one passes"
    );
}
