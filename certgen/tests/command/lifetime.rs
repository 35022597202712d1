//! Renewal and revocation.

use std::fs;

use certgen::CertificateSerial;

use crate::desk::Desk;

#[test]
fn a_script_learns_from_the_exit_code_whether_to_renew() {
    let desk = Desk::with_authority();
    desk.done(&["client", "billing", "--days", "20"]);
    fs::write(desk.path("junk.crt"), "junk").unwrap();

    let asked = |file: &str, within: &str| {
        desk.code(&[
            "needs-renewal",
            &format!("certs/{file}"),
            "--within",
            within,
        ])
    };
    assert_eq!(asked("billing.crt", "30d"), Some(0));
    assert_eq!(asked("billing.crt", "19d"), Some(1));
    assert_eq!(asked("absent.crt", "30d"), Some(3));
    assert_eq!(asked("junk.crt", "30d"), Some(4));
    assert_eq!(asked("billing.crt", "soon"), Some(2));
    assert_eq!(
        desk.code(&["needs-renewal", "certs"]),
        Some(4),
        "a directory"
    );
    assert_eq!(
        desk.code(&["needs-renewal", "certs/billing.crt"]),
        Some(0),
        "30d by default"
    );
    assert_eq!(desk.code(&["needs-renewal"]), Some(2));
    assert_eq!(desk.code(&["--help"]), Some(0));
}

#[test]
fn revocations_add_up_and_their_number_grows() {
    let desk = Desk::with_authority();
    for client in ["a", "b", "c"] {
        desk.done(&["client", client]);
    }
    let serial = |client: &str| desk.facts(&format!("{client}.crt")).serial().clone();
    let listed = || {
        let list = desk.revocations();
        let serials: Vec<CertificateSerial> = list
            .entries()
            .iter()
            .map(|entry| entry.serial().clone())
            .collect();
        (list.number(), serials)
    };

    desk.done(&["revoke", "certs/a.crt"]);
    assert_eq!(listed(), (1, vec![serial("a")]));
    let first = desk.revocations().entries()[0].at();

    desk.done(&["revoke", "certs/b.crt", "certs/a.crt"]);
    assert_eq!(listed(), (2, vec![serial("a"), serial("b")]));
    assert_eq!(
        desk.revocations().entries()[0].at(),
        first,
        "a revocation keeps its date"
    );

    desk.done(&["revoke", "--next-update", "7d"]);
    assert_eq!(listed(), (3, vec![serial("a"), serial("b")]));
    let left = desk.revocations().next_update().unwrap() - desk.facts("c.crt").not_before();
    assert_eq!(left.whole_days(), 7);

    assert_eq!(desk.code(&["verify", "certs/a.crt"]), Some(1));
    assert_eq!(desk.code(&["verify", "certs/c.crt"]), Some(0));
}

#[test]
fn many_who_revoke_at_once_forget_nobody() {
    let desk = Desk::with_authority();
    let clients: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    for client in &clients {
        desk.done(&["client", client]);
    }
    let office = &desk;
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(move || office.done(&["revoke", &format!("certs/{client}.crt")]));
        }
    });
    assert_eq!(desk.revocations().entries().len(), clients.len());
    assert_eq!(desk.revocations().number(), 8);
}

#[test]
fn what_cannot_be_revoked_leaves_the_list_alone() {
    let desk = Desk::with_authority();
    desk.done(&["client", "a"]);
    desk.done(&["revoke"]);
    let before = fs::read(desk.path("ca.crl")).unwrap();
    let stranger = Desk::with_authority();
    stranger.done(&["client", "x"]);
    fs::copy(stranger.path("x.crt"), desk.path("x.crt")).unwrap();

    let complaint = desk.refused(&["revoke", "certs/a.crt", "certs/x.crt"]);
    assert!(
        complaint.contains("x.crt was not signed by this authority"),
        "{complaint}"
    );
    desk.refused(&["revoke", "certs/a.crt", "certs/ca.crt"]);
    desk.refused(&["revoke", "certs/absent.crt"]);
    assert_eq!(fs::read(desk.path("ca.crl")).unwrap(), before);

    fs::copy(stranger.path("ca.crt"), desk.path("other.crt")).unwrap();
    stranger.done(&["revoke"]);
    fs::copy(stranger.path("ca.crl"), desk.path("ca.crl")).unwrap();
    let complaint = desk.refused(&["revoke", "certs/a.crt"]);
    assert!(
        complaint.contains("ca.crl was not signed by this authority"),
        "{complaint}"
    );
}

#[test]
fn a_renewal_keeps_the_names_and_changes_the_key() {
    let desk = Desk::with_authority();
    desk.done(&[
        "server", "a.test", "*.b.test", "::1", "10.0.0.1", "--days", "5",
    ]);
    let (before, key) = (
        desk.facts("server.crt"),
        fs::read(desk.path("server.key")).unwrap(),
    );

    desk.done(&["renew", "certs/server.crt"]);
    let after = desk.facts("server.crt");
    for kept in [
        "subject",
        "common_name",
        "sans",
        "extended_key_usage",
        "issuer",
    ] {
        assert_eq!(after.json()[kept], before.json()[kept], "{kept}");
    }
    assert_ne!(after.serial(), before.serial());
    assert_ne!(fs::read(desk.path("server.key")).unwrap(), key);
    assert_eq!(desk.mode("server.key"), 0o600);
    assert_eq!(
        (after.not_after() - after.not_before()).whole_days(),
        5,
        "it lasts as long"
    );
    assert!(
        desk.done(&["verify", "certs/server.crt"])
            .contains("belongs to this certificate")
    );

    desk.done(&["renew", "certs/server.crt", "--days", "50"]);
    let after = desk.facts("server.crt");
    assert_eq!((after.not_after() - after.not_before()).whole_days(), 50);
}

#[test]
fn what_is_revoked_or_foreign_is_not_renewed() {
    let desk = Desk::with_authority();
    desk.done(&["client", "a"]);
    desk.done(&["revoke", "certs/a.crt"]);
    let before = fs::read(desk.path("a.crt")).unwrap();
    assert!(
        desk.refused(&["renew", "certs/a.crt"])
            .contains("is revoked")
    );
    assert_eq!(fs::read(desk.path("a.crt")).unwrap(), before);
    assert!(
        desk.refused(&["renew", "certs/ca.crt"])
            .contains("of an authority")
    );

    desk.done(&["client", "b"]);
    desk.done(&["ca", "--force"]);
    assert!(
        !desk.path("ca.crl").exists(),
        "the new authority has taken nothing back"
    );
    assert!(
        desk.refused(&["renew", "certs/b.crt"])
            .contains("not signed by this authority")
    );
    assert_eq!(desk.code(&["verify", "certs/b.crt"]), Some(1));
}

#[test]
fn a_leaf_ends_with_its_authority() {
    let desk = Desk::empty();
    desk.done(&["ca", "--days", "10", "--name", "Short"]);
    desk.done(&["client", "a", "--days", "400"]);
    assert_eq!(
        desk.facts("a.crt").not_after(),
        desk.facts("ca.crt").not_after()
    );
    assert_eq!(desk.facts("a.crt").json()["issuer"], "CN=Short");
}
