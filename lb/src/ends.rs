//! Ends of connections: how each side has ended, what may still be delivered, what each side is
//! notified of, and which time limits apply.
//!
//! [`rule`] is the whole table. It decides only: `relay` passes in what it has observed, and acts
//! on the result.

use std::time::Duration;

/// Silence after which a connection ends if its client is gone, or has ended its stream without
/// `close_notify`.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Most bytes of an upstream's stream that are dropped for a client that ended in order and is
/// gone.
pub(crate) const MOST_DROPPED: u64 = 64 * 1024;

/// State of the stream that a side sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum StreamState {
    /// More bytes may follow.
    #[default]
    Open,
    /// It ended in the way that its protocol has for it: a `close_notify`, or an upstream's FIN.
    Ended,
    /// It ended without such an end, so an attacker or a device on the path may have ended it. The
    /// client may still listen.
    Unannounced,
    /// It broke: a reset, a time limit of TCP, a forged record.
    Broken,
}

/// Observed state of one side of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SideState {
    /// State of the stream that it sends. An end is noted after all bytes before it were passed on.
    pub(crate) stream: StreamState,
    /// True if nothing reaches it any more: it answers with resets.
    pub(crate) gone: bool,
}

/// State of a side as a row or a column of [`rule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Rule for a connection in its current state: the condition and the time limit of its end, and the
/// verdict then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndRule {
    /// Condition under which the connection is over.
    pub(crate) over: EndCondition,
    /// Limit of its silence until then.
    pub(crate) limit: SilenceLimit,
    /// Verdict when it is over or the limit is reached.
    pub(crate) verdict: RelayVerdict,
}

/// Condition under which a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndCondition {
    /// It is over now.
    Now,
    /// It is over when a side does something, or at the limit.
    ByPeers,
    /// It is over when the bytes that were taken in have arrived.
    WhenTaken(PendingDelivery),
}

/// Deliveries to wait for before a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingDelivery {
    /// All bytes on their way to the client.
    pub(crate) client: bool,
    /// All bytes on their way to the upstream.
    pub(crate) upstream: bool,
    /// Further bytes of the upstream, until it is silent for [`LINGER`].
    pub(crate) answers: bool,
}

/// Time that limits the silence of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SilenceLimit {
    /// [`RelayConfig::idle`](crate::RelayConfig::idle).
    Idle,
    /// [`RelayConfig::half_closed`](crate::RelayConfig::half_closed).
    HalfClosed,
    /// A third of `half_closed`: the client was notified of the upstream's end and has only to
    /// close.
    EndSent,
    /// [`LINGER`].
    Linger,
}

/// Verdict about a connection that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelayVerdict {
    /// Both sides ended in order, and both are closed in order.
    Finished,
    /// The client ended in order and did not wait for the upstream, which was notified of that end
    /// and is closed in order.
    ClientLeft,
    /// Neither side sent a byte for too long: both are reset.
    Idle,
    /// One side had ended, and the other did not send a byte for too long: both are reset.
    HalfClosed,
    /// A side broke off; the first one to do so is reported. Both are reset.
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

/// Makes a rule that delivers what one side left behind, and then resets both sides.
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

/// The table of connection ends: returns the rule for each pair of states.
pub(crate) fn rule(client: SideState, upstream: SideState) -> EndRule {
    use SideCondition::{Broken, Ended, Left, Open, Unannounced, Unreachable};
    match (client.condition(), upstream.condition()) {
        (Open, Open) => by_peers(SilenceLimit::Idle, RelayVerdict::Idle),
        // The upstream was notified; the client waits for the answer.
        (Ended, Open) => by_peers(SilenceLimit::HalfClosed, RelayVerdict::HalfClosed),
        // The upstream was notified, and may end by itself.
        (Left, Open) => by_peers(SilenceLimit::Linger, RelayVerdict::ClientLeft),
        // Perhaps only the client's write side is closed: it gets what is on its way.
        (Unannounced, Open) => when_taken(WITH_ANSWERS),
        (Broken, Open) => when_taken(TO_UPSTREAM),
        // The client was notified, and may still have something to send.
        (Open, Ended) => by_peers(SilenceLimit::EndSent, RelayVerdict::HalfClosed),
        (Ended | Left, Ended) => now(RelayVerdict::Finished),
        (Unannounced, Ended) => when_taken(TO_BOTH),
        (Broken, Ended) => when_taken(TO_UPSTREAM),
        // An upstream that resets after its end did not take what was sent later.
        (Open | Ended | Unannounced, Broken | Left | Unannounced) => when_taken(TO_CLIENT),
        (Left | Broken | Unreachable, Broken | Left | Unannounced) => now(RelayVerdict::Broke),
        // The rest of what the unreachable side sent is read first.
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
