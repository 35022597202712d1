//! The file as its author sees it: every key, what it means and what it is without being written.
//!
//! From these types comes the schema that editors and readers use. The reading itself goes from
//! the tree straight to the policy; a test holds the keys of both together.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};

use super::values::{Duration, DurationLimit, Percent, PortOrRange, Quota, Rate, Size};

/// A policy of Portcullis: who may reach what, how often and how fast.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, title = "Portcullis policy")]
#[expect(dead_code, reason = "it is there for its schema")]
struct Document {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    version: u32,
    /// What holds for the whole gateway.
    gateway: Gateway,
    /// Sets of interchangeable upstreams, by name.
    groups: BTreeMap<String, Group>,
    /// Who may come, by the common name of the certificate. What is not granted is refused.
    clients: BTreeMap<String, Client>,
    /// What must be true of this policy. One that breaks its own tests is not applied.
    #[schemars(default)]
    tests: Vec<Test>,
}

/// What holds for the whole gateway.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Gateway {
    /// Where the gateway listens: IP addresses with ports.
    #[schemars(length(min = 1))]
    listen: Vec<String>,
    /// The files behind mutual TLS.
    tls: Tls,
    /// The ports that the kernel is to hand to the gateway besides. Without it: none.
    steer: Option<Steer>,
    /// Which sources the kernel turns away for a while, on steered ports. Without it: none.
    ban: Option<Ban>,
    /// Where operators reach the running gateway. Without it: nowhere.
    admin: Option<Admin>,
    /// How much of the gateway may be in use.
    limits: Option<Limits>,
    /// How long things may take.
    timeouts: Option<Timeouts>,
    /// What happens to a connection whose client, grant or certificate is no longer good. Without
    /// it: `cut`.
    on_revoke: Option<OnRevoke>,
}

/// What the kernel steers to the gateway: these ports and those that groups own.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Steer {
    /// What it means that the kernel cannot. Without it: `auto`.
    mode: Option<SteerMode>,
    /// The ports: numbers, or ranges such as `7000-7100`.
    #[schemars(length(min = 1))]
    ports: Option<Vec<PortOrRange>>,
    /// At which addresses: IP addresses, or prefixes such as `192.0.2.0/24`. Without it: at every one.
    #[schemars(length(min = 1))]
    addresses: Option<Vec<String>>,
}

/// Sources that fail the handshake over and over are banned: an IPv4 address, or the 64-bit network of
/// an IPv6 address.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Ban {
    /// How many failed handshakes it takes. Without it: 20.
    #[schemars(range(min = 1))]
    failures: Option<u32>,
    /// Within which time. Without it: `10s`.
    within: Option<Duration>,
    /// How long the ban lasts. Without it: `60s`.
    r#for: Option<Duration>,
    /// Whom it never concerns: IP addresses, or prefixes such as `192.0.2.0/24`. Without it: it
    /// concerns all.
    #[schemars(length(min = 1))]
    never: Option<Vec<String>>,
}

/// Where operators reach the running gateway.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Admin {
    /// The path of a unix socket that speaks HTTP. A relative one starts at the policy's folder.
    socket: String,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum SteerMode {
    /// The gateway does not start.
    Required,
    /// It says so and serves the addresses that it listens on.
    Auto,
    /// It does not try.
    Off,
}

/// The files behind mutual TLS. Relative paths start at the policy's folder.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Tls {
    /// The gateway's certificate with its chain, PEM.
    certificate: String,
    /// The certificate's private key, PEM.
    key: String,
    /// The authorities that sign clients' certificates, PEM.
    client_ca: String,
    /// Revocation lists, PEM: one path or several. Without it nothing is revoked.
    crl: Option<OneOrMore>,
    /// What a revocation list that is out of date means. Without it: `refuse`.
    expired_crl: Option<ExpiredCrl>,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is there for its schema")]
