//! What ends is said before it does, by `check`, by `expiring` and in the log.

use std::process::{Command, Output};

use certgen::{Authority, AuthoritySpec, Overwrite};
use time::Duration;

use crate::files::{DAY, check, list, now, quiet_world, save, server, start_error};
use crate::harness::{Gateway, Upstream, World, until};

#[tokio::test]
async fn what_ends_soon_is_said_before() {
    let upstream = Upstream::start("a").await;
    let mut world = quiet_world(&upstream);
    world.honour_revocations();
    save(&world, &server(&world, now() - 9 * DAY, now() + 3 * DAY));
    list(&world, &[], [now() - 29 * DAY, now() + DAY], 1);
    let short = AuthoritySpec {
        common_name: Some("short".to_owned()),
        not_before: now() - 9 * DAY,
        not_after: now() + 2 * DAY,
        ..AuthoritySpec::default()
    };
    let short = Authority::new(&short).unwrap();
    let both = [world.authority.certificate_pem(), short.certificate_pem()].concat();
    world.write("ca.crt", &both);
    let (valid, said) = check(&world);
    assert!(valid, "{said}");
    for warning in [
        "warning: gateway.tls.certificate: CN=localhost expires on",
        "warning: gateway.tls.client_ca: CN=short expires on",
        "(nextUpdate)",
    ] {
        assert!(said.contains(warning), "{warning}: {said}");
    }
    let mut gateway = world.start().await;
    let warned = finding(&mut gateway, "CN=localhost expires on").await;
    assert_eq!(warned["at"], "gateway.tls.certificate");
    assert_eq!(warned["level"], "WARN");
    assert!(warned["line"].is_u64() && warned["column"].is_u64());
}

/// The next event that says this of the policy or its files, from the start on.
async fn finding(gateway: &mut Gateway, says: &str) -> serde_json::Value {
    until(async || {
        let event = gateway.logged_at_all("the policy needs attention").await;
        let said = event["finding"].as_str().unwrap().contains(says);
        said.then_some(event)
    })
    .await
}

#[tokio::test]
async fn the_end_is_said_while_the_gateway_runs_and_a_reload_does_not_repeat_it() {
    let upstream = Upstream::start("a").await;
    let mut world = quiet_world(&upstream);
    world.gateway_line("limits: {connections: 100}");
    // A third of its time begins in two seconds, and its end is two seconds after that.
    let (begin, end) = (now() - Duration::seconds(2), now() + Duration::seconds(4));
    save(&world, &server(&world, begin, end));
    let mut gateway = world.start().await;
    let warned = finding(&mut gateway, "CN=localhost expires on").await;
    assert_eq!(warned["level"], "WARN");
    let ended = finding(&mut gateway, "CN=localhost expired on").await;
    assert_eq!(ended["level"], "ERROR");
    assert!(now() > end, "in its last second it is valid");

    world.group("other", &[&upstream], "");
    let reloaded = gateway.reload(&world).await;
    assert_eq!(reloaded["changes"], 1, "what is in force may have ended");
    let next = gateway.logged("the policy needs attention").await;
    let said = next["finding"].as_str().unwrap();
    assert!(said.contains("not valid for other"), "{said}");
    assert_eq!(next["at"], "groups.other");
    let (valid, said) = check(&world);
    assert!(!valid && said.contains("expired on"), "a start: {said}");
    assert!(start_error(&world).contains("expired on"));
}

#[tokio::test]
async fn what_is_sent_with_the_certificate_and_ends_is_said() {
    let upstream = Upstream::start("a").await;
    let world = quiet_world(&upstream);
    let root = AuthoritySpec {
        path_len: 1,
        ..AuthoritySpec::default()
    };
    let root = Authority::new(&root).unwrap();
    let middle = root.intermediate("middle").unwrap();
    middle
        .server(&["localhost"])
        .unwrap()
        .save(world.folder(), "server", Overwrite::Replace)
        .unwrap();
    let (valid, said) = check(&world);
    assert!(valid && !said.contains("expire"), "{said}");
    let listed = portcullis(&world, &["expiring", "9999d"]);
    let said = String::from_utf8(listed.stdout).unwrap();
    assert!(said.contains("server chain"), "{said}");
    assert!(said.contains("CN=middle"), "{said}");
}

fn portcullis(world: &World, arguments: &[&str]) -> Output {
    world.write_policy();
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(world.folder())
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test]
async fn expiring_lists_what_ends_soonest_first() {
    let upstream = Upstream::start("a").await;
    let mut world = quiet_world(&upstream);
    world.honour_revocations();
    save(&world, &server(&world, now() - DAY, now() + 20 * DAY));
    list(&world, &[], [now() - DAY, now() + 10 * DAY], 3);
    let soon = portcullis(&world, &["expiring", "9d"]);
    assert_eq!(soon.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(soon.stdout).unwrap(),
        "nothing ends within 9d\n"
    );

    let usual = portcullis(&world, &["expiring"]);
    assert_eq!(usual.status.code(), Some(3));
    let said = String::from_utf8(usual.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("ENDS IN"), "{said}");
    assert!(lines[1].contains("revocation list") && lines[1].ends_with("ca.crl"));
    assert!(lines[1].starts_with("9d23h") || lines[1].starts_with("10d "));
    assert!(lines[2].contains("server certificate") && lines[2].ends_with("server.crt"));
    assert_eq!(lines.len(), 3, "the authority lasts: {said}");

    save(&world, &server(&world, now() - 9 * DAY, now() - DAY));
    let ended = portcullis(&world, &["expiring", "14d", "--json"]);
    assert_eq!(ended.status.code(), Some(3), "what has ended is listed");
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let items = report["items"].as_array().unwrap();
    assert_eq!(items[0]["kind"], "server certificate");
    assert_eq!(items[0]["subject"], "CN=localhost");
    assert!(items[0]["ends_in_seconds"].as_i64().unwrap() < -80_000);
    assert_eq!(items[1]["kind"], "revocation list");

    for wrong in ["14", "unlimited", "0s", "x"] {
        assert_eq!(
            portcullis(&world, &["expiring", wrong]).status.code(),
            Some(2)
        );
    }
    std::fs::remove_file(world.path("ca.crl")).unwrap();
    let broken = portcullis(&world, &["expiring"]);
    assert_eq!(broken.status.code(), Some(1));
    let said = String::from_utf8(broken.stderr).unwrap();
    assert!(said.contains("cannot read ca.crl"), "{said}");
}
