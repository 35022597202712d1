use super::*;
use crate::test_support::{policy, with};

const GROUPS: &str = "groups:
  ui-servers: {upstreams: ['10.0.0.1:1']}
  more: {upstreams: ['10.0.0.1:1']}
  '7': {upstreams: ['10.0.0.1:1']}
";

const CLIENTS: &str = "\
# who may come in
clients:
  # the free ones
  free-trial-client: {groups: [ui-servers], max_connections: 10, rate: 5/s}   # keep
  'standard client': {groups: [more]}

tests: []   # last
";

/// A policy with this in the place of `clients:` and all below it.
fn text(clients: &str) -> String {
    with(&format!("{GROUPS}{clients}"))
}

fn name(name: &str) -> ClientName {
    ClientName::new(name).unwrap()
}

fn granted(text: &str, client: &str, group: &str) -> Result<PolicyEdit, EditError> {
    grant("p.yaml", text, &[name(client)], &[group])
}

/// The clients' part of the text after a grant; the rest has stayed as it was.
fn edited(clients: &str, client: &str, groups: &[&str]) -> String {
    let before = text(clients);
    let edit = grant("p.yaml", &before, &[name(client)], groups)
        .unwrap_or_else(|error| panic!("{error}\n{before}"));
    let head = text("");
    let rest = edit.text().strip_prefix(&head);
    rest.expect("what is before the clients stays").to_owned()
}

fn new_client(clients: &str) -> String {
    edited(clients, "billing", &["ui-servers"])
}

#[test]
fn a_new_client_goes_below_the_last_one_and_every_other_byte_stays() {
    let line = "  'standard client': {groups: [more]}\n";
    let expected = CLIENTS.replace(
        line,
        &format!("{line}  billing: {{groups: [ui-servers]}}\n"),
    );
    assert_eq!(new_client(CLIENTS), expected);
}

#[test]
fn a_policy_without_clients_gets_its_first() {
    let entry = "  billing: {groups: [ui-servers]}\n";
    for (before, after) in [
        ("", format!("clients:\n{entry}")),
        ("tests: []\n", format!("tests: []\nclients:\n{entry}")),
        ("tests: []", format!("tests: []\nclients:\n{entry}")),
        (
            "tests: []\r\n",
            "tests: []\r\nclients:\r\n  billing: {groups: [ui-servers]}\r\n".to_owned(),
        ),
        (
            "clients: {}\ntests: []\n",
            format!("clients:\n{entry}tests: []\n"),
        ),
        ("clients: { } # none\n", format!("clients: # none\n{entry}")),
        ("clients: null\n", format!("clients:\n{entry}")),
        ("clients: ~\n", format!("clients:\n{entry}")),
        (
            "clients: # who\ntests: []\n",
            format!("clients: # who\n{entry}tests: []\n"),
        ),
        ("clients:\n\n# end\n", format!("clients:\n{entry}\n# end\n")),
        (
            "clients:",
            "clients:\n  billing: {groups: [ui-servers]}".to_owned(),
        ),
        (
            "clients: {}",
            "clients:\n  billing: {groups: [ui-servers]}".to_owned(),
        ),
    ] {
        assert_eq!(new_client(before), after, "{before:?}");
    }
}

#[test]
fn the_layout_of_the_neighbours_is_taken_over() {
    for (before, after) in [
        (
            "clients:\r\n    a: {groups: [more]}\r\n",
            "clients:\r\n    a: {groups: [more]}\r\n    billing: {groups: [ui-servers]}\r\n",
        ),
        (
            "clients: {a: {groups: [more]}} # c\n",
            "clients: {a: {groups: [more]}, billing: {groups: [ui-servers]}} # c\n",
        ),
        (
            "clients: {a: {groups: [more]},\n  c: {groups: [more]},   # c\n}\n",
            "clients: {a: {groups: [more]},\n  c: {groups: [more]}, billing: {groups: [ui-servers]},   # c\n}\n",
        ),
        (
            "clients:\n  a:\n    groups:\n      - more\n\n# end\ntests: []\n",
            "clients:\n  a:\n    groups:\n      - more\n  billing: {groups: [ui-servers]}\n\n# end\ntests: []\n",
        ),
        (
            "clients:\n  a:\n    groups: [more]\n    rate:\n      5/s # slow\n  # nobody else\n",
            "clients:\n  a:\n    groups: [more]\n    rate:\n      5/s # slow\n  billing: {groups: [ui-servers]}\n  # nobody else\n",
        ),
        (
            "clients:\n  a: {groups: [more]}",
            "clients:\n  a: {groups: [more]}\n  billing: {groups: [ui-servers]}",
        ),
        (
            "clients:\n  a: {groups: [more],\n    rate: 5/s}\n",
            "clients:\n  a: {groups: [more],\n    rate: 5/s}\n  billing: {groups: [ui-servers]}\n",
        ),
    ] {
        assert_eq!(new_client(before), after, "{before:?}");
    }
}

