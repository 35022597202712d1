use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const POLICY: &str = "\
version: 1
# who may come in
clients:
  # the free ones
  free-trial-client: {groups: [ui-servers], max_connections: 10, rate: 5/s}   # keep
  'standard client': {groups: []}

tests: []   # last
";

/// The file after the grant, or what was wrong; a file that is left alone is also checked.
fn grant(
    text: &str,
    client: &str,
    group: &str,
) -> Result<(String, GrantAddition), PolicyFileError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("policy.yaml");
    fs::write(&path, text).unwrap();
    let granted = GrantEdit::plan(&path, &[client], group).and_then(|grant| {
        let addition = grant.additions()[0];
        grant.write().map(|()| addition)
    });
    let now = fs::read_to_string(&path).unwrap();
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    match granted {
        Ok(addition) => Ok((now, addition)),
        Err(error) => {
            assert_eq!(now, text, "an error leaves the file alone");
            Err(error)
        }
    }
}

fn new_client(text: &str) -> String {
    let (text, addition) = grant(text, "billing", "ui-servers").unwrap();
    assert_eq!(addition, GrantAddition::Client);
    text
}

#[test]
fn a_new_client_goes_below_the_last_one_and_every_other_octet_stays() {
    let line = "  'standard client': {groups: []}\n";
    let expected = POLICY.replace(
        line,
        &format!("{line}  billing: {{groups: [ui-servers]}}\n"),
    );
    assert_eq!(new_client(POLICY), expected);
}

#[test]
fn a_policy_without_clients_gets_its_first() {
    let entry = "  billing: {groups: [ui-servers]}\n";
    assert_eq!(
        new_client("version: 1\n"),
        format!("version: 1\nclients:\n{entry}")
    );
    assert_eq!(
        new_client("version: 1"),
        format!("version: 1\nclients:\n{entry}")
    );
    assert_eq!(new_client(""), format!("clients:\n{entry}"));
    assert_eq!(
        new_client("clients: {}\na: 1\n"),
        format!("clients:\n{entry}a: 1\n")
    );
    assert_eq!(
        new_client("clients: { } # none\n"),
        format!("clients: # none\n{entry}")
    );
    assert_eq!(new_client("clients: null\n"), format!("clients:\n{entry}"));
    assert_eq!(new_client("clients: ~\n"), format!("clients:\n{entry}"));
    assert_eq!(
        new_client("clients:\na: 1\n"),
        format!("clients:\n{entry}a: 1\n")
    );
    assert_eq!(
        new_client("clients:"),
        "clients:\n  billing: {groups: [ui-servers]}"
    );
}

#[test]
fn the_layout_of_the_neighbours_is_taken_over() {
    assert_eq!(
        new_client("clients:\r\n    a: {groups: [b]}\r\n"),
        "clients:\r\n    a: {groups: [b]}\r\n    billing: {groups: [ui-servers]}\r\n"
    );
    assert_eq!(
        new_client("clients: {a: {groups: [b]}} # c\n"),
        "clients: {a: {groups: [b]}, billing: {groups: [ui-servers]}} # c\n"
    );
    assert_eq!(
        new_client("clients:\n  a:\n    groups:\n      - b\n\n# end\nz: 1\n"),
        "clients:\n  a:\n    groups:\n      - b\n  billing: {groups: [ui-servers]}\n\n# end\nz: 1\n"
    );
}

#[test]
fn a_known_client_gets_one_more_group() {
    let (text, addition) = grant(POLICY, "free-trial-client", "more").unwrap();
    assert_eq!(addition, GrantAddition::Group);
    assert_eq!(text, POLICY.replace("[ui-servers]", "[ui-servers, more]"));

    let (text, _) = grant(POLICY, "standard client", "7").unwrap();
    assert_eq!(text, POLICY.replace("[]}", "[\"7\"]}"));

    let (text, _) = grant("clients: {a: {groups: [b]}}\n", "a", "c").unwrap();
    assert_eq!(text, "clients: {a: {groups: [b, c]}}\n");
}

#[test]
fn a_group_that_is_there_already_changes_nothing() {
    let (text, addition) = grant(POLICY, "free-trial-client", "ui-servers").unwrap();
    assert_eq!((text.as_str(), addition), (POLICY, GrantAddition::Nothing));
    let block = "clients:\n  a:\n    groups:\n    - b\n";
    assert_eq!(grant(block, "a", "b").unwrap().1, GrantAddition::Nothing);
}

