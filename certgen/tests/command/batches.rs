//! Several certificates at a time.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::desk::Desk;

#[test]
fn many_clients_are_issued_at_once() {
    let desk = Desk::with_authority();
    fs::write(desk.dir.path().join("names"), "c\n\nd e\r\n").unwrap();
    let said = desk.done(&["client", "a", "b", "--from", "names"]);
    for name in ["a", "b", "c", "d e"] {
        assert_eq!(desk.facts(&format!("{name}.crt")).common_name(), Some(name));
        assert_eq!(desk.mode(&format!("{name}.key")), 0o600);
        assert_eq!(
            desk.code(&["verify", &format!("certs/{name}.crt")]),
            Some(0)
        );
    }
    assert!(
        said.contains("wrote certs/d e.crt and certs/d e.key\n"),
        "{said}"
    );
    assert!(
        said.contains("portcullis grant a GROUP --also b --also c --also 'd e'\n"),
        "{said}"
    );
    let listed: serde_json::Value = serde_json::from_str(&desk.done(&["list", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 4);
}

#[test]
fn names_come_from_the_standard_input() {
    let desk = Desk::with_authority();
    let mut certgen = Command::new(env!("CARGO_BIN_EXE_certgen"))
        .args(["client", "--from", "-", "--group", "ui"])
        .current_dir(desk.dir.path())
        .env_remove("CERTGEN_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    certgen.stdin.take().unwrap().write_all(b"a\nb").unwrap();
    let output = certgen.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("\nportcullis grant a ui --also b\n"),
        "{said}"
    );
    assert!(desk.path("a.crt").exists() && desk.path("b.key").exists());
}

#[test]
fn a_batch_with_one_bad_name_issues_nothing() {
    let desk = Desk::with_authority();
    desk.done(&["client", "c"]);
    let before = desk.files();
    for (names, complaint) in [
        (["a", "../b"], "cannot be a file name"),
        (["a", "a"], "\"a\" is given twice"),
        (["a", "c"], "c.crt already exists"),
    ] {
        let call = ["client", "--", names[0], names[1]];
        let said = desk.refused(&call);
        assert!(said.contains(complaint), "{said}");
        assert_eq!(desk.files(), before);
    }
    fs::write(desk.dir.path().join("none"), "\n").unwrap();
    assert!(
        desk.refused(&["client", "--from", "none"])
            .contains("no client name is given")
    );
    assert_eq!(desk.code(&["client"]), Some(2));
}

#[test]
fn a_second_server_has_files_of_its_own() {
    let desk = Desk::with_authority();
    desk.done(&["server", "a.test"]);
    let said = desk.done(&["server", "b.test", "--name", "second"]);
    assert!(
        said.contains("wrote certs/second.crt and certs/second.key"),
        "{said}"
    );
    desk.done(&["server", "c.test", "--out", "third"]);
    assert_eq!(desk.facts("server.crt").common_name(), Some("a.test"));
    assert_eq!(desk.facts("second.crt").common_name(), Some("b.test"));
    assert_eq!(desk.facts("third.crt").common_name(), Some("c.test"));
    for name in ["ca", "../x", ""] {
        let said = desk.refused(&["server", "d.test", "--name", name]);
        assert!(said.contains("cannot be a file name"), "{said}");
    }
}
