//! Decisions of the gateway about a client during its handshake.

use std::sync::Arc;

use policy::GatewayLimits;
use rustls::server::ClientHello;
use rustls::{HandshakeKind, ServerConfig};
use tls::handshake::{EvictableSlot, HandshakeFailure, HandshakeGate};
use tokio::time::Instant;

use crate::access_record::Record;
use crate::client_refusal::ClientRefusal;
use crate::limits::{HandshakeSlot, SilentSlot};
use crate::rejection::Rejection;
use crate::shared_state::SharedState;
use crate::snapshot::Permit;
use crate::verifier::Verifier;

/// The gate of one client: the limits before authentication, and the policy through a [`Verifier`].
/// It notes in the record what the handshake finds out.
pub(super) struct ClientGate<'a> {
    pub(super) shared: &'a SharedState,
    pub(super) limits: GatewayLimits,
    pub(super) record: &'a mut Record,
}

impl HandshakeGate for ClientGate<'_> {
    type SilentSlot = SilentSlot;
    type HandshakeSlot = HandshakeSlot;
    type Verifier = Arc<Verifier>;
    type Permit = Permit;
    type Refusal = Rejection;

    fn admit_silent(&self) -> Result<SilentSlot, Rejection> {
        let (pre_auth, now) = (self.shared.limits(), Instant::now().into_std());
        let source = self.record.addresses().0.ip();
        pre_auth.take_silent_slot(source, &self.limits, now)
    }

    fn admit_handshake(&self, silent: SilentSlot) -> Result<HandshakeSlot, Rejection> {
        let (pre_auth, now) = (self.shared.limits(), Instant::now().into_std());
        let source = self.record.addresses().0.ip();
        pre_auth.take_handshake_slot(silent, source, &self.limits, now)
    }

    fn configure(&mut self, hello: &ClientHello<'_>) -> (Arc<ServerConfig>, Arc<Verifier>) {
        let port = self.record.addresses().1.port();
        let verifier = Verifier::new(self.shared.snapshot(), hello, port);
        let sni = verifier.destination().sni.clone();
        self.record.hello_read(verifier.generation(), sni);
        (verifier.configuration(), verifier)
    }

    fn refusal(&mut self, verifier: &Arc<Verifier>, failure: HandshakeFailure) -> Rejection {
        let ClientRefusal { rejection, client } = verifier.take_refusal();
        if let Some(client) = client {
            self.record.refused(client);
        }
        rejection.unwrap_or_else(|| {
            if failure == HandshakeFailure::Tls(rustls::Error::NoApplicationProtocol) {
                verifier.no_protocol()
            } else {
                failure.into()
            }
        })
    }

    fn authorize(
        &mut self,
        verifier: &Arc<Verifier>,
        kind: HandshakeKind,
    ) -> Result<Permit, Rejection> {
        verifier.take_permit(kind).map_err(|refusal| {
            let ClientRefusal { rejection, client } = refusal;
            if let Some(client) = client {
                self.record.refused(client);
            }
            rejection.unwrap_or(Rejection::NoCertificate)
        })
    }
}

impl EvictableSlot for SilentSlot {
    fn evicted(&self) -> impl Future<Output = ()> {
        self.evicted()
    }
}

impl EvictableSlot for HandshakeSlot {
    fn evicted(&self) -> impl Future<Output = ()> {
        self.evicted()
    }
}
