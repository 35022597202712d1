//! What is revoked by file, serial or name, and the list that says so.

use std::fs;

use crate::desk::Desk;

/// Whether the list of the desk has a serial.
fn listed(desk: &Desk, serial: &str) -> bool {
    let list = desk.revocations();
    let mut serials = list
        .entries()
        .iter()
        .map(|entry| entry.serial().to_string());
    serials.any(|one| one == serial)
}

fn serial(desk: &Desk, file: &str) -> String {
    desk.facts(file).serial().to_string()
}

#[test]
fn a_certificate_that_was_replaced_can_still_be_revoked() {
    for replace in [&["renew", "certs/a.crt"][..], &["client", "a", "--force"]] {
        let desk = Desk::with_authority();
        desk.done(&["client", "a"]);
        let stolen = serial(&desk, "a.crt");
        desk.done(replace);

        let said = desk.done(&["revoke", &stolen.to_uppercase()]);

        assert!(
            said.starts_with(&format!("revoked a, serial {stolen}\n")),
            "{said}"
        );
        assert!(listed(&desk, &stolen));
        assert_eq!(desk.code(&["verify", "certs/a.crt"]), Some(0));
    }
}

#[test]
fn what_a_certificate_replaced_is_revoked_with_it() {
    let desk = Desk::with_authority();
    desk.done(&["client", "a"]);
    let old = serial(&desk, "a.crt");
    desk.done(&["renew", "certs/a.crt"]);
    let said = desk.done(&["revoke", "certs/a.crt"]);
    assert!(
        said.contains(&format!(
            "revoked an older certificate of a, serial {old}\n"
        )),
        "{said}"
    );
    assert!(listed(&desk, &old) && listed(&desk, &serial(&desk, "a.crt")));
}

#[test]
fn a_name_stands_for_one_certificate_or_for_all_of_them() {
    let desk = Desk::with_authority();
    desk.done(&["client", "a"]);
    desk.done(&["client", "b"]);
    let first = serial(&desk, "a.crt");
    desk.done(&["revoke", "b"]);
    assert!(listed(&desk, &serial(&desk, "b.crt")));
    desk.done(&["revoke", "b"]);
    assert_eq!(desk.revocations().entries().len(), 1);

    desk.done(&["renew", "certs/a.crt"]);
    let second = serial(&desk, "a.crt");
    let said = desk.refused(&["revoke", "a"]);
    assert!(
        said.contains("\"a\" has 2 certificates in force; name one by its serial, or pass --all"),
        "{said}"
    );
    assert!(said.contains(&first) && said.contains(&second), "{said}");
    assert_eq!(desk.revocations().number(), 2, "the list was left alone");

    desk.done(&["revoke", "--all", "a"]);
    assert!(listed(&desk, &first) && listed(&desk, &second));
    let said = desk.refused(&["revoke", "c"]);
    assert!(
        said.contains("\"c\" is neither a file, nor a serial"),
        "{said}"
    );
}

#[test]
fn a_serial_that_the_index_does_not_have_can_be_revoked() {
    let desk = Desk::with_authority();
    desk.done(&["revoke", "01:23:45", "--serial", "7", "--serial", "0ABC"]);
    for serial in ["012345", "07", "0abc"] {
        assert!(listed(&desk, serial), "{serial}");
    }
    let list = desk.done(&["list"]);
    assert!(
        list.contains("\n0abc                              revoked"),
        "{list}"
    );
    let said = desk.refused(&["revoke", "--serial", "x"]);
    assert!(said.contains("\"x\" is not a serial number"), "{said}");
}

#[test]
fn a_list_is_renewed_before_it_ends() {
    let desk = Desk::with_authority();
    desk.done(&["client", "a"]);
    assert_eq!(desk.code(&["needs-renewal", "certs/ca.crl"]), Some(3));
    desk.done(&["revoke", "a"]);
    let asked = |within: &[&str]| {
        let call = [&["needs-renewal", "certs/ca.crl"], within].concat();
        desk.code(&call)
    };
    assert_eq!(asked(&[]), Some(1), "a third of 30d");
    assert_eq!(asked(&["--within", "31d"]), Some(0));
    let lasts = || {
        let list = desk.revocations();
        let left = list.next_update().unwrap() - time::OffsetDateTime::now_utc();
        (
            list.number(),
            (left + time::Duration::hours(1)).whole_days(),
        )
    };
    assert_eq!(lasts(), (1, 30));

    desk.done(&["crl", "--next-update", "7d"]);
    assert_eq!(lasts(), (2, 7));
    desk.done(&["crl"]);
    assert_eq!(lasts(), (3, 7), "as long as the one before");
    desk.done(&["renew", "certs/ca.crl"]);
    assert_eq!(lasts(), (4, 7));
    desk.done(&["renew", "certs/ca.crl", "--days", "60"]);
    assert_eq!(lasts(), (5, 60));
    assert_eq!(desk.revocations().entries().len(), 1);

    let other = Desk::with_authority();
    other.done(&["crl"]);
    fs::copy(other.path("ca.crl"), desk.path("other.crl")).unwrap();
    let said = desk.refused(&["renew", "certs/other.crl"]);
    assert!(
        said.contains("is not the revocation list of certs"),
        "{said}"
    );
    assert_eq!(lasts(), (5, 60));
}

#[test]
fn inspecting_a_list_shows_its_serials_and_warns_of_its_end() {
    let desk = Desk::with_authority();
    desk.done(&["client", "a"]);
    desk.done(&["revoke", "a", "--next-update", "2s"]);
    let said = desk.done(&["inspect", "certs/ca.crl"]);
    assert!(
        said.contains("list of      CN=Portcullis Authority "),
        "{said}"
    );
    assert!(said.contains("number       1\n"), "{said}");
    assert!(said.contains(&serial(&desk, "a.crt")), "{said}");

    desk.done(&["crl", "--next-update", "30d"]);
    let json = desk.done(&["inspect", "--json", "certs/ca.crl"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["number"], "2");
    assert_eq!(json["ends_soon"], false);
    assert_eq!(json["revoked"][0]["serial"], *serial(&desk, "a.crt"));
}

#[test]
fn the_index_says_what_became_of_each_certificate() {
    let desk = Desk::with_authority();
    desk.done(&["server", "a.test"]);
    desk.done(&["client", "a"]);
    let old = serial(&desk, "a.crt");
    desk.done(&["renew", "certs/a.crt"]);
    desk.done(&["revoke", &old]);
    let listed: serde_json::Value = serde_json::from_str(&desk.done(&["list", "--json"])).unwrap();
    let facts = |n: usize| {
        let entry = &listed[n];
        ["name", "kind", "file", "state"].map(|key| entry[key].as_str().unwrap().to_owned())
    };
    assert_eq!(facts(0), ["a.test", "server", "server.crt", "valid"]);
    assert_eq!(facts(1), ["a", "client", "a.crt", "revoked"]);
    assert_eq!(facts(2), ["a", "client", "a.crt", "valid"]);
    assert_eq!(listed[1]["replaced_by"], *serial(&desk, "a.crt"));
    assert_eq!(listed[2]["replaces"], *old);
    let until = desk.facts("a.crt").json()["not_after"].clone();
    assert_eq!(listed[2]["until"], until);
}