#[test]
fn a_known_client_gets_the_groups_that_it_does_not_have() {
    let expected = CLIENTS.replace("[ui-servers]", "[ui-servers, more]");
    assert_eq!(edited(CLIENTS, "free-trial-client", &["more"]), expected);
    let groups = ["ui-servers", "more", "more", "7"];
    let expected = CLIENTS.replace("[ui-servers]", "[ui-servers, more, \"7\"]");
    assert_eq!(edited(CLIENTS, "free-trial-client", &groups), expected);

    for (before, after) in [
        (
            "clients: {a: {groups: [more]}}\n",
            "clients: {a: {groups: [more, \"7\"]}}\n",
        ),
        (
            "clients:\n  a:\n    groups: [more]\n    rate: 5/s\n",
            "clients:\n  a:\n    groups: [more, \"7\"]\n    rate: 5/s\n",
        ),
        (
            "clients:\n  a:\n    groups:   # its\n    -  more # one\n    rate: 5/s\n",
            "clients:\n  a:\n    groups:   # its\n    -  more # one\n    -  \"7\"\n    rate: 5/s\n",
        ),
        (
            "clients:\n  a: {groups: [\n    more,\n  ]}\n",
            "clients:\n  a: {groups: [\n    more, \"7\",\n  ]}\n",
        ),
        (
            "clients:\n  a:\n    groups:\n      - more",
            "clients:\n  a:\n    groups:\n      - more\n      - \"7\"",
        ),
        (
            "clients: {\"\\x61\": {groups: [more]}}\n",
            "clients: {\"\\x61\": {groups: [more, \"7\"]}}\n",
        ),
    ] {
        assert_eq!(edited(before, "a", &["7"]), after, "{before:?}");
    }
}

#[test]
fn a_policy_in_braces_takes_grants_too() {
    let before = "{version: 1, gateway: {listen: ['[::]:1'], tls: {certificate: s, key: k, client_ca: c}}, \
                  groups: {a: {upstreams: ['10.0.0.1:1']}}, clients: {b: {groups: [a]}}}";
    let edit = granted(before, "c", "a").unwrap();
    let expected = before.replace("[a]}}", "[a]}, c: {groups: [a]}}");
    assert_eq!(edit.text(), expected);
    let empty = before.replace("{b: {groups: [a]}}", "{}");
    let error = granted(&empty, "c", "a").unwrap_err();
    assert!(matches!(error, EditError::Layout { .. }), "{error}");
}

#[test]
fn a_group_that_is_there_already_changes_nothing() {
    let before = text(CLIENTS);
    let edit = granted(&before, "free-trial-client", "ui-servers").unwrap();
    assert_eq!(edit.text(), before);
    assert!(edit.difference().is_empty());
    let block = text("clients:\n  a:\n    groups:\n    - more\n");
    assert_eq!(granted(&block, "a", "more").unwrap().text(), block);
}

#[test]
fn the_difference_says_what_was_granted() {
    let clients = [name("free-trial-client"), name("billing")];
    let edit = grant("p.yaml", &text(CLIENTS), &clients, &["more"]).unwrap();
    assert_eq!(
        edit.difference().to_string(),
        "add client `billing`\nalter client `free-trial-client`\n\
         + client `billing` may reach `more`\n+ client `free-trial-client` may reach `more`\n"
    );
}

#[test]
fn odd_names_are_quoted_and_read_back_as_they_were() {
    for odd in [
        "yes",
        "Null",
        "1e3",
        "7",
        "-a",
        "a b",
        "a: b",
        "it's",
        "a \"b\" \\",
        "# c",
        "a#",
        "ü",
        "{x}",
        "*",
        "a,b",
        "~",
        "0x7",
        "?",
        "a.b",
        "_a",
    ] {
        let edit = granted(&text(CLIENTS), odd, "ui-servers").unwrap();
        let policy = policy(edit.text());
        assert!(
            policy.client(odd).unwrap().is_granted("ui-servers"),
            "{odd}"
        );
    }
    let edit = granted(&text(CLIENTS), "a.B_c-1", "ui-servers").unwrap();
    assert!(edit.text().contains("  a.B_c-1: {groups: [ui-servers]}\n"));
    let edit = granted(&text(CLIENTS), "On", "ui-servers").unwrap();
    assert!(edit.text().contains("  \"On\": {groups: [ui-servers]}\n"));
}

#[test]
fn a_layout_that_cannot_be_added_to_is_left_alone_and_says_what_to_add() {
    for clients in [
        "clients:\n  a: &y {groups: [ui-servers]}\n  b: *y\n",
        "clients:\n  b: {groups: &g [ui-servers]}\n  a: {groups: *g}\n",
        "clients:\n  a:\n    groups:\n      - &g ui-servers\n",
    ] {
        let error = granted(&text(clients), "a", "more").unwrap_err();
        assert!(
            matches!(error, EditError::Layout { .. }),
            "{clients}: {error}"
        );
        let told = error.to_string();
        let fragment = "p.yaml was not changed: its layout is not one that can be added to safely; \
                        add this by hand:\nclients:\n  a: {groups: [more]}\n";
        assert_eq!(told, fragment);
    }
    for clients in [
        "clients:\n  &k a: {groups: [more]}\n",
        "clients:\n  ? a\n  : {groups: [more]}\n",
        "clients: {\n# none\n}\n",
    ] {
        let error = granted(&text(clients), "billing", "more").unwrap_err();
        assert!(
            matches!(error, EditError::Layout { .. }),
            "{clients}: {error}"
        );
    }
}

