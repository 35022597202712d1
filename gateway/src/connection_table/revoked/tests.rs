//! How connections end whose permits have lapsed.

use tokio::time::timeout;

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

/// Connections of this process, and how many of them are told to end.
fn lapsed(count: usize) -> (RevokedConnections, impl Fn() -> usize) {
    let tokens: Vec<_> = (0..count).map(|_| CancellationToken::new()).collect();
    let connections = tokens.iter().cloned().map(EndSignal::Local).collect();
    let ended = move || tokens.iter().filter(|one| one.is_cancelled()).count();
    (RevokedConnections { connections }, ended)
}

#[tokio::test(start_paused = true)]
async fn connections_that_lapse_together_end_one_after_the_other() {
    for (how, wait) in [
        (OnRevoke::Cut, Duration::ZERO),
        (OnRevoke::Drain, Duration::from_secs(7)),
    ] {
        let (lapsed, ended) = lapsed(4);
        assert_eq!((lapsed.len(), lapsed.is_empty()), (4, false));
        let ending = lapsed.end(how, Duration::from_secs(7));
        tokio::pin!(ending);
        assert!(timeout(wait + MOMENT, &mut ending).await.is_err());
        for number in 1..4 {
            assert_eq!(ended(), number, "{how:?}");
            assert!(timeout(END_SPREAD / 4, &mut ending).await.is_err() || number == 3);
        }
        assert_eq!(ended(), 4, "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_kept_if_the_policy_wants_that() {
    let (kept, ended) = lapsed(1);
    kept.end(OnRevoke::Keep, Duration::ZERO).await;
    assert_eq!(ended(), 0);
    assert!(lapsed(0).0.is_empty());
}
