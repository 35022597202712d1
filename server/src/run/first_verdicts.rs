//! The wait before clients are admitted: for the first results of the probes.

use gateway::Gateway;

/// Limit of the groups that are named in a warning.
const GROUPS_NAMED: usize = 20;

/// Starts the probes, and waits until it is known for each group whether it can serve: clients who
/// are admitted before would be refused. The wait is bounded; after it the gateway serves as it is,
/// and a warning names the groups of which nothing is known.
pub(super) async fn first_verdicts(gateway: &Gateway) {
    let balancer = gateway.shared().balancer();
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
        "the first probes are slow; these groups refuse clients until a probe passes"
    );
}
