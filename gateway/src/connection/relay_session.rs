//! The session of an admitted client: dial an upstream, send the PROXY header, relay.

use std::io;

use lb::{DialReport, Dialed, RelayEnd};
use policy::OpenedRecords;
use tls::client_stream::ClientStream;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::access_record::{Outcome, Record};
use crate::connection_table::ConnectionGuard;
use crate::proxy_header::ProxyHeader;
use crate::rejection::Rejection;

/// The part of a connection from the dial to the end of the relay.
pub(super) struct RelaySession<'a> {
    pub(super) alpn: Option<&'a [u8]>,
    pub(super) cipher: &'static str,
    pub(super) guard: &'a ConnectionGuard,
    pub(super) opened_records: OpenedRecords,
}

impl RelaySession<'_> {
    /// Dials an upstream of the permit's group and relays until the end. Dropping the future before
    /// that resets the upstream's connection.
    pub(super) async fn relay(&self, client: &mut ClientStream, record: &mut Record) -> Outcome {
        let group = self.guard.permit().upstreams();
        let mut report = DialReport::default();
        let dialed = lb::dial(group, &mut report).await;
        let upstream = dialed.as_ref().ok().map(|dialed| dialed.lease.address());
        record.dialed(upstream, report.tries);
        let mut dialed: Dialed = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return Outcome::Rejected(Rejection::Dial(error)),
        };
        self.guard.dialed(dialed.lease.address());
        if let Err(error) = self.send_proxy_header(&mut dialed.stream, record).await {
            return Outcome::Rejected(Rejection::Header(error));
        }
        record.relay_begins(self.opened_records);
        let traffic = record.traffic();
        let relayed = tokio::select! {
            biased;
            relayed = dialed.relay(client, &traffic) => relayed,
            never = record.report_open() => match never {},
        };
        match relayed {
            Ok(RelayEnd::Both) => Outcome::Finished,
            Ok(RelayEnd::ClientLeft) => Outcome::ClientLeft,
            Err(error) => Outcome::Broken(error),
        }
    }

    /// Sends the [`ProxyHeader`] to the upstream if its group is configured for it. The group's
    /// connect timeout bounds it.
    async fn send_proxy_header(&self, upstream: &mut TcpStream, record: &Record) -> io::Result<()> {
        let permit = self.guard.permit();
        if permit.group().proxy_protocol.is_none() {
            return Ok(());
        }
        let (source, destination) = record.addresses();
        let header = ProxyHeader {
            source,
            destination,
            authority: permit.destination().sni.as_deref(),
            alpn: self.alpn,
            cipher: self.cipher,
            client: permit.identity().name().as_str(),
        };
        let limit = permit.upstreams().config().dial.connect;
        timeout(limit, upstream.write_all(&header.encode()?)).await?
    }
}
