//! Promises about whole texts.

use std::fmt::Write as _;

use crate::test_support::{GROUPS, assert_told, policy, refused, with};
use crate::*;

mod parts;

#[test]
fn the_policy_that_comes_with_the_project_is_valid_and_holds_its_own_tests() {
    let policy = policy(include_str!("../../policy.yaml"));
    assert_eq!((policy.groups().count(), policy.clients().count()), (3, 3));
}

#[test]
fn what_holds_for_a_whole_file_is_refused_where_it_is_written() {
    for (text, message) in [
        (
            "",
            "p.yaml:1:1: the file is empty; expected `version: 1` first",
        ),
        (
            "- 1\n",
            "p.yaml:1:1: a list cannot be the policy; expected a mapping with `version`, `gateway`, `groups`, `clients`, `tests`",
        ),
        (
            "version: 1\n",
            "p.yaml:1:1: `gateway` is missing in the policy\np.yaml:1:1: `groups` is missing in the policy\np.yaml:1:1: `clients` is missing in the policy",
        ),
        ("a: &x [1, *x]\n", "p.yaml:1:11: the alias refers to itself"),
        ("version: !!int 1\n", "p.yaml:1:16: unsupported tag `!!int`"),
        (
            "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]\n",
            "p.yaml:1:17: more than 16 levels of nesting",
        ),
    ] {
        assert_eq!(refused(text), message, "{text}");
    }
    let two = refused(&with(&format!("{GROUPS}clients: {{}}\n---\nversion: 1\n")));
    assert_eq!(
        two,
        "p.yaml:7:1: a second document begins here; a policy is one document"
    );
    let open = refused("a: [1\n");
    assert!(open.contains(": this is not YAML: "), "{open}");
}

#[test]
fn each_mistake_is_told_with_its_place_and_what_was_meant() {
    for (rest, message) in [
        (
            "group: {}\nclients: {}",
            "5:1: unknown key `group` in the policy; did you mean `groups`?",
        ),
        (
            "groups: {a: {upstream: ['10.0.0.1:1']}}\nclients: {}",
            "5:14: unknown key `upstream` in a group; did you mean `upstreams`?",
        ),
        (
            "groups: {a: {xyz: 1, upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:14: unknown key `xyz` in a group; expected `sni`, `ports`, `upstreams`, `health`, `proxy_protocol`, `alpn`, `max_connections`, `when_all_down`, `timeouts`, `tries`",
        ),
        (
            "groups:\n  a: {upstreams: ['10.0.0.1:1']}\n  a: {upstreams: ['10.0.0.1:1']}\nclients: {}",
            "7:3: duplicate `a`; it is first in line 6",
        ),
        (
            "groups: {a: {tries: 1, tries: 2, upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:24: duplicate `tries`; it is first in line 5",
        ),
        (
            "groups: {a: {upstreams: []}}\nclients: {}",
            "5:25: the list is empty; expected at least one of upstreams",
        ),
        (
            "groups: {a: {upstreams: ['10.0.0.1:1', {address: '10.0.0.1:1', weight: 2}]}}\nclients: {}",
            "5:40: a mapping is in the list twice",
        ),
        (
            "groups: {a: {upstreams: [localhost:1]}}\nclients: {}",
            "5:26: `localhost:1` is not an address; expected an IP address with a port, such as `10.0.0.1:5432` or `[::1]:5432`",
        ),
        (
            "groups: {a: {upstreams: ['0.0.0.0:1']}}\nclients: {}",
            "5:26: `0.0.0.0:1` cannot be an upstream; expected an address and a port to connect to",
        ),
    ] {
        assert_told(&with(rest), message);
    }
}

#[test]
fn each_mistake_in_a_name_or_a_value_is_told_with_what_was_expected() {
    for (rest, message) in [
        (
            "groups: {a b: {upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:10: `a b` is not a DNS name, because it contains ' '; expected `sni: […]` with the \
             names that clients ask for",
        ),
        (
            "groups: {a: {sni: [a..b], upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:20: `a..b` is not an SNI name, because it has an empty label; expected one such as `ui.example.test` or `*.example.test`",
        ),
        (
            "groups: {a: {sni: [x, X], upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:23: `X` is in the list twice",
        ),
        (
            "groups:\n  a: {sni: [x], upstreams: ['10.0.0.1:1']}\n  b: {sni: [y, X], upstreams: ['10.0.0.1:1']}\nclients: {}",
            "7:16: name `x` already leads to group `a` (line 6); expected it in one group only",
        ),
        (
            "groups:\n  a: {ports: [7], upstreams: ['10.0.0.1:1']}\n  b: {ports: [7], upstreams: ['10.0.0.1:1']}\nclients: {}",
            "7:15: port `7` already leads to group `a` (line 6); expected it in one group only",
        ),
        (
            "groups: {a: {ports: [0], upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:22: `0` is not a port; expected a number from 1 to 65535",
        ),
        (
            "groups: {a: {health: {check: of}, upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:30: `of` is unknown; expected `tcp` or `tls` or `off`; did you mean `off`?",
        ),
        (
            "groups: {a: {health: {interval: 0s}, upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:33: `0s` is zero; expected a duration such as `5s`",
        ),
        (
            "groups: {a: {health: {interval: 5}, upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:33: `5` is not a duration; expected one such as `500ms`, `5s`, `10m`, `1h` or `2d`",
        ),
        (
            "groups: {a: {timeouts: {idle: 0}, upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:31: `0` is zero; write `unlimited` for no limit",
        ),
        (
            "groups: {a: {health: {jitter: 101%}, upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:31: `101%` is not a percentage; expected `0%` to `100%`",
        ),
        (
            "groups: {a: {health: {check: {send: 'ő', expect: x}}, upstreams: ['10.0.0.1:1']}}\nclients: {}",
            "5:37: a character is not a single byte; expected characters up to `\\xff`, others as their bytes",
        ),
    ] {
        assert_told(&with(rest), message);
    }
}

