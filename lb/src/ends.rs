//! How connections end: who ended how, what the other side still does, what each side is told, and
//! what limits that.
//!
//! [`rule`] is the whole table. It decides and does nothing: `relay` tells it what it has seen.

use std::time::Duration;

/// How long a connection may be quiet whose client is gone, or ended without announcing it.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// How much of an upstream's stream is dropped for a client that took its leave and is gone.
pub(crate) const MOST_DROPPED: u64 = 64 * 1024;

/// How a side's own stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum StreamState {
    /// More may come.
    #[default]
    Open,
    /// It ended in the way that its protocol has for it: a `close_notify`, or an upstream's FIN.
    Ended,
    /// It ended without a word, and anybody on the way could have ended it. The client may still
    /// listen.
    Unannounced,
    /// It broke: a reset, a time limit of TCP, a forged record.
    Broken,
}

/// One side of a connection, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SideState {
    /// How its own stream stands. The end is seen after all that came before it was passed on.
    pub(crate) stream: StreamState,
    /// Nothing reaches it any more: it answers by resets.
    pub(crate) gone: bool,
}

/// How a side stands for [`rule`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SideCondition {
    Open,
    /// Nothing reaches it, and the rest of what it sent is being read.
    Unreachable,
    Ended,
    /// It ended its stream in order, and nothing reaches it any more.
    Left,
    Unannounced,
    Broken,
}

impl SideState {
    fn condition(self) -> SideCondition {
        match (self.stream, self.gone) {
            (StreamState::Open, false) => SideCondition::Open,
            (StreamState::Open, true) => SideCondition::Unreachable,
            (StreamState::Ended, false) => SideCondition::Ended,
            (StreamState::Ended, true) => SideCondition::Left,
            (StreamState::Unannounced, false) => SideCondition::Unannounced,
            (StreamState::Unannounced, true) | (StreamState::Broken, _) => SideCondition::Broken,
        }
    }
}

/// What a connection waits for, how long, and what it comes to then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EndRule {
    /// When it is over.
    pub(crate) over: EndCondition,
    /// How long it may be silent until then.
    pub(crate) limit: SilenceLimit,
    /// What it comes to, when it is over or at the limit.
    pub(crate) verdict: RelayVerdict,
}

/// When a connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndCondition {
    /// Now.
    Now,
    /// When a side does something, or at the limit.
    ByPeers,
    /// When what was taken in has arrived.
    WhenTaken(PendingDelivery),
}

/// What has to arrive before a connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PendingDelivery {
    /// All that is on its way to the client.
    pub(crate) client: bool,
    /// All that is on its way to the upstream.
    pub(crate) upstream: bool,
    /// Whatever else the upstream says until it is quiet for [`LINGER`].
    pub(crate) answers: bool,
}

/// Which time limits the silence of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SilenceLimit {
    /// `idle`.
    Idle,
    /// `half_closed`.
    HalfClosed,
    /// A third of `half_closed`: the client was told the upstream's end and has only to close.
    EndSent,
    /// [`LINGER`].
    Linger,
}

/// What a connection comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RelayVerdict {
    /// Both sides ended in order, and both are closed in order.
    Finished,
    /// The client ended in order and did not wait for the upstream, which was told that end and is
    /// closed in order.
    ClientLeft,
    /// Neither side moved a byte: both are reset.
    Idle,
    /// One side had ended, the other did not move a byte: both are reset.
    HalfClosed,
    /// A side broke off, and the first to do so is to blame: both are reset.
    Broke,
}

const fn by_peers(limit: SilenceLimit, verdict: RelayVerdict) -> EndRule {
    EndRule {
        over: EndCondition::ByPeers,
        limit,
        verdict,
    }
}

const fn now(verdict: RelayVerdict) -> EndRule {
    EndRule {
        over: EndCondition::Now,
        limit: SilenceLimit::Idle,
        verdict,
    }
}

/// What one side left behind goes to the other, then both are reset.
const fn when_taken(rest: PendingDelivery) -> EndRule {
    EndRule {
        over: EndCondition::WhenTaken(rest),
        limit: SilenceLimit::HalfClosed,
        verdict: RelayVerdict::Broke,
    }
}

const TO_CLIENT: PendingDelivery = PendingDelivery {
    client: true,
    upstream: false,
    answers: false,
};
const TO_UPSTREAM: PendingDelivery = PendingDelivery {
    client: false,
    upstream: true,
    answers: false,
};
const TO_BOTH: PendingDelivery = PendingDelivery {
    client: true,
    upstream: true,
    answers: false,
};
const WITH_ANSWERS: PendingDelivery = PendingDelivery {
    answers: true,
    ..TO_BOTH
};

