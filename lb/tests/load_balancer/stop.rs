//! Stops of the load balancer, and connections that are cancelled.

use super::*;

#[tokio::test]
async fn a_stop_lets_open_connections_finish_and_turns_new_ones_away() {
    let world = World::new(Vec::new());
    let echo = world.echo().await;
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &[echo]))])
        .unwrap();
    world.balancer.start().unwrap();
    let (mut early, handled) = world.connected("billing", "ledger").await;
    let balancer = Arc::clone(&world.balancer);
    let stopping = world.tasks.spawn(async move { balancer.stop(BOUND).await });
    while !matches!(
        world.rejected_or_none("billing", "ledger").await,
        Some(StreamRejection::Stopping)
    ) {}
    assert_eq!(exchange(&mut early, b"during").await.unwrap(), b"during");
    finish(early, handled).await;
    assert_eq!(
        timeout(BOUND, stopping).await.unwrap().unwrap(),
        Drained::Clean
    );
}

impl World {
    /// Why the client was turned away, or `None` if it was not and left by itself.
    async fn rejected_or_none(
        &self,
        client: &'static str,
        group: &'static str,
    ) -> Option<StreamRejection> {
        let (mut stream, handled) = self.connect(client, group).await;
        stream.shutdown().await.ok();
        timeout(BOUND, handled).await.unwrap().unwrap().err()
    }
}

#[tokio::test]
async fn a_stop_cuts_off_who_is_still_there_after_the_deadline() {
    let world = World::new(Vec::new());
    let echo = world.echo().await;
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &[echo]))])
        .unwrap();
    let (mut stream, handled) = world.connected("billing", "ledger").await;
    let drained = timeout(BOUND, world.balancer.stop(Duration::from_millis(20)))
        .await
        .unwrap();
    assert_eq!(drained, Drained::CutOff { connections: 1 });
    let ended = handled.await.unwrap().unwrap();
    assert!(matches!(ended.outcome, StreamOutcome::CutOff), "{ended:?}");
    assert_eq!((ended.sent, ended.received), (5, 5));
    let reset = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(world.open("ledger"), 0);
}

#[tokio::test]
async fn a_cancelled_connection_is_reset_and_returns_everything() {
    let world = World::new(Vec::new());
    let echo = world.echo().await;
    world
        .balancer
        .apply([BalancerChange::PutGroup(unprobed("ledger", &[echo]))])
        .unwrap();
    let (mut stream, handled) = world.connected("billing", "ledger").await;
    handled.abort();
    assert!(handled.await.unwrap_err().is_cancelled());
    let reset = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((world.open("ledger"), world.balancer.open()), (0, 0));
    assert_eq!(world.balancer.limiter().clients(), 0);
}
