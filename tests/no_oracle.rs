//! Nobody finds out which names there are: what is seen does not depend on it.

use certgen::{Authority, AuthoritySpec};

use rustls::AlertDescription;

use crate::harness::{Gateway, Identity, Refusal, Upstream, World, until};

/// All that a client can see of a gateway that turns it away, apart from random numbers.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    certificate: Vec<u8>,
    protocol: String,
    end: Refusal,
}

/// Asks for a name and talks on until turned away.
async fn look(client: &Identity, gateway: &Gateway, name: &str) -> Seen {
    let mut connection = match client.connect(gateway.address, name).await {
        Ok(connection) => connection,
        Err(end) => {
            return Seen {
                certificate: Vec::new(),
                protocol: String::new(),
                end,
            };
        }
    };
    let certificate = connection.certificate();
    let protocol = connection.alpn().to_owned();
    let end = connection.ask("hello").await.unwrap_err();
    Seen {
        certificate,
        protocol,
        end,
    }
}

/// A gateway with groups that alice may not reach, beside `db`, which she may.
async fn gateway(world: &mut World, upstream: &Upstream, protocols: [&str; 3]) -> Gateway {
    let [db, queue, web] = protocols;
    world.group("db", &[upstream], db);
    world.group("queue", &[upstream], queue);
    let web = format!("sni: [\"*.web.test\"], {web}");
    world.group("web", &[upstream], &web);
    world.start().await
}

/// Names that are some group's, and one that is nobody's.
const NAMES: [&str; 4] = ["queue", "a.web.test", "b.c.web.test", "nowhere.test"];
const OFFERS: [&[&str]; 4] = [&[], &["amqp"], &["http/1.1", "amqp"], &["gopher"]];
const MIXED: [&str; 3] = ["", "alpn: [amqp]", "alpn: [http/1.1]"];

/// Fails if a client is answered in one way for a name and in another for another.
async fn all_look_alike(what: &str, client: &Identity, gateway: &Gateway) {
    for offer in OFFERS {
        let client = client.offering(offer);
        let there = look(&client, gateway, NAMES[0]).await;
        assert!(matches!(there.end, Refusal::Alert(_)), "{what}: {there:?}");
        for name in &NAMES[1..] {
            let seen = look(&client, gateway, name).await;
            assert_eq!(seen, there, "{what}, offering {offer:?}, asking for {name}");
        }
    }
}

#[tokio::test]
async fn names_that_exist_and_names_that_do_not_look_alike() {
    let upstream = Upstream::start("db").await;
    let stranger = Authority::new(&AuthoritySpec::default()).unwrap();
    let forged = stranger.client("alice").unwrap();
    for protocols in ["", "alpn: [amqp, http/1.1]"] {
        let mut world = World::with_db(&[&upstream]);
        let gateway = gateway(&mut world, &upstream, [protocols; 3]).await;
        let clients = [
            ("a client without the grant", world.identity("alice")),
            ("a client that nobody knows", world.identity("mallory")),
            (
                "a client of another authority",
                Identity::with_chain(&forged, &[]),
            ),
            ("a client without a certificate", Identity::nobody()),
        ];
        for (what, client) in &clients {
            all_look_alike(what, client, &gateway).await;
        }
        gateway.record_with("not_granted").await;
        gateway.record_with("unknown_sni").await;
    }
    assert_eq!(upstream.accepted(), 0);
}

/// What is answered to all offers.
async fn answers(client: &Identity, gateway: &Gateway, name: &str) -> Vec<(String, Refusal)> {
    let mut answers = Vec::new();
    for offer in OFFERS {
        let seen = look(&client.offering(offer), gateway, name).await;
        answers.push((seen.protocol, seen.end));
    }
    answers
}

#[tokio::test]
async fn protocols_that_differ_do_not_tell_names_that_exist_from_others() {
    let upstream = Upstream::start("db").await;
    let mut world = World::with_db(&[&upstream]);
    let gateway = gateway(&mut world, &upstream, MIXED).await;
    let mallory = world.identity("mallory");

    let mut unseen = Vec::new();
    for name in ["db", "queue", "a.web.test"] {
        unseen.push(answers(&mallory, &gateway, name).await);
    }
    let kinds = unseen.len();
    // Each of them is as likely as the others.
    for n in 0..100 {
        let name = format!("n{n}.test");
        let seen = answers(&mallory, &gateway, &name).await;
        if n < 10 {
            assert_eq!(answers(&mallory, &gateway, &name).await, seen, "always");
        }
        unseen.retain(|kind| *kind != seen);
        if unseen.is_empty() {
            break;
        }
    }
    assert!(
        unseen.is_empty(),
        "of {kinds} kinds nobody else is {unseen:?}"
    );
}

#[tokio::test]
async fn names_that_do_not_exist_are_answered_alike_by_the_next_process() {
    let upstream = Upstream::start("db").await;
    let mut world = World::with_db(&[&upstream]);
    let mallory = world.identity("mallory");
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let gateway = gateway(&mut world, &upstream, MIXED).await;
        let mut round = Vec::new();
        for n in 0..8 {
            round.push(answers(&mallory, &gateway, &format!("n{n}.test")).await);
        }
        rounds.push(round);
    }
    assert_eq!(rounds[0], rounds[1]);
}

#[tokio::test]
async fn a_client_that_is_denied_cannot_tell_why() {
    let upstream = Upstream::start("db").await;
    let mut world = World::with_db(&[&upstream]);
    world.client("alice", "groups: [db, web]");
    let gateway = gateway(&mut world, &upstream, MIXED).await;
    let denied = [
        ("not_granted", "alice", "queue"),
        ("unknown_sni", "alice", "nowhere.test"),
        ("unknown_client", "mallory", "db"),
    ];

    let mut seen = Vec::new();
    for (reason, client, name) in denied {
        let there = look(&world.identity(client), &gateway, name).await;
        gateway.record_with(reason).await;
        seen.push((reason, there.end));
    }
    for (reason, end) in &seen {
        assert_eq!(end, &seen[0].1, "{reason}");
    }
}

/// What ends a handshake in which a client shows alice's certificate and has another key: the
/// alert, and how many bytes it takes.
async fn heard_by_thief(gateway: &Gateway, world: &World, name: &str) -> (Refusal, usize) {
    let [alices, mallorys] = ["alice", "mallory"].map(|name| world.authority.client(name).unwrap());
    let thief = Identity::thief(&alices, &mallorys);
    let mut connection = thief.connect(gateway.address, name).await.unwrap();
    let before = connection.heard();
    let end = connection.ask("hello").await.unwrap_err();
    (end, connection.heard() - before)
}

#[tokio::test]
async fn a_certificate_without_its_key_does_not_tell_what_its_owner_may_reach() {
    let upstream = Upstream::start("db").await;
    let mut world = World::with_db(&[&upstream]);
    let gateway = gateway(&mut world, &upstream, MIXED).await;

    let granted = heard_by_thief(&gateway, &world, "db").await;
    assert_eq!(granted.0, Refusal::Alert(AlertDescription::DecryptError));
    for name in NAMES {
        let seen = heard_by_thief(&gateway, &world, name).await;
        assert_eq!(seen, granted, "{name}");
    }
    until(async || {
        let records = gateway.records();
        let unproven = records
            .iter()
            .filter(|one| one["reason"] == "key_not_proven" && one["claimed_client"] == "alice");
        (unproven.count() == 1 + NAMES.len()).then_some(())
    })
    .await;
    assert_eq!(upstream.accepted(), 0);
}