/// The table of connection ends.
pub(crate) fn rule(client: SideState, upstream: SideState) -> EndRule {
    use SideCondition::{Broken, Ended, Left, Open, Unannounced, Unreachable};
    match (client.condition(), upstream.condition()) {
        (Open, Open) => by_peers(SilenceLimit::Idle, RelayVerdict::Idle),
        // The upstream was told; the client waits for the answer.
        (Ended, Open) => by_peers(SilenceLimit::HalfClosed, RelayVerdict::HalfClosed),
        // The upstream was told, and may end by itself.
        (Left, Open) => by_peers(SilenceLimit::Linger, RelayVerdict::ClientLeft),
        // Is it only the client's write side that is closed? Then it gets what is on its way.
        (Unannounced, Open) => when_taken(WITH_ANSWERS),
        (Broken, Open) => when_taken(TO_UPSTREAM),
        // The client was told, and may still have something to say.
        (Open, Ended) => by_peers(SilenceLimit::EndSent, RelayVerdict::HalfClosed),
        (Ended | Left, Ended) => now(RelayVerdict::Finished),
        (Unannounced, Ended) => when_taken(TO_BOTH),
        (Broken, Ended) => when_taken(TO_UPSTREAM),
        // An upstream that resets after its end did not take what came later.
        (Open | Ended | Unannounced, Broken | Left | Unannounced) => when_taken(TO_CLIENT),
        (Left | Broken | Unreachable, Broken | Left | Unannounced) => now(RelayVerdict::Broke),
        // The rest of what the deaf side said is read first.
        (Unreachable, Open | Ended) | (_, Unreachable) => {
            by_peers(SilenceLimit::HalfClosed, RelayVerdict::Broke)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-` open, `d` open and gone, `e` ended, `l` ended and gone, `u` unannounced, `b` broken.
    fn side(sign: char) -> SideState {
        let (stream, gone) = match sign {
            '-' => (StreamState::Open, false),
            'd' => (StreamState::Open, true),
            'e' => (StreamState::Ended, false),
            'l' => (StreamState::Ended, true),
            'u' => (StreamState::Unannounced, false),
            'b' => (StreamState::Broken, true),
            _ => unreachable!("no such sign"),
        };
        SideState { stream, gone }
    }

    /// The rules of a client that stands like `client`, for upstreams that stand like `upstreams`.
    fn row(client: char, upstreams: &str) -> Vec<EndRule> {
        upstreams
            .chars()
            .map(|upstream| rule(side(client), side(upstream)))
            .collect()
    }

    #[test]
    fn each_way_to_end_has_its_rule() {
        let to_client = when_taken(TO_CLIENT);
        let broke = now(RelayVerdict::Broke);
        let deaf = by_peers(SilenceLimit::HalfClosed, RelayVerdict::Broke);
        let upstreams = "-debl";
        assert_eq!(
            row('-', upstreams),
            [
                by_peers(SilenceLimit::Idle, RelayVerdict::Idle),
                deaf,
                by_peers(SilenceLimit::EndSent, RelayVerdict::HalfClosed),
                to_client,
                to_client,
            ]
        );
        assert_eq!(
            row('e', upstreams),
            [
                by_peers(SilenceLimit::HalfClosed, RelayVerdict::HalfClosed),
                deaf,
                now(RelayVerdict::Finished),
                to_client,
                to_client,
            ]
        );
        assert_eq!(
            row('l', upstreams),
            [
                by_peers(SilenceLimit::Linger, RelayVerdict::ClientLeft),
                deaf,
                now(RelayVerdict::Finished),
                broke,
                broke,
            ]
        );
        assert_eq!(
            row('u', upstreams),
            [
                when_taken(WITH_ANSWERS),
                deaf,
                when_taken(TO_BOTH),
                to_client,
                to_client,
            ]
        );
        let to_upstream = when_taken(TO_UPSTREAM);
        assert_eq!(
            row('b', upstreams),
            [to_upstream, deaf, to_upstream, broke, broke]
        );
        assert_eq!(row('d', upstreams), [deaf, deaf, deaf, broke, broke]);
    }

    #[test]
    fn only_two_orderly_ends_are_a_finished_connection() {
        let all = "-delub";
        for client in all.chars() {
            for upstream in all.chars() {
                let finished = rule(side(client), side(upstream)).verdict == RelayVerdict::Finished;
                assert_eq!(finished, "el".contains(client) && upstream == 'e');
            }
        }
    }

    #[test]
    fn no_end_waits_for_ever() {
        for client in "delub".chars() {
            for upstream in "-delub".chars() {
                let rule = rule(side(client), side(upstream));
                assert!(rule.over == EndCondition::Now || rule.limit != SilenceLimit::Idle);
            }
        }
    }
}
