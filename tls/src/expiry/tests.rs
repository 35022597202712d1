use proptest::prelude::*;

use super::*;

/// The stages that begin after `from` and not after `until`, in order, each with its time. This is
/// the rule written down a second time, as a list.
fn plan(lifetime: Lifetime, from: u64, until: u64) -> Vec<(u64, ExpiryStage)> {
    let Lifetime { begin, end } = lifetime;
    let first = end - (end - begin) / 3;
    let mut plan = Vec::new();
    if first < end {
        plan.push((first, ExpiryStage::LastThird));
    }
    for (days, stage) in [(7, ExpiryStage::LastWeek), (1, ExpiryStage::LastDay)] {
        let at = end.saturating_sub(days * DAY);
        if at > first {
            plan.push((at, stage));
        }
    }
    let days = until.saturating_sub(end) / DAY;
    plan.extend((0..=days).map(|day| (end + day * DAY, ExpiryStage::Ended(day))));
    plan.retain(|(at, _)| (from + 1..=until).contains(at));
    plan
}

/// A process that starts at `start`, follows the notices, and looks at these times as well, as a
/// reload does. Returns what it says until `until`.
fn said(
    lifetime: Lifetime,
    start: u64,
    until: u64,
    mut looks: Vec<u64>,
) -> Vec<(u64, ExpiryStage)> {
    looks.sort_unstable();
    let (mut now, mut last, mut said) = (start, None, Vec::new());
    let mut looks = looks.into_iter().filter(|&look| look > start).peekable();
    loop {
        assert!(said.len() < 100, "each stage once: {said:?}");
        let next = next_notice(lifetime, now, last);
        if next.at <= now {
            said.push((now, next.stage));
            last = Some(next.stage);
            continue;
        }
        now = looks.next_if(|&look| look < next.at).unwrap_or(next.at);
        if now > until {
            return said;
        }
    }
}

proptest! {
    #[test]
    fn each_stage_is_told_once_when_it_begins(
        begin in 0..4_000 * DAY,
        length in 1..4_000 * DAY,
        start in 0..9_000 * DAY,
        lasts in 0..60 * DAY,
        looks in prop::collection::vec(0..9_100 * DAY, 0..20),
    ) {
        let lifetime = Lifetime::new(begin, begin + length);
        let until = start + lasts;
        let mut expected = plan(lifetime, start, until);
        // What began before the process is told at its start, its latest stage only.
        if let Some(reached) = plan(lifetime, 0, start).pop() {
            expected.insert(0, (start, reached.1));
        }
        prop_assert_eq!(said(lifetime, start, until, looks), expected);
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_nothing(
        length in 1..400 * DAY,
        times in prop::collection::vec(0..500 * DAY, 1..30),
    ) {
        let lifetime = Lifetime::new(0, length);
        let (mut last, mut told) = (None, Vec::new());
        for now in times {
            let next = next_notice(lifetime, now, last);
            if next.at <= now {
                told.push(next.stage);
                last = Some(next.stage);
            }
        }
        prop_assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", told);
    }
}

#[test]
fn a_short_lifetime_is_told_in_its_last_third_only() {
    let told = said(Lifetime::new(0, 9 * DAY), 0, 9 * DAY, Vec::new());
    assert_eq!(
        told,
        [
            (6 * DAY, ExpiryStage::LastThird),
            (8 * DAY, ExpiryStage::LastDay),
            (9 * DAY, ExpiryStage::Ended(0)),
        ]
    );
    let hour = said(Lifetime::new(0, 3_600), 0, 3_600, Vec::new());
    assert_eq!(
        hour,
        [
            (2_400, ExpiryStage::LastThird),
            (3_600, ExpiryStage::Ended(0))
        ]
    );
}

#[test]
fn the_last_second_of_a_certificate_is_valid_and_that_of_a_list_is_not() {
    let period = ValidityPeriod {
        not_before: 0,
        not_after: 100,
    };
    let ended = Some(ExpiryStage::Ended(0));
    assert_ne!(Lifetime::of_certificate(period).stage(100), ended);
    assert_eq!(Lifetime::of_certificate(period).stage(101), ended);
    assert_eq!(Lifetime::of_list(period).stage(100), ended);
}

#[test]
fn a_lifetime_that_ends_with_the_clock_has_no_overflow() {
    for begin in [0, u64::MAX] {
        let lifetime = Lifetime::new(begin, u64::MAX);
        let next = next_notice(lifetime, u64::MAX, Some(ExpiryStage::Ended(u64::MAX)));
        assert_eq!(next.at, u64::MAX);
    }
}