#[test]
fn each_mistake_in_a_clients_line_is_told_with_its_place() {
    for (rest, message) in [
        (
            "clients: {one: {groups: [lodger]}}",
            "6:26: there is no group `lodger`; did you mean `ledger`?",
        ),
        (
            "clients: {one: {groups: []}}",
            "6:25: the list is empty; expected at least one of groups",
        ),
        (
            "clients: {one: {groups: web}}",
            "6:25: `web` is not a list; expected a list of groups, `[…]`",
        ),
        (
            "clients: {one: {groups: [web, web]}}",
            "6:31: `web` is in the list twice",
        ),
        (
            "clients: {one: {}}",
            "6:16: `groups` is missing in a client",
        ),
        ("clients: {one: }", "6:14: `groups` is missing in a client"),
        (
            "clients: {' one': {groups: [web]}}",
            "6:11: ` one` is not a client's name: the name starts or ends with whitespace",
        ),
        (
            "clients: {one: {groups: [web], max_connections: 0}}",
            "6:49: `0` would allow nothing; write `unlimited` for no limit, or remove the grant",
        ),
        (
            "clients: {one: {groups: [web], max_connections: -1}}",
            "6:49: `-1` is not a limit; expected a number from 1, or `unlimited`",
        ),
        (
            "clients: {one: {groups: [web], rate: 5/d}}",
            "6:38: `5/d` is not a rate; expected one such as `5/s`, `300/m` or `1000/h`; leave `rate` out for no limit",
        ),
    ] {
        assert_client_told(rest, message);
    }
}

#[test]
fn each_mistake_in_a_test_is_told_with_its_place() {
    for (rest, message) in [
        (
            "clients: {one: {groups: [web]}}\ntests:\n  - {client: one, sni: ledger, expect: allow}",
            "8:5: this test fails: expected allow, but the policy says deny: client `one` is not \
             granted `ledger` (p.yaml:6)",
        ),
        (
            "clients: {one: {groups: [web]}}\ntests:\n  - {client: one, sni: web, expect: deny}",
            "8:5: this test fails: expected deny, but the policy says allow: client `one` is \
             granted `web` (p.yaml:6)",
        ),
        (
            "clients: {one: {groups: [web]}}\ntests:\n  - {client: one, sni: web, expect: allow, group: ledger}",
            "8:5: this test fails: expected group `ledger`, but the policy says group `web`: \
             client `one` is granted `web` (p.yaml:6)",
        ),
        (
            "clients: {one: {groups: [web]}}\ntests: [{client: one, expect: deny, group: web}]",
            "7:44: `group` is possible with `expect: allow` only",
        ),
        (
            "clients: {one: {groups: [web]}}\ntests: [{client: one, sni: web}]",
            "7:9: `expect` is missing in a test",
        ),
    ] {
        assert_client_told(rest, message);
    }
}

/// Asserts that the clients and tests in `rest` are refused for `message` alone.
fn assert_client_told(rest: &str, message: &str) {
    let text = with(&format!("{GROUPS}{rest}\n"));
    assert_eq!(refused(&text), format!("p.yaml:{message}"), "{rest}");
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file_but_no_more_than_twenty() {
    let mut text = with(GROUPS) + "clients:\n";
    for n in 0..30 {
        writeln!(text, "  c{n}: {{groups: [nobody-{n}]}}").unwrap();
    }
    let error = Policy::parse("p.yaml", &text).unwrap_err();
    assert_eq!(error.problems().len(), 20);
    assert!(
        error
            .problems()
            .is_sorted_by_key(|problem| (problem.line, problem.column))
    );
    assert!(error.to_string().ends_with("\np.yaml: and 10 more"));
}

#[test]
fn aliases_repeat_what_they_name_but_cannot_fill_the_memory() {
    let shared =
        with("groups: {a: {upstreams: &u ['10.0.0.1:1']}, b: {upstreams: *u}}\nclients: {}\n");
    assert_eq!(policy(&shared).group("b").unwrap().upstreams.len(), 1);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let names = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(bomb, "a{n}: &a{n} [{names}]").unwrap();
    }
    assert!(refused(&bomb).contains("anchors and aliases expand to too many values"));
}

