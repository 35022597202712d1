//! What the command says, and what its exit codes say.

use std::process::{Command, Output};

use crate::harness::{Upstream, World};

fn portcullis(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(world.folder())
        .args(arguments)
        .output()
        .unwrap()
}

/// The same with one variable set.
fn with_variable(world: &World, (name, value): (&str, &str), arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(world.folder())
        .env(name, value)
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn world() -> World {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("queue", &[&upstream], "");
    world.write_policy();
    world
}

#[tokio::test]
async fn check_passes_what_can_be_served_and_names_what_cannot() {
    let world = world().await;
    let fine = portcullis(&world, &["check"]);
    assert_eq!(fine.status.code(), Some(0), "{}", said(&fine));

    world.write(
        "policy.yaml",
        &world.policy().replace("alice: {groups", "alice: {gruops"),
    );
    let wrong = portcullis(&world, &["check", "policy.yaml"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        said(&wrong).contains("policy.yaml:9:11: error: unknown key `gruops`"),
        "{}",
        said(&wrong)
    );
    assert!(
        said(&wrong).contains("did you mean `groups`?"),
        "{}",
        said(&wrong)
    );

    world.write_policy();
    std::fs::copy(world.path("ca.key"), world.path("server.key.ca")).unwrap();
    std::fs::rename(world.path("server.key.ca"), world.path("server.key")).unwrap();
    let mismatch = portcullis(&world, &["check"]);
    assert_eq!(mismatch.status.code(), Some(1));
    let place = place(&world.policy(), "server.key");
    assert!(
        said(&mismatch).contains(&format!(
            "policy.yaml:{place}: error: server.key is not the key of"
        )),
        "{}",
        said(&mismatch)
    );
    let nowhere = portcullis(&world, &["check", "nowhere.yaml"]);
    assert!(
        said(&nowhere).starts_with("nowhere.yaml: error: cannot read the policy: "),
        "{}",
        said(&nowhere)
    );
}

/// Where `what` is in a text: its line and column, as they are printed.
fn place(text: &str, what: &str) -> String {
    let mut lines = text.lines().enumerate();
    let found = lines.find_map(|(line, text)| Some((line + 1, text.find(what)? + 1)));
    let (line, column) = found.unwrap();
    format!("{line}:{column}")
}

#[tokio::test]
async fn explain_answers_as_the_gateway_would() {
    let world = world().await;

    let allowed = portcullis(&world, &["explain", "alice", "db"]);
    assert_eq!(allowed.status.code(), Some(0));
    assert!(
        said(&allowed).contains("client `alice` is granted `db` (policy.yaml:9)"),
        "{}",
        said(&allowed)
    );

    let denied = portcullis(&world, &["explain", "alice", "queue", "--json"]);
    assert_eq!(denied.status.code(), Some(3));
    let answer: serde_json::Value = serde_json::from_slice(&denied.stdout).unwrap();
    assert_eq!(answer["allowed"], false);
}

#[tokio::test]
async fn diff_tells_who_gains_and_who_loses() {
    let mut world = world().await;
    let same = portcullis(&world, &["diff", "policy.yaml", "policy.yaml"]);
    assert_eq!(same.status.code(), Some(0));

    world.client("alice", "groups: [queue]");
    world.client("bob", "groups: [db]");
    world.write("new.yaml", &world.policy());
    let differs = portcullis(&world, &["diff", "policy.yaml", "new.yaml"]);
    assert_eq!(differs.status.code(), Some(3));
    for line in [
        "+ client `alice` may reach `queue`",
        "- client `alice` may no longer reach `db`",
        "+ client `bob` may reach `db`",
    ] {
        assert!(said(&differs).contains(line), "{}", said(&differs));
    }
}

#[tokio::test]
async fn wrong_usage_is_told_from_failure() {
    let world = world().await;
    assert_eq!(portcullis(&world, &["frobnicate"]).status.code(), Some(2));
    let missing = portcullis(&world, &["run", "--policy", "missing.yaml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        said(&missing).contains("cannot read policy"),
        "{}",
        said(&missing)
    );
}

#[tokio::test]
async fn the_demo_goes_as_expected_and_leaves_what_serves() {
    let world = World::new();
    let arguments = ["demo", "--once", "--free-ports", "--dir", "demo"];
    let shown = portcullis(&world, &arguments);
    assert_eq!(shown.status.code(), Some(0), "{}", said(&shown));

    let check = portcullis(&world, &["check", "demo/policy.yaml"]);
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
}

#[tokio::test]
async fn the_demo_is_one_table_between_what_happens_and_what_to_type_next() {
    let world = World::new();
    let arguments = ["demo", "--once", "--free-ports", "--dir", "demo"];
    let shown = portcullis(&world, &arguments);
    assert_eq!(String::from_utf8_lossy(&shown.stderr), "", "no log events");
    let text = String::from_utf8(shown.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("This demo issues certificates"),
        "{text}"
    );
    let header = lines.iter().find(|line| line.starts_with("CLIENT"));
    let header: Vec<&str> = header.expect("a table").split_whitespace().collect();
    assert_eq!(header, ["CLIENT", "WANTS", "RESULT"]);
    for reason in ["not_granted", "unknown_authority", "client_connections"] {
        assert!(text.contains(&format!("  refused: {reason}\n")), "{text}");
    }
    let next = lines.last().unwrap();
    assert!(next.ends_with("explain free-trial-client backend-servers --policy demo/policy.yaml"));
    let table = &lines[..lines.len() - 1];
    assert!(
        table.iter().all(|line| line.chars().count() <= 78),
        "{text}"
    );

    let logged = portcullis(&world, &[&arguments[..], &["--log", "info"]].concat());
    assert!(!logged.stderr.is_empty(), "log events that were asked for");
}

#[tokio::test]
async fn help_is_no_wider_than_the_terminal_and_breaks_between_words() {
    let world = World::new();
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["demo", "--help"],
        &["upgrade", "--help"],
        &["steer", "load", "--help"],
    ] {
        let help = with_variable(&world, ("COLUMNS", "80"), arguments);
        let text = said(&help);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
    let text = said(&portcullis(&world, &["run", "--help"]));
    for signal in ["HUP", "USR1", "USR2", "TERM, INT"] {
        assert!(text.contains(&format!("\n  {signal}  ")), "{text}");
    }
}

/// The variables of `portcullis run`, without `PORTCULLIS_`.
const VARIABLES_OF_RUN: [&str; 8] = [
    "POLICY",
    "ACCESS_LOG",
    "WORKERS",
    "STANDBY",
    "INSTANCE",
    "BPFFS",
    "LOG",
    "LOG_FORMAT",
];
/// Variables that others set: a Kubernetes service named `portcullis`, or `portcullis-log`, puts
/// some of them into every pod.
const VARIABLES_OF_OTHERS: [&str; 7] = [
    "PORT",
    "SERVICE_PORT",
    "JSON",
    "EXPLAIN_PORT",
    "DRY_RUN",
    "TIMEOUT",
    "USER",
];

#[tokio::test]
async fn variables_that_others_set_break_no_command() {
    let world = world().await;
    let variables = VARIABLES_OF_RUN.iter().chain(&VARIABLES_OF_OTHERS);
    let variables = variables.map(|name| (format!("PORTCULLIS_{name}"), "tcp://10.43.7.9:8443"));
    let empty = World::new();
    for (world, arguments) in [
        (&world, &["check"][..]),
        (&world, &["explain", "alice", "db"]),
        (&world, &["diff", "policy.yaml", "policy.yaml"]),
        (&world, &["schema"]),
        (
            &empty,
            &[
                "demo",
                "--once",
                "--free-ports",
                "--log",
                "off",
                "--log-format",
                "json",
            ],
        ),
    ] {
        let answer = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .current_dir(world.folder())
            .envs(variables.clone())
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(
            answer.status.code(),
            Some(0),
            "{arguments:?}: {}",
            said(&answer)
        );
        assert!(answer.stderr.is_empty(), "{arguments:?}: {}", said(&answer));
    }
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .envs(variables)
        .args(["bindings", "--bpffs", world.folder().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        said(&elsewhere).contains("/portcullis/default"),
        "{}",
        said(&elsewhere)
    );
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let world = world().await;
    world.write("policy.yaml", "");
    let refused = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(world.folder())
        .envs(VARIABLES_OF_RUN.map(|name| (format!("PORTCULLIS_{name}"), "")))
        .arg("run")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("policy.yaml:1:1"),
        "{}",
        said(&refused)
    );
}

#[tokio::test]
async fn variables_of_switches_take_the_usual_words() {
    let world = world().await;
    world.write("policy.yaml", "");
    for (value, code) in [
        ("1", 1),
        ("yes", 1),
        ("True", 1),
        ("0", 1),
        ("off", 1),
        ("perhaps", 2),
    ] {
        let answer = with_variable(&world, ("PORTCULLIS_STANDBY", value), &["run"]);
        assert_eq!(
            answer.status.code(),
            Some(code),
            "{value}: {}",
            said(&answer)
        );
    }
}

#[tokio::test]
async fn a_log_level_that_is_no_level_is_refused() {
    let world = world().await;
    let refused = portcullis(&world, &["run", "--log", "verbose"]);
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("`verbose` is not a log level"),
        "{}",
        said(&refused)
    );
}

#[tokio::test]
async fn a_demo_that_cannot_write_or_listen_says_where_and_what_helps() {
    let world = World::new();
    world.write("file", "");
    let refused = portcullis(
        &world,
        &["demo", "--once", "--free-ports", "--dir", "file/certs"],
    );
    assert_eq!(refused.status.code(), Some(1));
    let told = said(&refused);
    assert!(
        told.contains("file/certs") && told.contains("`--dir`"),
        "{told}"
    );
}

#[tokio::test]
async fn the_kernels_half_is_named_before_or_behind_what_is_done_with_it() {
    let world = world().await;
    let nowhere = world.folder().to_str().unwrap();
    for action in ["load", "status", "unload"] {
        for arguments in [
            ["steer", action, "--bpffs", nowhere],
            ["steer", "--bpffs", nowhere, action],
        ] {
            let output = portcullis(&world, &arguments);
            assert_eq!(output.status.code(), Some(1));
            let place = format!("{nowhere}/portcullis/default");
            assert!(said(&output).contains(&place), "{}", said(&output));
        }
    }
}

#[tokio::test]
async fn check_reads_the_standard_input() {
    let world = world().await;
    let wrong = world.policy().replace("alice: {groups", "alice: {gruops");
    let wrong = wrong.replace("server.crt", "absent.crt");
    let own = place(&world.policy(), "server.crt");
    for (text, code, told) in [
        (world.policy(), 0, "-: valid: 2 groups"),
        (
            world.policy(),
            0,
            "-:6:3: warning: groups.db: the gateway's certificate is not valid for db",
        ),
        (wrong.clone(), 1, "-:9:11: error: unknown key `gruops`"),
        (wrong, 1, &format!("-:{own}: error: cannot read absent.crt")),
        (
            world.policy() + &"#\n".repeat(32 << 20),
            1,
            "-:1:1: error: the file has more than 67108864 bytes",
        ),
    ] {
        world.write("piped.yaml", &text);
        let answer = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .current_dir(world.folder())
            .args(["check", "-"])
            .stdin(std::fs::File::open(world.path("piped.yaml")).unwrap())
            .output()
            .unwrap();
        assert_eq!(answer.status.code(), Some(code), "{}", said(&answer));
        assert!(said(&answer).contains(told), "{}", said(&answer));
    }
}
