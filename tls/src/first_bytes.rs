//! Classification of connections that do not begin with TLS, by their first bytes.
//!
//! This is the only place where such clients are named. The access record says in plain words what
//! was received and how to fix the client.
//!
//! ```
//! use tls::first_bytes::FirstBytes;
//!
//! let first = FirstBytes::of(b"GET / HTTP/1.1");
//! assert_eq!(first, FirstBytes::Http);
//! assert_eq!(first.to_string(), "an HTTP request without TLS; use https");
//! ```

use std::fmt;

/// Number of bytes that is enough to classify every protocol of [`FirstBytes`].
pub const ENOUGH: usize = 32;

/// Protocol of a connection, as its first bytes show it.
///
/// More bytes never change a classification, except that [`FirstBytes::Nothing`] and
/// [`FirstBytes::Unknown`] can become another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FirstBytes {
    /// No byte was received.
    Nothing,
    /// A TLS handshake record, with which a connection should begin.
    Tls,
    /// A TLS record of another type.
    OtherTlsRecord,
    /// A `ClientHello` in the format of SSL 2.
    OldTls,
    /// `PostgreSQL`'s `SSLRequest`: the question in plain text whether the server supports TLS.
    PostgresSslRequest,
    /// `PostgreSQL`'s `GSSENCRequest`: the same question for encryption by GSSAPI.
    PostgresGssRequest,
    /// `PostgreSQL` without encryption.
    PostgresPlain,
    /// An HTTP/1 request.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// The text form of the PROXY protocol.
    ProxyV1,
    /// The binary form of the PROXY protocol.
    ProxyV2,
    /// SSH.
    Ssh,
    /// Redis or Valkey.
    Redis,
    /// SMTP, of a client that does not wait for the server's greeting.
    Smtp,
    /// MQTT.
    Mqtt,
    /// AMQP.
    Amqp,
    /// Kafka.
    Kafka,
    /// `MongoDB`.
    MongoDb,
    /// Microsoft SQL Server (TDS).
    SqlServer,
    /// Remote desktop.
    Rdp,
    /// LDAP.
    Ldap,
    /// XMPP.
    Xmpp,
    /// A request to a SOCKS proxy.
    Socks,
    /// An unknown protocol.
    Unknown,
}

/// `PostgreSQL`'s `SSLRequest` message: its length, and a code in the place of the version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// `PostgreSQL`'s `GSSENCRequest` message.
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// The signature of the PROXY protocol's binary form.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Fixed prefixes and the protocols that they identify.
const TEXTS: [(&[u8], FirstBytes); 22] = [
    (&SSL_REQUEST, FirstBytes::PostgresSslRequest),
    (&GSS_REQUEST, FirstBytes::PostgresGssRequest),
    (PROXY_V2, FirstBytes::ProxyV2),
    (b"PROXY ", FirstBytes::ProxyV1),
    (b"PRI * HTTP/2", FirstBytes::Http2),
    (b"GET ", FirstBytes::Http),
    (b"HEAD ", FirstBytes::Http),
    (b"POST ", FirstBytes::Http),
    (b"PUT ", FirstBytes::Http),
    (b"PATCH ", FirstBytes::Http),
    (b"DELETE ", FirstBytes::Http),
    (b"OPTIONS ", FirstBytes::Http),
    (b"CONNECT ", FirstBytes::Http),
    (b"TRACE ", FirstBytes::Http),
    (b"SSH-", FirstBytes::Ssh),
    (b"PING\r\n", FirstBytes::Redis),
    (b"EHLO ", FirstBytes::Smtp),
    (b"HELO ", FirstBytes::Smtp),
    (b"AMQP", FirstBytes::Amqp),
    (b"<?xml", FirstBytes::Xmpp),
    (b"<stream", FirstBytes::Xmpp),
    (b"\x04\x01", FirstBytes::Socks),
];

impl FirstBytes {
    /// Classifies the first bytes of a connection.
    pub fn of(bytes: &[u8]) -> Self {
        let text = TEXTS.iter().find(|(start, _)| bytes.starts_with(start));
        match (bytes, text) {
            ([], _) => Self::Nothing,
            ([22, ..], _) => Self::Tls,
            ([20..=21 | 23, 3, 0..=4, ..], _) => Self::OtherTlsRecord,
            (_, Some(&(_, name))) => name,
            _ => Self::binary(bytes),
        }
    }

