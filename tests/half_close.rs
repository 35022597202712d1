//! What one side has finished the other learns, and nothing that broke looks finished.

use tokio::io::AsyncWriteExt;

use crate::harness::{Refusal, Upstream, World, until};

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut connection = world.visit(&gateway, "alice").await;

    connection.say("last words").await.unwrap();
    connection.finish().await;

    assert_eq!(connection.hear().await.unwrap(), "a: last words");
    assert_eq!(
        connection.hear().await.unwrap(),
        "bye",
        "the upstream saw the end"
    );
    assert_eq!(connection.end().await, Refusal::Closed);
    assert_eq!(gateway.record_of(&connection).await["reason"], "finished");
}

#[tokio::test]
async fn an_upstream_that_has_said_all_still_hears_the_client() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut connection = world.visit(&gateway, "alice").await;

    connection.say("close").await.unwrap();
    assert_eq!(
        connection.end().await,
        Refusal::Closed,
        "the upstream's end is a close_notify"
    );
    connection.finish().await;
    assert_eq!(gateway.record_of(&connection).await["reason"], "finished");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_never_looks_finished() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut connection = world.visit(&gateway, "alice").await;

    connection.say("reset").await.unwrap();

    assert_eq!(connection.end().await, Refusal::Reset);
    assert_eq!(
        gateway.record_of(&connection).await["reason"],
        "upstream_broke_off"
    );
}

#[tokio::test]
async fn a_client_that_breaks_off_never_looks_finished() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut connection = world.visit(&gateway, "alice").await;

    // A FIN that no close_notify announced: anybody on the way could have sent it.
    connection.socket().shutdown().await.unwrap();

    until(async || (upstream.broken() == 1).then_some(())).await;
    assert_eq!(
        gateway.record_of(&connection).await["reason"],
        "client_broke_off"
    );
}