enum OneOrMore {
    One(String),
    More(#[schemars(length(min = 1))] Vec<String>),
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum ExpiredCrl {
    /// Nobody gets in before there is a new one.
    Refuse,
    /// It still counts.
    Accept,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum OnRevoke {
    /// It ends at once.
    Cut,
    /// It ends within the drain's time.
    Drain,
    /// It stays.
    Keep,
}

/// How much of the gateway may be in use. Over a limit, whoever comes is turned away; only silent
/// connections give way.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Limits {
    /// Open connections. Without it: 100000.
    connections: Option<Quota>,
    /// Connections that have not sent a whole `ClientHello`. Over it, the oldest of the source that has
    /// most gives way; when descriptors run out, too. Without it: 20000.
    silent: Option<Quota>,
    /// Handshakes in flight, from a whole `ClientHello` on. When there are as many, one that is older
    /// than a second gives way to a source that has fewer. Without it: 2000.
    handshakes: Option<Quota>,
    /// Handshakes in flight from one IPv4 address or IPv6 network of 64 bits. Without it: 100.
    handshakes_per_source: Option<Quota>,
    /// What the process may have in memory; over it, silent connections give way and further clients are
    /// reset. In any case a tenth of its control group's limit and a fiftieth of the machine's memory are
    /// left, unless it is `unlimited`. Without it: no more than that.
    memory: Option<Size>,
}

/// How long things may take.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Timeouts {
    /// From accept to the end of the handshake. Without it: `10s`.
    handshake: Option<Duration>,
    /// One dial to an upstream. Without it: `3s`.
    connect: Option<Duration>,
    /// Without a byte in either direction. Without it: `1h`.
    idle: Option<DurationLimit>,
    /// Without a byte, of a connection of which one side has ended and the other is not known to be gone.
    /// When it is the upstream that has ended, a third of it. Without it: `1m`.
    half_closed: Option<DurationLimit>,
    /// Without a side taking anything while bytes wait for it. Without it: `5m`.
    stall: Option<DurationLimit>,
    /// Before a silent peer is asked whether it is still there; without an answer for as long again the
    /// connection ends. No group may ask less often. Without it: `1m`.
    keepalive: Option<Duration>,
    /// A whole connection. Without it: `unlimited`.
    lifetime: Option<DurationLimit>,
    /// The share by which lifetimes differ, so that connections do not end all at once. Without
    /// it: `10%`.
    lifetime_jitter: Option<Percent>,
    /// Between the order to stop and the end of what is still open. Without it: `5m`.
    drain: Option<Duration>,
}

/// A set of interchangeable upstreams. A connection goes to the one with the fewest connections
/// over its weight among those that are healthy.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Group {
    /// The names by which clients ask for it: DNS names, or `*.` and a name for all names below
    /// it, however deep. An exact name wins over a wildcard, a longer wildcard over a shorter.
    /// Without it: the group's own name.
    #[schemars(length(min = 1))]
    sni: Option<Vec<String>>,
    /// The destination ports whose clients reach it without SNI. Without it: none.
    #[schemars(length(min = 1), inner(range(min = 1)))]
    ports: Option<Vec<u16>>,
    /// Where its connections go.
    #[schemars(length(min = 1))]
    upstreams: Vec<UpstreamOrAddress>,
    /// How its upstreams are probed.
    health: Option<Health>,
    /// Whether upstreams are told who the client is. Without it they are not.
    proxy_protocol: Option<ProxyProtocol>,
    /// The application protocols (ALPN) that clients may choose from. Without it none is agreed on, and no client
    /// is refused for what it offers.
    #[schemars(length(min = 1))]
    alpn: Option<Vec<String>>,
    /// Connections of all clients together. Without it: `unlimited`.
    max_connections: Option<Quota>,
    /// What happens without a healthy upstream. Without it: `refuse`.
    when_all_down: Option<WhenAllDown>,
    /// What it has instead of the gateway's timeouts.
    timeouts: Option<GroupTimeouts>,
    /// How many upstreams are dialed for one connection. Without it: 3.
    #[schemars(range(min = 1))]
    tries: Option<u32>,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is there for its schema")]
enum UpstreamOrAddress {
    /// An IP address with a port.
    Address(String),
    /// An address and what else there is to say about it.
    Upstream(Upstream),
}

/// One address that connections go to.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Upstream {
    /// An IP address with a port.
    address: String,
    /// Its share of the connections, relative to the others. Without it: 1.
    #[schemars(range(min = 1))]
    weight: Option<u32>,
    /// Whether it serves only when no other is healthy. Without it: `false`.
    backup: Option<bool>,
    /// What the operator wants of it. Without it: `ready`.
    state: Option<State>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum State {
    /// It serves.
    Ready,
    /// It gets no new connection.
    Drain,
    /// It gets no new connection and no probe.
    Maint,
}

/// How upstreams are probed.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Health {
    /// What a probe asks. Without it: `tcp`.
    check: Option<Check>,
    /// The name that a `tls` check asks for. Without it: the group's first name that is no wildcard.
    sni: Option<String>,
    /// From one probe to the next. Without it: `5s`.
    interval: Option<Duration>,
    /// How long one probe may take. Without it: `1s`.
    timeout: Option<Duration>,
    /// Passes to come up again; the first one suffices for an upstream of which nothing is known yet.
    /// Without it: 2.
    #[schemars(range(min = 1))]
    rise: Option<u32>,
    /// Failures to go down. Without it: 3.
    #[schemars(range(min = 1))]
    fall: Option<u32>,
    /// The share by which intervals differ. Without it: `10%`.
    jitter: Option<Percent>,
    /// What becomes of the connections of an upstream that goes down. Without it: `keep`.
    on_down: Option<OnDown>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum OnDown {
    /// They go on as long as they can.
    Keep,
    /// They are reset.
    Cut,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is there for its schema")]
enum Check {
    Word(CheckWord),
    SendExpect(SendExpect),
    // What editors that follow YAML 1.1 take an unquoted `off` for.
    #[schemars(with = "bool")]
    Off,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum CheckWord {
    /// That an upstream accepts a connection.
    Tcp,
    /// That it completes a handshake of TLS 1.2 or 1.3.
    Tls,
    /// Nothing; upstreams count as healthy.
    Off,
}

/// That an upstream answers. Each character is one byte, so `"\xd2"` is the byte 0xd2.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct SendExpect {
    /// What is sent; may be empty.
    send: String,
    /// What the answer must begin with.
    #[schemars(length(min = 1))]
    expect: String,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum ProxyProtocol {
    /// By the binary header of PROXY protocol version 2.
    V2,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum WhenAllDown {
    /// Clients are turned away.
    Refuse,
    /// All are tried as if they were healthy.
    TryAll,
}

/// What a group has instead of the gateway's timeouts.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct GroupTimeouts {
    /// One dial to an upstream.
    connect: Option<Duration>,
    /// Without a byte in either direction.
    idle: Option<DurationLimit>,
    /// Without a byte, of a connection of which one side has ended.
    half_closed: Option<DurationLimit>,
    /// Without a side taking anything while bytes wait for it.
    stall: Option<DurationLimit>,
    /// Before a silent peer is asked whether it is still there; at most what the gateway has.
    keepalive: Option<Duration>,
    /// A whole connection.
    lifetime: Option<DurationLimit>,
}

/// What one client is granted, and how much of it.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Client {
    /// The groups that it may reach.
    #[schemars(length(min = 1))]
    groups: Vec<String>,
    /// Open connections. Without it: `unlimited`.
    max_connections: Option<Quota>,
    /// How often it may come. Without it: as often as it likes.
    rate: Option<Rate>,
}

/// One promise about the policy.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there for its schema")]
struct Test {
    /// The client's name; it need not be in the policy.
    client: String,
    /// The name that it asks for. Without it: none, so that the port decides.
    sni: Option<String>,
    /// The destination port. Without it: the first that the gateway listens on.
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// What the policy must say.
    expect: Expect,
    /// The group that must be reached, with `expect: allow`.
    group: Option<String>,
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
enum Expect {
    Allow,
    Deny,
}

/// The JSON schema of the policy's file.
pub fn schema() -> String {
    let schema = SchemaGenerator::new(SchemaSettings::draft07()).into_root_schema_for::<Document>();
    serde_json::to_string_pretty(&schema).expect("a schema is plain JSON") + "\n"
}