    /// Classifies bytes that have none of the fixed prefixes.
    fn binary(bytes: &[u8]) -> Self {
        match bytes {
            [0x80..=0xff, _, 1, 0, 2, ..] | [0x80..=0xff, _, 1, 3, 0..=4, ..] => Self::OldTls,
            // A startup message of version 3, or a request to cancel.
            [0, 0, _, _, 0, 3, 0, _, ..] | [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, ..] => {
                Self::PostgresPlain
            }
            // `ApiVersions`, with which clients begin.
            [0, 0, _, _, 0, 18, 0, _, ..] => Self::Kafka,
            [b'*', b'1'..=b'9', ..] => Self::Redis,
            [0x10, _, 0, 4, b'M', b'Q', b'T', b'T', ..]
            | [0x10, _, _, 0, 4, b'M', b'Q', b'T', b'T', ..]
            | [0x10, _, 0, 6, b'M', b'Q', b'I', b's', ..] => Self::Mqtt,
            [0x12, 1, _, _, 0, 0, ..] => Self::SqlServer,
            [3, 0, _, _, _, 0xe0, ..] => Self::Rdp,
            [0x30, 0..=0x7f, 2, 1, _, 0x60 | 0x77, ..]
            | [0x30, 0x84, _, _, _, _, 2, 1, _, 0x60 | 0x77, ..] => Self::Ldap,
            [5, 1..=3, 0..=2, ..] => Self::Socks,
            // `OP_MSG` or `OP_QUERY`, with the operation's number in little endian. It is last
            // because it needs the most bytes.
            [_, _, _, 0, _, _, _, _, _, _, _, _, 0xdd | 0xd4, 7, 0, 0, ..] => Self::MongoDb,
            _ => Self::Unknown,
        }
    }

    /// Returns true if the connection begins with a TLS handshake record, as it should.
    pub fn is_tls(self) -> bool {
        self == Self::Tls
    }
}

