//! How connections end: who ended how, what the other side still does, what each side is told, and
//! what limits that.
//!
//! [`rule`] is the whole table. It decides and does nothing: `relay` tells it what it has seen.

use std::time::Duration;

/// How long a connection may be quiet whose client is gone, or ended without announcing it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// How much of an upstream's stream is dropped for a client that took its leave and is gone.
pub(crate) const MOST_DROPPED: u64 = 64 * 1024;

/// How a side's own stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Stream {
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
pub(crate) struct Side {
    /// How its own stream stands. The end is seen after all that came before it was passed on.
    pub(crate) stream: Stream,
    /// Nothing reaches it any more: it answers by resets.
    pub(crate) gone: bool,
}

/// How a side stands for [`rule`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Open,
    /// Nothing reaches it, and the rest of what it sent is being read.
    Deaf,
    Ended,
    /// It ended its stream in order, and nothing reaches it any more.
    Left,
    Unannounced,
    Broken,
}

impl Side {
    fn standing(self) -> Standing {
        match (self.stream, self.gone) {
            (Stream::Open, false) => Standing::Open,
            (Stream::Open, true) => Standing::Deaf,
            (Stream::Ended, false) => Standing::Ended,
            (Stream::Ended, true) => Standing::Left,
            (Stream::Unannounced, false) => Standing::Unannounced,
            (Stream::Unannounced, true) | (Stream::Broken, _) => Standing::Broken,
        }
    }
}

/// What a connection waits for, how long, and what it comes to then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    /// When it is over.
    pub(crate) over: Over,
    /// How long it may be silent until then.
    pub(crate) limit: Limit,
    /// What it comes to, when it is over or at the limit.
    pub(crate) verdict: Verdict,
}

/// When a connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// Now.
    Now,
    /// When a side does something, or at the limit.
    ByPeers,
    /// When what was taken in has arrived.
    WhenTaken(Rest),
}

/// What has to arrive before a connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rest {
    /// All that is on its way to the client.
    pub(crate) client: bool,
    /// All that is on its way to the upstream.
    pub(crate) upstream: bool,
    /// Whatever else the upstream says until it is quiet for [`FAREWELL`].
    pub(crate) answers: bool,
}

/// Which time limits the silence of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// `idle`.
    Idle,
    /// `half_closed`.
    HalfClosed,
    /// A third of `half_closed`: the client was told the upstream's end and has only to close.
    Told,
    /// [`FAREWELL`].
    Farewell,
}

/// What a connection comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
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

const fn by_peers(limit: Limit, verdict: Verdict) -> Rule {
    Rule {
        over: Over::ByPeers,
        limit,
        verdict,
    }
}

const fn now(verdict: Verdict) -> Rule {
    Rule {
        over: Over::Now,
        limit: Limit::Idle,
        verdict,
    }
}

/// What one side left behind goes to the other, then both are reset.
const fn when_taken(rest: Rest) -> Rule {
    Rule {
        over: Over::WhenTaken(rest),
        limit: Limit::HalfClosed,
        verdict: Verdict::Broke,
    }
}

const TO_CLIENT: Rest = Rest {
    client: true,
    upstream: false,
    answers: false,
};
const TO_UPSTREAM: Rest = Rest {
    client: false,
    upstream: true,
    answers: false,
};
const TO_BOTH: Rest = Rest {
    client: true,
    upstream: true,
    answers: false,
};
const WITH_ANSWERS: Rest = Rest {
    answers: true,
    ..TO_BOTH
};

/// The table of connection ends.
pub(crate) fn rule(client: Side, upstream: Side) -> Rule {
    use Standing::{Broken, Deaf, Ended, Left, Open, Unannounced};
    match (client.standing(), upstream.standing()) {
        (Open, Open) => by_peers(Limit::Idle, Verdict::Idle),
        // The upstream was told; the client waits for the answer.
        (Ended, Open) => by_peers(Limit::HalfClosed, Verdict::HalfClosed),
        // The upstream was told, and may end by itself.
        (Left, Open) => by_peers(Limit::Farewell, Verdict::ClientLeft),
        // Is it only the client's write side that is closed? Then it gets what is on its way.
        (Unannounced, Open) => when_taken(WITH_ANSWERS),
        (Broken, Open) => when_taken(TO_UPSTREAM),
        // The client was told, and may still have something to say.
        (Open, Ended) => by_peers(Limit::Told, Verdict::HalfClosed),
        (Ended | Left, Ended) => now(Verdict::Finished),
        (Unannounced, Ended) => when_taken(TO_BOTH),
        (Broken, Ended) => when_taken(TO_UPSTREAM),
        // An upstream that resets after its end did not take what came later.
        (Open | Ended | Unannounced, Broken | Left | Unannounced) => when_taken(TO_CLIENT),
        (Left | Broken | Deaf, Broken | Left | Unannounced) => now(Verdict::Broke),
        // The rest of what the deaf side said is read first.
        (Deaf, Open | Ended) | (_, Deaf) => by_peers(Limit::HalfClosed, Verdict::Broke),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-` open, `d` open and gone, `e` ended, `l` ended and gone, `u` unannounced, `b` broken.
    fn side(sign: char) -> Side {
        let (stream, gone) = match sign {
            '-' => (Stream::Open, false),
            'd' => (Stream::Open, true),
            'e' => (Stream::Ended, false),
            'l' => (Stream::Ended, true),
            'u' => (Stream::Unannounced, false),
            'b' => (Stream::Broken, true),
            _ => unreachable!("no such sign"),
        };
        Side { stream, gone }
    }

    /// The rules of a client that stands like `client`, for upstreams that stand like `upstreams`.
    fn row(client: char, upstreams: &str) -> Vec<Rule> {
        upstreams
            .chars()
            .map(|upstream| rule(side(client), side(upstream)))
            .collect()
    }

    #[test]
    fn each_way_to_end_has_its_rule() {
        let to_client = when_taken(TO_CLIENT);
        let broke = now(Verdict::Broke);
        let deaf = by_peers(Limit::HalfClosed, Verdict::Broke);
        let upstreams = "-debl";
        assert_eq!(
            row('-', upstreams),
            [
                by_peers(Limit::Idle, Verdict::Idle),
                deaf,
                by_peers(Limit::Told, Verdict::HalfClosed),
                to_client,
                to_client,
            ]
        );
        assert_eq!(
            row('e', upstreams),
            [
                by_peers(Limit::HalfClosed, Verdict::HalfClosed),
                deaf,
                now(Verdict::Finished),
                to_client,
                to_client,
            ]
        );
        assert_eq!(
            row('l', upstreams),
            [
                by_peers(Limit::Farewell, Verdict::ClientLeft),
                deaf,
                now(Verdict::Finished),
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
                let finished = rule(side(client), side(upstream)).verdict == Verdict::Finished;
                assert_eq!(finished, "el".contains(client) && upstream == 'e');
            }
        }
    }

    #[test]
    fn no_end_waits_for_ever() {
        for client in "delub".chars() {
            for upstream in "-delub".chars() {
                let rule = rule(side(client), side(upstream));
                assert!(rule.over == Over::Now || rule.limit != Limit::Idle);
            }
        }
    }
}