#[test]
fn what_is_not_a_policy_is_told_where_and_left_alone() {
    for (text, message) in [
        (
            text("clients: [a]\n"),
            "p.yaml:9:10: a list cannot be the clients",
        ),
        (text("clients: {a: 1}\n"), "p.yaml:9:14: "),
        (
            text("clients: {a: {groups: []}}\n"),
            "p.yaml:9:23: the list is empty",
        ),
        (
            "version: 1\n".to_owned(),
            "p.yaml:1:1: `gateway` is missing in the policy",
        ),
        ("a: [".to_owned(), "p.yaml:1:4: this is not YAML"),
        (
            "- a\n".to_owned(),
            "p.yaml:1:1: a list cannot be the policy",
        ),
        (String::new(), "p.yaml:1:1: the file is empty"),
    ] {
        let error = granted(&text, "a", "more").unwrap_err();
        assert!(matches!(error, EditError::Policy(_)), "{text}: {error}");
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn a_group_that_the_policy_does_not_define_is_refused() {
    let told = |text: &str, group: &str| granted(text, "a", group).unwrap_err().to_string();
    assert_eq!(
        told(&text(CLIENTS), "ui-server"),
        "p.yaml: there is no group `ui-server`; did you mean `ui-servers`?"
    );
    assert_eq!(
        told(&text(CLIENTS), "database"),
        "p.yaml: there is no group `database`; the policy has `7`, `more`, `ui-servers`"
    );
    assert_eq!(
        told(&with("groups: {}\nclients: {}\n"), "database"),
        "p.yaml: there is no group `database`; the policy has no groups"
    );
    let many = crate::generate(10, 0);
    assert!(told(&many, "database").ends_with("`group-7` and 2 more"));
}

#[test]
fn a_policy_is_not_changed_if_its_own_tests_fail_then() {
    let tests = "tests:\n  - {client: billing, sni: more, expect: deny}\n";
    let clients = "clients:\n  a: {groups: [more]}\n";
    let before = text(&format!("{clients}{tests}"));
    let error = granted(&before, "billing", "more").unwrap_err();
    assert!(matches!(error, EditError::Tests { .. }), "{error}");
    let told = error.to_string();
    assert_eq!(
        told,
        "p.yaml was not changed: with this grant the policy fails its own tests:\n\
         p.yaml:12:5: this test fails: expected deny, but the policy says allow: \
         client `billing` is granted `more` (p.yaml:11)"
    );
    assert!(granted(&before, "billing", "ui-servers").is_ok());
}

#[test]
fn a_grant_may_be_what_a_failing_test_asks_for() {
    let clients = "tests: [{client: billing, sni: more, expect: allow}]\nclients: {}\n";
    let before = text(clients);
    assert!(Policy::parse("p.yaml", &before).is_err());
    let edit = granted(&before, "billing", "more").unwrap();
    assert!(policy(edit.text()).client("billing").is_some());
    let error = granted(&before, "ledger", "more").unwrap_err();
    assert!(matches!(error, EditError::Tests { .. }), "{error}");
}

#[test]
fn many_clients_are_granted_in_one_change() {
    let clients = ["a", "standard client", "b", "free-trial-client", "a"].map(name);
    for before in [
        CLIENTS,
        "clients:\n  standard client:\n    groups:\n    - more\n",
        "clients: {}\n",
    ] {
        let before = text(before);
        let edit = grant("p.yaml", &before, &clients, &["ui-servers", "7"]).unwrap();
        let one_by_one = clients.iter().fold(before, |text, client| {
            let edit = grant(
                "p.yaml",
                &text,
                std::slice::from_ref(client),
                &["ui-servers", "7"],
            );
            edit.unwrap().text().to_owned()
        });
        assert_eq!(edit.text(), one_by_one);
    }
}

#[test]
fn a_new_client_has_the_default_limits_and_a_known_one_keeps_its_own() {
    let clients = [name("free-trial-client"), name("billing")];
    let edit = grant("p.yaml", &text(CLIENTS), &clients, &["7"]).unwrap();
    let (old, new) = (policy(&text(CLIENTS)), policy(edit.text()));
    let [before, after] = [&old, &new].map(|policy| policy.client("free-trial-client").unwrap());
    assert_eq!(
        (before.max_connections, before.rate),
        (after.max_connections, after.rate)
    );
    let defaults = new.client("standard client").unwrap();
    let billing = new.client("billing").unwrap();
    assert_eq!(
        (billing.max_connections, billing.when_full, billing.rate),
        (defaults.max_connections, defaults.when_full, defaults.rate)
    );
}