#[test]
fn absent_means_the_documented_default() {
    let policy = policy(&with(&format!(
        "{GROUPS}clients: {{one: {{groups: [web]}}}}\n"
    )));
    assert_eq!(policy.gateway().limits, GatewayLimits::default());
    assert_eq!(policy.gateway().timeouts, GatewayTimeouts::default());
    assert_eq!(policy.gateway().on_revoke, OnRevoke::Cut);
    assert_eq!(policy.gateway().tls.expired_crl, ExpiredCrl::Refuse);
    let web = policy.group("web").unwrap();
    assert_eq!(web.sni, [SniName::new("web").unwrap()]);
    assert_eq!(
        (web.health.clone(), web.tries.get()),
        (HealthPolicy::default(), 3)
    );
    assert_eq!(
        policy.client("one").unwrap().max_connections,
        Quota::Unlimited
    );
}

#[test]
fn what_is_written_is_what_is_read() {
    let policy = policy(&with(
        r#"groups:
  a:
    ports: [8444]
    upstreams: [{address: "[::1]:1", weight: 3, backup: true, state: maint}]
    health: {check: {send: "\0\xd2", expect: "S"}, interval: 500ms, timeout: 2s, rise: 1, fall: 5, jitter: 0%}
    proxy_protocol: v2
    alpn: [postgresql]
    max_connections: 7
    when_all_down: try_all
    timeouts: {connect: 1s, idle: unlimited, lifetime: 2d}
    tries: 1
  b: {upstreams: ["10.0.0.1:1"], health: {check: off}, alpn: [postgresql, x]}
clients: {one: {groups: [b, a], rate: 5/m}}
"#,
    ));
    let a = policy.group("a").unwrap();
    let check = CheckPolicy::SendExpect {
        send: vec![0, 0xd2],
        expect: b"S".to_vec(),
    };
    assert_eq!(a.health.check, check);
    assert_eq!(a.upstreams[0].state, UpstreamState::Maint);
    assert!(a.upstreams[0].backup && a.upstreams[0].weight.get() == 3);
    assert_eq!(a.timeouts.idle, Some(None));
    assert_eq!(
        a.timeouts.lifetime,
        Some(Some(std::time::Duration::from_hours(48)))
    );
    assert_eq!(a.when_all_down, WhenAllDown::TryAll);
    assert_eq!(policy.group("b").unwrap().health.check, CheckPolicy::Off);
    assert_eq!(policy.protocols.len(), 2);
    let one = policy.client("one").unwrap();
    assert_eq!(
        (one.groups.join(" "), one.rate.unwrap().to_string()),
        ("a b".into(), "5/m".into())
    );
}

#[test]
fn a_section_whose_keys_are_all_commented_out_is_an_empty_one() {
    let text = with(
        "groups:\n  a:\n    upstreams: ['10.0.0.1:1']\n    health:\n    timeouts:\nclients:\ntests:\n",
    );
    let text = text.replace(
        "['[::]:8443'],",
        "['[::]:8443'], limits: , timeouts: , ban: ,",
    );
    let read = policy(&text);
    assert_eq!(read.gateway().limits, GatewayLimits::default());
    assert_eq!(read.gateway().timeouts, GatewayTimeouts::default());
    assert!(read.gateway().ban.is_some(), "`ban:` bans by its defaults");
    assert_eq!((read.groups().count(), read.clients().count()), (1, 0));
}

#[test]
fn a_name_that_leads_to_very_many_groups_is_told_for_the_first_of_them() {
    // Each place that is told costs a search through all groups.
    const GROUPS: usize = 30_000;
    let mut text = String::from("groups:\n");
    for n in 0..GROUPS {
        writeln!(text, "  g{n}: {{sni: [same], upstreams: ['10.0.0.1:1']}}").unwrap();
    }
    let error = Policy::parse("p.yaml", &with(&(text + "clients: {}\n"))).unwrap_err();
    assert_eq!(error.problems().len(), 20);
    let told = error.to_string();
    assert!(
        told.ends_with(&format!("and {} more", GROUPS - 1 - 20)),
        "{told}"
    );
}

#[test]
fn very_many_unknown_keys_are_told_for_the_first_of_them() {
    let mut keys = String::new();
    for n in 0..1_000 {
        write!(keys, "k{n}: 1, ").unwrap();
    }
    let text = with(&format!(
        "groups: {{a: {{{keys}upstreams: ['10.0.0.1:1']}}}}\nclients: {{}}\n"
    ));
    let told = Policy::parse("p.yaml", &text).unwrap_err().to_string();
    assert!(told.contains("unknown key `k19`"), "{told}");
    assert!(told.contains("more"), "{told}");
}

#[test]
fn a_zone_by_name_is_answered_with_how_to_write_it() {
    assert_told(
        &with("groups: {a: {upstreams: ['[fe80::1%eth0]:1']}}\nclients: {}\n"),
        "5:26: `[fe80::1%eth0]:1` is not an address; expected the zone as the interface's number, which `ip link` shows first, such as `[fe80::1%2]:5432`",
    );
    policy(&with(
        "groups: {a: {upstreams: ['[fe80::1%2]:1']}}\nclients: {}\n",
    ));
}
