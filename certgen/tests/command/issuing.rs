//! New certificates, and what they never do to the files that are there.

use std::fs;
use std::process::Command;

use crate::desk::{Desk, names};

#[test]
fn keys_are_for_their_owner_and_certificates_for_everybody() {
    let desk = Desk::with_authority();
    desk.done(&["server", "a.test", "127.0.0.1"]);
    desk.done(&["client", "billing"]);
    desk.done(&["revoke"]);

    assert_eq!(desk.mode("ca.key"), 0o400);
    assert_eq!(desk.mode("server.key"), 0o600);
    assert_eq!(desk.mode("billing.key"), 0o600);
    for public in ["ca.crt", "server.crt", "billing.crt", "ca.crl"] {
        assert_eq!(desk.mode(public), 0o644, "{public}");
    }
    assert_eq!(desk.mode("ca.lock"), 0o600);
    assert_eq!(desk.mode("ca.index"), 0o644);
    assert_eq!(desk.files().len(), 9, "nothing else is left behind");
}

#[test]
fn an_existing_file_stays_as_it_is_unless_force_is_used() {
    let desk = Desk::with_authority();
    desk.done(&["client", "billing"]);
    desk.done(&["server", "a.test"]);
    let calls: [(&str, &[&str]); 3] = [
        ("ca", &["ca"]),
        ("server", &["server", "b.test"]),
        ("billing", &["client", "billing"]),
    ];
    for (stem, call) in calls {
        for extension in ["crt", "key"] {
            let (kept, gone) = (format!("{stem}.{extension}"), format!("{stem}.gone"));
            let other = if extension == "crt" { "key" } else { "crt" };
            let other = desk.path(&format!("{stem}.{other}"));
            let before = fs::read(desk.path(&kept)).unwrap();
            fs::rename(&other, desk.path(&gone)).unwrap();

            // The authority is half gone as well when it is its own turn.
            let complaint = desk.refused(call);

            assert!(
                complaint.contains(&kept) && complaint.contains("--force"),
                "{complaint}"
            );
            assert_eq!(fs::read(desk.path(&kept)).unwrap(), before);
            assert!(!other.exists());
            fs::rename(desk.path(&gone), other).unwrap();
        }
    }
    let before = desk.facts("billing.crt");
    desk.done(&["client", "billing", "--force"]);
    assert_ne!(desk.facts("billing.crt").serial(), before.serial());
    assert_eq!(desk.mode("billing.key"), 0o600);
}

#[test]
fn a_hostile_name_gets_no_files() {
    let desk = Desk::with_authority();
    let long = "x".repeat(65);
    let hostile = [
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        "a/b",
        "a\\b",
        ".x",
        "a\nb",
        "a\u{1b}[2J",
        " a",
        "a ",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\u{feff}",
        "ca",
        "server",
        "CA",
        &long,
    ];
    for name in hostile {
        let complaint = desk.refused(&["client", "--", name]);
        assert!(complaint.contains("cannot be a file name"), "{complaint}");
        assert!(
            !complaint.trim_end().contains(['\n', '\u{1b}', '\u{202e}']),
            "{complaint:?}"
        );
    }
    assert_eq!(desk.files(), ["ca.crt", "ca.key", "ca.lock"]);
    assert_eq!(names(desk.dir.path()), ["certs"]);
    for name in ["a b", "ü", "-a", "a'b", "a:b", "x.y"] {
        desk.done(&["client", "--", name]);
        assert_eq!(desk.facts(&format!("{name}.crt")).common_name(), Some(name));
    }
    desk.refused(&["server", "not a name"]);
    assert_eq!(desk.code(&["server"]), Some(2));
}

#[test]
fn a_policy_is_edited_by_another_command_which_the_error_names() {
    let desk = Desk::with_authority();
    for group in [&[][..], &["--group", "ui"]] {
        let call = [&["client", "b", "--add-to", "our policy.yaml"], group].concat();
        let output = desk.run(&call);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        let command = "`portcullis grant CLIENT GROUP --policy 'our policy.yaml'`";
        assert!(told.contains(command), "{told}");
        assert!(!desk.path("b.crt").exists(), "nothing is issued");
    }
}

#[test]
fn a_new_client_is_told_how_to_connect() {
    let desk = Desk::with_authority();
    let said = desk.done(&["client", "a b"]);
    assert!(said.contains("\nportcullis grant 'a b' GROUP\n"), "{said}");
    assert!(
        said.contains(
            "openssl s_client -connect HOST:8443 -servername GROUP -tls1_3 \
             -CAfile certs/ca.crt -cert 'certs/a b.crt' -key 'certs/a b.key'\n"
        ),
        "{said}"
    );
    assert!(said.contains("--connect-to GROUP:8443:HOST:8443"), "{said}");
    assert!(said.contains("https://GROUP:8443/"), "{said}");
}

#[test]
fn inspecting_says_it_to_people_and_to_scripts() {
    let desk = Desk::with_authority();
    desk.done(&["client", "billing"]);
    let said = desk.done(&["inspect", "certs/billing.crt"]);
    assert!(said.contains("common name  billing\n"), "{said}");
    let json = desk.done(&["inspect", "--json", "certs/billing.crt"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, desk.facts("billing.crt").json());
    assert_eq!(json["extended_key_usage"][0], "clientAuth");
    assert!(
        desk.refused(&["inspect", "certs/billing.key"])
            .contains("no valid certificate")
    );
}

#[test]
fn verifying_names_the_check_that_failed() {
    let desk = Desk::with_authority();
    desk.done(&["client", "a"]);
    desk.done(&["client", "b"]);
    fs::copy(desk.path("b.key"), desk.path("a.key")).unwrap();
    let output = desk.run(&["verify", "certs/a.crt"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("FAILED   key        certs/a.key belongs to another"),
        "{said}"
    );
    assert!(said.contains("ok       signature "), "{said}");
    assert!(said.contains("skipped  revocation"), "{said}");
}

#[test]
fn the_directory_comes_from_the_environment_or_the_command_line() {
    let desk = Desk::empty();
    let made = Command::new(env!("CARGO_BIN_EXE_certgen"))
        .arg("ca")
        .current_dir(desk.dir.path())
        .env("CERTGEN_DIR", "there")
        .status()
        .unwrap();
    assert!(made.success());
    desk.done(&["client", "a", "--dir", "there"]);
    assert_eq!(
        names(&desk.dir.path().join("there")),
        ["a.crt", "a.key", "ca.crt", "ca.index", "ca.key", "ca.lock"]
    );
    assert!(
        desk.refused(&["client", "a"])
            .contains("cannot read certs/ca.crt")
    );
    assert!(!desk.dir.path().join("certs").exists(), "it was not made");
}

#[test]
fn writers_wait_for_each_other_and_leave_pairs() {
    let desk = Desk::with_authority();
    desk.done(&["client", "a"]);
    let office = &desk;
    std::thread::scope(|scope| {
        for call in [
            &["renew", "certs/a.crt"][..],
            &["client", "a", "--force"],
            &["renew", "certs/a.crt"],
            &["client", "a", "--force"],
        ] {
            scope.spawn(move || office.done(call));
        }
    });
    assert!(
        desk.done(&["verify", "certs/a.crt"])
            .contains("belongs to this certificate")
    );
    let listed: serde_json::Value = serde_json::from_str(&desk.done(&["list", "--json"])).unwrap();
    let state = |wanted: &str| {
        let entries = listed.as_array().unwrap().iter();
        entries.filter(|entry| entry["state"] == wanted).count()
    };
    assert_eq!((state("replaced"), state("valid")), (4, 1));
}