/// Says what was received and how to fix the client.
impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => {
                "no bytes; if the server speaks first in this protocol, configure the client to \
                 start with TLS"
            }
            Self::Tls => "a TLS handshake",
            Self::OtherTlsRecord => "a TLS record that does not begin a handshake",
            Self::OldTls => "a hello of SSL 2 or 3; TLS 1.3 is required",
            Self::PostgresSslRequest => {
                "a PostgreSQL client asked for TLS in plain text first (SSLRequest); use \
                 sslnegotiation=direct"
            }
            Self::PostgresGssRequest => {
                "a PostgreSQL client asked for GSSAPI encryption; use gssencmode=disable and \
                 sslnegotiation=direct"
            }
            Self::PostgresPlain => {
                "PostgreSQL without TLS; use sslmode=verify-full and sslnegotiation=direct"
            }
            Self::Http => "an HTTP request without TLS; use https",
            Self::Http2 => "HTTP/2 without TLS; use https",
            Self::ProxyV1 | Self::ProxyV2 => {
                "a PROXY protocol header from a load balancer in front; switch it off there, \
                 because it is not supported here"
            }
            Self::Ssh => "SSH",
            Self::Redis => "Redis without TLS; switch TLS on in the client",
            Self::Smtp => "SMTP without TLS; STARTTLS is not supported, start with TLS",
            Self::Mqtt => "MQTT without TLS; switch TLS on in the client",
            Self::Amqp => "AMQP without TLS; use amqps",
            Self::Kafka => "Kafka without TLS; use security.protocol=SSL",
            Self::MongoDb => "MongoDB without TLS; use tls=true",
            Self::SqlServer => {
                "an SQL Server client that asks in plain text first; use Encrypt=Strict (TDS 8)"
            }
            Self::Rdp => "a remote desktop client that asks in plain text first",
            Self::Ldap => "LDAP without TLS; STARTTLS is not supported, use ldaps",
            Self::Xmpp => "XMPP without TLS; STARTTLS is not supported, start with TLS",
            Self::Socks => "a request to a SOCKS proxy",
            Self::Unknown => "an unknown protocol",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What real clients begin with.
    const SEEN: &[(&[u8], FirstBytes)] = &[
        (b"", FirstBytes::Nothing),
        (b"\x16\x03\x01\x02\x00\x01\x00", FirstBytes::Tls),
        (b"\x15\x03\x03\x00\x02\x02\x2a", FirstBytes::OtherTlsRecord),
        (
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
            FirstBytes::OldTls,
        ),
        (
            b"\x80\x67\x01\x03\x00\x00\x4e\x00\x00\x00\x10",
            FirstBytes::OldTls,
        ),
        (
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            FirstBytes::PostgresSslRequest,
        ),
        (
            b"\0\0\0\x08\x04\xd2\x16\x30",
            FirstBytes::PostgresGssRequest,
        ),
        (
            b"\0\0\0\x54\0\x03\0\0user\0postgres\0",
            FirstBytes::PostgresPlain,
        ),
        (
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
            FirstBytes::PostgresPlain,
        ),
        (b"GET / HTTP/1.1\r\nHost: db\r\n\r\n", FirstBytes::Http),
        (b"CONNECT db:443 HTTP/1.1\r\n\r\n", FirstBytes::Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FirstBytes::Http2),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 8443\r\n",
            FirstBytes::ProxyV1,
        ),
        (b"PROXY UNKNOWN\r\n", FirstBytes::ProxyV1),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", FirstBytes::ProxyV2),
        (b"SSH-2.0-OpenSSH_9.6\r\n", FirstBytes::Ssh),
        (b"*1\r\n$4\r\nPING\r\n", FirstBytes::Redis),
        (b"EHLO client.example.test\r\n", FirstBytes::Smtp),
        (
            b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04test",
            FirstBytes::Mqtt,
        ),
        (b"\x10\x90\x01\0\x04MQTT\x05\x02\0\x3c", FirstBytes::Mqtt),
        (b"AMQP\0\0\x09\x01", FirstBytes::Amqp),
        (b"\0\0\0\x24\0\x12\0\x03\0\0\0\x01", FirstBytes::Kafka),
        (
            b"\x55\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0",
            FirstBytes::MongoDb,
        ),
        (
            b"\x12\x01\0\x2f\0\0\0\0\0\0\x1a\0\x06",
            FirstBytes::SqlServer,
        ),
        (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08", FirstBytes::Rdp),
        (
            b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03",
            FirstBytes::Ldap,
        ),
        (
            b"\x30\x84\0\0\0\x1d\x02\x01\x01\x77\x84\0\0\0\x18",
            FirstBytes::Ldap,
        ),
        (b"<?xml version='1.0'?><stream:stream", FirstBytes::Xmpp),
        (b"\x05\x01\0", FirstBytes::Socks),
        (b"\x04\x01\0\x50\x7f\0\0\x01\0", FirstBytes::Socks),
        (b"hello", FirstBytes::Unknown),
        (b"GETTING", FirstBytes::Unknown),
        (b"\xff\xfd\x03", FirstBytes::Unknown),
    ];

    #[test]
    fn clients_of_other_protocols_are_named() {
        for (bytes, name) in SEEN {
            assert_eq!(FirstBytes::of(bytes), *name, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_said_about_a_client_is_one_plain_sentence() {
        for (_, name) in SEEN {
            let said = name.to_string();
            assert!(!said.ends_with('.') && !said.contains("  "), "{said}");
        }
    }

    /// Bytes that begin as a known protocol does, or as nothing known.
    fn beginnings() -> impl Strategy<Value = Vec<u8>> {
        let seen = proptest::sample::select(SEEN).prop_map(|(bytes, _)| bytes.to_vec());
        let random = proptest::collection::vec(any::<u8>(), 0..40);
        prop_oneof![seen, random]
    }

    proptest! {
        #[test]
        fn a_name_stays_whatever_follows(
            bytes in beginnings(),
            cut in 0..40_usize,
            more in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = &bytes[..cut.min(bytes.len())];
            let first = FirstBytes::of(bytes);
            let all = [bytes, &more].concat();
            let later = FirstBytes::of(&all);
            if !matches!(first, FirstBytes::Nothing | FirstBytes::Unknown) {
                prop_assert_eq!(first, later, "{} then {}", bytes.escape_ascii(), more.escape_ascii());
            }
            let enough = &all[..all.len().min(ENOUGH)];
            prop_assert_eq!(FirstBytes::of(enough), later);
        }
    }
}
