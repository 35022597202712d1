//! Keys of `gateway: limits` and of `gateway: timeouts`.

use super::kinds::ValueKind::Scalar;
use super::kinds::{FormatKey, FormatSection, ValueKind, may, or};
use crate::duration::{DURATION, DURATION_LIMIT};
use crate::fields::number::{PERCENT, QUOTA};
use crate::size::SIZE;

const TIME: ValueKind = Scalar(&DURATION);
const TIME_LIMIT: ValueKind = Scalar(&DURATION_LIMIT);

pub(crate) static LIMITS: FormatSection = FormatSection {
    name: "Limits",
    called: "`limits`",
    doc: "Limits of the gateway. Over a limit, a new connection is refused; for a new silent \
          connection, an older one is closed.",
    keys: &[
        quota(
            "connections",
            "100000",
            "50000",
            "Limit of open connections.",
        ),
        quota(
            "silent",
            "20000",
            "5000",
            "Limit of connections that have not sent a complete `ClientHello`. Over it, and when \
             file descriptors run out, the oldest connection of the source that has most is \
             closed.",
        ),
        quota(
            "handshakes",
            "2000",
            "500",
            "Limit of handshakes in flight; a handshake begins with a complete `ClientHello`. At \
             the limit, one that is older than a second is closed for a source that has fewer.",
        ),
        quota(
            "handshakes_per_source",
            "100",
            "20",
            "Limit of handshakes in flight from one IPv4 address or 64-bit network of IPv6.",
        ),
        may(
            "memory",
            "no further limit",
            Scalar(&SIZE),
            "4GiB",
            "Limit of the process's memory. Over it, silent connections are closed and new \
             clients are reset. Unless it is `unlimited`, a tenth of the limit of the control \
             group (version 2) and a fiftieth of the machine's memory always stay free.",
        ),
    ],
    rule: None,
};

const fn quota(
    name: &'static str,
    default: &'static str,
    example: &'static str,
    doc: &'static str,
) -> FormatKey {
    or(name, default, Scalar(&QUOTA), example, doc)
}

pub(crate) static TIMEOUTS: FormatSection = FormatSection {
    name: "Timeouts",
    called: "`timeouts`",
    doc: "Time limits.",
    keys: &[
        or(
            "handshake",
            "10s",
            TIME,
            "5s",
            "Time from accept to the end of the handshake.",
        ),
        or(
            "connect",
            "3s",
            TIME,
            "1s",
            "Time for one dial to an upstream.",
        ),
        or(
            "idle",
            "1h",
            TIME_LIMIT,
            "10m",
            "Longest time without a byte in either direction. A side that still takes what it was \
             sent, however slowly, is not idle.",
        ),
        or(
            "half_closed",
            "1m",
            TIME_LIMIT,
            "5m",
            "Longest time without a byte after one side has ended its direction, if the other is \
             not known to be gone. A third of it if the upstream has ended.",
        ),
        or(
            "stall",
            "5m",
            TIME_LIMIT,
            "unlimited",
            "Longest time in which a side takes none of the bytes that wait for it.",
        ),
        or(
            "keepalive",
            "1m",
            TIME,
            "30s",
            "Silence after which a peer is probed (TCP keepalive). The connection ends after as \
             long again without an answer. The value of a group may not be longer.",
        ),
        or(
            "lifetime",
            "unlimited",
            TIME_LIMIT,
            "1d",
            "Longest duration of a connection.",
        ),
        or(
            "lifetime_jitter",
            "10%",
            Scalar(&PERCENT),
            "20%",
            "Share by which lifetimes are shortened at random, so that connections do not end all \
             at once.",
        ),
        or(
            "drain",
            "5m",
            TIME,
            "1m",
            "Time from the start of a drain until connections that are still open are cut off.",
        ),
    ],
    rule: None,
};
