//! `portcullis grant` lets clients in by a change of the policy's file, and changes nothing else.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use rustls::AlertDescription::AccessDenied;

use crate::harness::{Refusal, Upstream, World};

/// A policy whose comments and layout are to stay.
const POLICY: &str = "# ours
version: 1
gateway: {listen: ['127.0.0.1:0'],
  tls: {certificate: s.crt, key: s.key, client_ca: ca.crt}}
groups:
  ui: {upstreams: ['127.0.0.1:1']}   # one
  db: {upstreams: ['127.0.0.1:1']}
clients:   # who
  a: {groups: [ui]}  # first

tests:
  - {client: nobody, sni: db, expect: deny}
# end
";

/// The last client's line.
const FIRST: &str = "  a: {groups: [ui]}  # first\n";

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("policy.yaml"), POLICY).unwrap();
    dir
}

fn grant(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(dir)
        .arg("grant")
        .args(arguments)
        .output()
        .unwrap()
}

/// Grants what can be granted, for what is printed.
fn granted(dir: &Path, arguments: &[&str]) -> String {
    let output = grant(dir, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), told.as_str()), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

fn policy(dir: &Path) -> String {
    fs::read_to_string(dir.join("policy.yaml")).unwrap()
}

#[test]
fn a_client_is_added_to_the_policy_and_its_comments_stay() {
    let dir = directory();
    let path = dir.path().join("policy.yaml");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    symlink("policy.yaml", dir.path().join("link")).unwrap();

    let said = granted(dir.path(), &["b", "ui", "--policy", "link"]);

    assert_eq!(
        said,
        "add client `b`\n+ client `b` may reach `ui`\nwrote link\n"
    );
    let expected = POLICY.replace(FIRST, &format!("{FIRST}  b: {{groups: [ui]}}\n"));
    assert_eq!(policy(dir.path()), expected);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    let link = fs::symlink_metadata(dir.path().join("link")).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn several_clients_get_several_groups_in_one_change() {
    let dir = directory();
    let arguments = ["b c", "ui", "db", "--also", "a", "--also=-x"];
    let said = granted(dir.path(), &arguments);
    assert!(
        said.starts_with("add client `-x`\nalter client `a`\n"),
        "{said}"
    );
    let expected = "  a: {groups: [ui, db]}  # first\n  \"b c\": {groups: [ui, db]}\n  \"-x\": {groups: [ui, db]}\n";
    assert_eq!(policy(dir.path()), POLICY.replace(FIRST, expected));

    let said = granted(dir.path(), &arguments);
    assert_eq!(
        said,
        "policy.yaml: no change, it has these grants already\n"
    );
    assert_eq!(policy(dir.path()), POLICY.replace(FIRST, expected));
}

#[test]
fn what_cannot_be_granted_is_told_and_changes_nothing() {
    let dir = directory();
    fs::write(
        dir.path().join("wrong"),
        POLICY.replace("groups:", "gruops:"),
    )
    .unwrap();
    for (arguments, complaint) in [
        (
            &["b", "cache"][..],
            "portcullis: policy.yaml: there is no group `cache`; the policy has `db`, `ui`\n",
        ),
        (
            &["nobody", "db"],
            "portcullis: policy.yaml was not changed: with this grant the policy fails its own tests:\n\
             policy.yaml:12:5: this test fails: expected deny, but the policy says allow: \
             client `nobody` is granted `db` (policy.yaml:10)\n",
        ),
        (
            &["b", "ui", "--policy", "absent"],
            "portcullis: cannot read policy absent: No such file or directory (os error 2)\n",
        ),
        (
            &["b", "ui", "--policy", "wrong"],
            "portcullis: wrong:2:1: `groups` is missing in the policy\nwrong:5:1: unknown key `gruops`",
        ),
    ] {
        let output = grant(dir.path(), arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.starts_with(complaint), "{told}");
        assert_eq!(policy(dir.path()), POLICY);
    }
    for (arguments, complaint) in [
        (&["b"][..], "<GROUP>"),
        (&["", "ui"], "the name is empty"),
        (&["b", "ui", "--also", "a\u{202e}"], "U+202E"),
    ] {
        let output = grant(dir.path(), arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(complaint), "{told}");
    }
    assert_eq!(policy(dir.path()), POLICY);
}

#[tokio::test]
async fn a_running_gateway_lets_in_who_is_granted_a_group() {
    let upstream = Upstream::start("db").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let bob = world.identity("bob");
    let refused = bob.visit(gateway.address, "db").await.unwrap_err();
    assert_eq!(refused, Refusal::Alert(AccessDenied));

    let said = granted(world.folder(), &["bob", "db"]);

    assert!(said.contains("+ client `bob` may reach `db`\n"), "{said}");
    let reloaded = gateway.logged("policy reloaded").await;
    assert_eq!(reloaded["changes"], 1);
    let mut connection = bob.visit(gateway.address, "db").await.unwrap();
    assert_eq!(connection.upstream().await, "db");
}
