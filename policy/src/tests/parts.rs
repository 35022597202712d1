//! Parts of a policy that each count by themselves.

use super::*;

const CLIENTS: &str = "clients: {billing: {groups: [web]}}\n";

#[test]
fn a_policy_keeps_the_name_of_its_file() {
    assert_eq!(
        &**policy(&with(&format!("{GROUPS}{CLIENTS}"))).file(),
        "p.yaml"
    );
}

#[test]
fn policies_are_equal_if_all_of_their_parts_are() {
    let text = with(&format!("{GROUPS}{CLIENTS}"));
    let whole = policy(&text);
    assert_eq!(whole, policy(&text));
    for (part, other) in [
        ("8443", "8444"),
        ("'10.0.0.1:1'", "'10.0.0.2:1'"),
        ("billing", "audit"),
        ("{web: {", "{web: {alpn: [h2], "),
        ("{web: {", "{web: {sni: [web.test], "),
    ] {
        let differs = policy(&text.replacen(part, other, 1));
        assert_ne!(whole, differs, "{other}");
    }
}

#[test]
fn a_protocols_name_has_at_most_255_bytes() {
    let group = |length: usize| {
        let name = "p".repeat(length);
        with(&format!(
            "groups: {{web: {{upstreams: ['10.0.0.1:1'], alpn: [{name}]}}}}\nclients: {{}}\n"
        ))
    };
    policy(&group(255));
    assert!(refused(&group(256)).contains("has more than 255 bytes"));
}

#[test]
fn a_probe_has_a_name_only_if_it_begins_with_tls() {
    let group = |health: &str| {
        with(&format!(
            "groups: {{web: {{upstreams: ['10.0.0.1:1'], health: {health}}}}}\nclients: {{}}\n"
        ))
    };
    let named = policy(&group("{check: tls, sni: db.test}"));
    let name = named.group("web").unwrap().health.sni.clone();
    assert_eq!(name.unwrap().to_string(), "db.test");
    let error = refused(&group("{check: connect, sni: db.test}"));
    assert!(
        error.contains("only `check: tls` asks for a name"),
        "{error}"
    );
    let error = refused(&group("{check: tls, sni: '*.db.test'}"));
    assert!(error.contains("a probe asks for one name"), "{error}");
}

#[test]
fn a_rate_is_shown_as_it_was_written() {
    for rate in ["5/s", "5/m", "5/h"] {
        let text = format!("{GROUPS}clients: {{billing: {{groups: [web], rate: {rate}}}}}\n");
        let explained = explain(&policy(&with(&text)), "billing", Some("web"), None);
        assert!(explained.to_string().contains(rate), "{explained}");
    }
}

#[test]
fn an_error_in_a_large_text_is_told_as_in_a_small_one() {
    let text = generate(9000, 9000);
    for (good, worse, says) in [
        ("  group-8000: {", "  group-8000: {{", "this is not YAML"),
        (
            "  client-10: {groups",
            "  client-10: {gruops",
            "unknown key `gruops`",
        ),
        ("  group-7:", "  group-6:", "duplicate"),
        ("  client-7:", "\t client-7:", ""),
    ] {
        let worse = text.replace(good, worse);
        assert!(worse != text);
        let error = Policy::parse("policy.yaml", &worse)
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}
