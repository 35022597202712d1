//! What is revoked by file, serial or name, and the list that says so.

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
    assert!(said.contains("\"x\" is no serial"), "{said}");
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