#[test]
fn odd_names_are_quoted_and_read_back_as_they_were() {
    for name in [
        "yes",
        "7",
        "a: b",
        "it's",
        "a \"b\" \\",
        "# c",
        "ü",
        "{x}",
        "*",
    ] {
        let (text, _) = grant(POLICY, name, "ui-servers").unwrap();
        assert_eq!(
            parse(&text).unwrap()["clients"][name]["groups"][0],
            "ui-servers"
        );
    }
}

#[test]
fn a_layout_that_cannot_be_added_to_is_left_alone_and_says_what_to_add() {
    for text in [
        "clients:\n  a:\n    groups: [b]\n",
        "clients: {a: {groups: [b]},\n  c: {groups: [d]}}\n",
        "{clients: {a: {groups: [b]}}}\n",
        "clients: &x\n  a: &y {groups: [b]}\n",
    ] {
        let error = grant(text, "a", "new").unwrap_err();
        assert!(
            matches!(error, PolicyFileError::Layout { .. }),
            "{text}: {error}"
        );
        assert!(error.to_string().contains("a: {groups: [new]}"), "{error}");
    }
}

#[test]
fn what_is_no_policy_is_left_alone() {
    for text in [
        "- a\n",
        "clients: [a]\n",
        "clients: {a: 1}\n",
        "clients: {a: {}}\n",
    ] {
        assert!(
            matches!(grant(text, "a", "b"), Err(PolicyFileError::Shape { .. })),
            "{text}"
        );
    }
    assert!(matches!(
        grant("a: [", "a", "b"),
        Err(PolicyFileError::Yaml { .. })
    ));
    assert!(matches!(
        grant("", "a\nb", "b"),
        Err(PolicyFileError::File(_))
    ));
}

#[test]
fn a_group_that_the_policy_does_not_define_is_refused() {
    let error = grant("groups: {ui: {}, db: {}}\n", "a", "up").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has no group \"up\"; its groups are db, ui"),
        "{error}"
    );
}

#[test]
fn the_mode_stays_and_a_link_stays_a_link() {
    let dir = TempDir::new().unwrap();
    let (file, link) = (dir.path().join("real.yaml"), dir.path().join("policy.yaml"));
    fs::write(&file, POLICY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.yaml", &link).unwrap();

    GrantEdit::plan(&link, &["billing"], "ui-servers")
        .unwrap()
        .write()
        .unwrap();

    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    assert!(fs::read_to_string(&file).unwrap().contains("billing"));
}

#[test]
fn a_file_that_changed_in_the_meantime_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("policy.yaml");
    fs::write(&path, POLICY).unwrap();
    let grant = GrantEdit::plan(&path, &["billing"], "ui-servers").unwrap();
    fs::write(&path, "version: 2\n").unwrap();
    assert!(matches!(grant.write(), Err(PolicyFileError::Changed(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "version: 2\n");
}

#[test]
fn what_is_no_file_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("policy.yaml");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let refused = GrantEdit::plan(&path, &["a"], "b");
    assert!(matches!(
        refused,
        Err(PolicyFileError::File(CertgenError::NotAFile(_)))
    ));
    drop(listener);
    let refused = GrantEdit::plan(dir.path(), &["a"], "b");
    assert!(matches!(
        refused,
        Err(PolicyFileError::File(CertgenError::NotAFile(_)))
    ));
}

#[test]
fn many_clients_are_granted_in_one_change() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("policy.yaml");
    fs::write(&path, POLICY).unwrap();
    let clients = ["a", "standard client", "b", "free-trial-client"];
    let grant = GrantEdit::plan(&path, &clients, "ui-servers").unwrap();
    let expected = [
        GrantAddition::Client,
        GrantAddition::Group,
        GrantAddition::Client,
        GrantAddition::Nothing,
    ];
    assert_eq!(grant.additions(), expected);
    grant.write().unwrap();
    let one_by_one = clients.iter().fold(POLICY.to_owned(), |text, client| {
        self::grant(&text, client, "ui-servers").unwrap().0
    });
    assert_eq!(fs::read_to_string(&path).unwrap(), one_by_one);
}
