use super::*;

const THRESHOLDS: HealthThresholds = HealthThresholds {
    rise: NonZeroU32::new(3).unwrap(),
    fall: NonZeroU32::new(2).unwrap(),
};

/// `+` and `-` are probes, `o` and `x` dials that succeeded and failed, `f` and `b` relays that
/// finished and broke; rise 3, fall 2.
fn after(start: HealthState, story: &str) -> UpstreamHealth {
    let step = |condition: HealthState, sign| match sign {
        '+' => condition.probed(Observation::Passed, THRESHOLDS),
        '-' => condition.probed(Observation::Failed, THRESHOLDS),
        'o' => condition.dialed(Observation::Passed, THRESHOLDS),
        'x' => condition.dialed(Observation::Failed, THRESHOLDS),
        'f' => condition.relayed(Observation::Passed, THRESHOLDS),
        'b' => condition.relayed(Observation::Failed, THRESHOLDS),
        _ => unreachable!("no such sign"),
    };
    story.chars().fold(start, step).health()
}

#[test]
fn an_unknown_upstream_must_pass_once_before_it_serves() {
    let fresh = |story| after(HealthState::UNKNOWN, story);
    assert_eq!(fresh(""), UpstreamHealth::Unknown);
    assert_eq!(fresh("+"), UpstreamHealth::Up);
    assert_eq!(
        fresh("-"),
        UpstreamHealth::Unknown,
        "one failure is no verdict"
    );
    assert_eq!(fresh("-+"), UpstreamHealth::Up, "it was starting");
    assert_eq!(
        fresh("--"),
        UpstreamHealth::Down,
        "the second failure in a row takes it down"
    );
    assert_eq!(
        fresh("--+"),
        UpstreamHealth::Down,
        "now it must pass three times"
    );
    assert_eq!(
        fresh("xxooo"),
        UpstreamHealth::Unknown,
        "dials say nothing about the unknown"
    );
}

#[test]
fn an_upstream_that_is_up_goes_down_with_the_second_failure_in_a_row() {
    let up = |story| after(HealthState::UP, story);
    assert_eq!(
        up("-+-+-"),
        UpstreamHealth::Up,
        "scattered failures never add up"
    );
    assert_eq!(up("--"), UpstreamHealth::Down);
    assert_eq!(
        up("xoxox"),
        UpstreamHealth::Up,
        "a dial that succeeds ends the row"
    );
    assert_eq!(up("xx"), UpstreamHealth::Down, "failed dials count as well");
    assert_eq!(
        up("x+x"),
        UpstreamHealth::Down,
        "a probe does not excuse failed dials"
    );
    assert_eq!(
        up("-o-"),
        UpstreamHealth::Down,
        "a dial does not excuse failed probes"
    );
    assert_eq!(up("-x"), UpstreamHealth::Up, "one of each is no row");
}

#[test]
fn an_upstream_that_breaks_ten_connections_in_a_row_goes_down() {
    let up = |story: &str| after(HealthState::UP, story);
    assert_eq!(
        up("bbbbbbbbb"),
        UpstreamHealth::Up,
        "nine may be clients' doing"
    );
    assert_eq!(up("bbbbbbbbbb"), UpstreamHealth::Down);
    assert_eq!(
        up("bbbbbbbbbfbbbbbbbbb"),
        UpstreamHealth::Up,
        "one finished"
    );
    assert_eq!(
        up("bbbbb+o+obbbbb"),
        UpstreamHealth::Down,
        "that it accepts and answers probes excuses nothing"
    );
    assert_eq!(after(HealthState::DOWN, "ffff"), UpstreamHealth::Down);
}

#[test]
fn an_upstream_that_is_down_comes_up_with_the_third_pass_in_a_row() {
    let down = |story| after(HealthState::DOWN, story);
    assert_eq!(down("++"), UpstreamHealth::Down);
    assert_eq!(
        down("++-++"),
        UpstreamHealth::Down,
        "a failure restarts the climb"
    );
    assert_eq!(down("+++"), UpstreamHealth::Up);
    assert_eq!(
        down("++o"),
        UpstreamHealth::Down,
        "only probes bring it back"
    );
    assert_eq!(
        down("++x+"),
        UpstreamHealth::Up,
        "a late failure of an old dial is no news"
    );
}

#[test]
fn what_is_known_here_counts_more_than_what_is_known_elsewhere() {
    let heard = |condition: HealthState, elsewhere| condition.or(elsewhere).health();
    assert_eq!(
        heard(HealthState::UNKNOWN, UpstreamHealth::Up),
        UpstreamHealth::Up
    );
    assert_eq!(
        heard(HealthState::UNKNOWN, UpstreamHealth::Down),
        UpstreamHealth::Down
    );
    assert_eq!(
        heard(HealthState::UNKNOWN, UpstreamHealth::Unknown),
        UpstreamHealth::Unknown
    );
    assert_eq!(
        heard(HealthState::UP, UpstreamHealth::Down),
        UpstreamHealth::Up
    );
    assert_eq!(
        heard(HealthState::DOWN, UpstreamHealth::Up),
        UpstreamHealth::Down
    );
}

#[test]
fn an_upstream_on_trial_goes_down_with_one_failed_dial() {
    let trial = |story| after(HealthState::half_open(THRESHOLDS), story);
    assert_eq!(trial("x"), UpstreamHealth::Down);
    assert_eq!(
        trial("ox"),
        UpstreamHealth::Up,
        "a dial that succeeds ends the trial"
    );
}

#[test]
fn a_trial_ends_with_the_first_failed_dial_however_many_it_takes_otherwise() {
    let thresholds = HealthThresholds {
        fall: NonZeroU32::MAX,
        ..THRESHOLDS
    };
    let trial = HealthState::half_open(thresholds);
    let failed = trial.dialed(Observation::Failed, thresholds);
    assert_eq!(failed.health(), UpstreamHealth::Down);
}

#[test]
fn health_reads_as_its_word() {
    let words = [
        UpstreamHealth::Unknown,
        UpstreamHealth::Up,
        UpstreamHealth::Down,
    ]
    .map(|health| health.to_string());
    assert_eq!(words, ["unknown", "up", "down"]);
}
