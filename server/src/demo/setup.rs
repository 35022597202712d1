//! Setup of the demo: certificates, upstreams, a gateway, and a reader of its records.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certgen::{Authority, IssuedCertificate};
use demo::client::{
    self, ClientResult, DemoClient, DemoVisit, PATIENCE, ServedConnection, VisitOutcome,
};
use demo::result_row::ResultRow;
use demo::upstream;
use ebpf::{PinDir, Role};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arguments::DemoArguments;
use super::error::DemoError;
use crate::load;
use crate::run::{GatewayProcess, RunSettings};
use gateway::access_record;
use gateway::loaded_policy::LoadedPolicy;
use host::log_writer::Sink;
use policy::{GatewayPolicy, PolicyChange, Quota, SteerMode, SteerPolicy};

mod certificates;
mod prepared_policy;

use certificates::{issue_missing, stranger};
use prepared_policy::prepare;

/// Number of workers: enough to show that a client's limits hold across workers.
const WORKERS: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");

/// Usual mount point of a bpffs.
const BPFFS: &str = "/sys/fs/bpf";
/// Capacity of the queue of records that wait to be read; further records are dropped.
const RECORDS: usize = 1024;

/// The running demo: its certificates, upstreams, gateway and records.
#[derive(Debug)]
pub(super) struct DemoSetup {
    authority: Authority,
    dir: PathBuf,
    policy: PathBuf,
    run: GatewayProcess,
    steered: u16,
    records: mpsc::Receiver<Value>,
    upstreams: TaskTracker,
    end: CancellationToken,
}

impl DemoSetup {
    /// Sets everything up and waits until every group has a healthy upstream.
    pub(super) async fn start(arguments: &DemoArguments) -> Result<Self, DemoError> {
        let end = CancellationToken::new();
        let upstreams = TaskTracker::new();
        let (path, listeners) = prepare(arguments).await?;
        for (number, listener) in listeners.into_iter().enumerate() {
            let name = format!("upstream-{}", number + 1);
            upstreams.spawn(upstream::serve(
                name,
                listener,
                upstreams.clone(),
                end.clone(),
            ));
        }
        let authority = Authority::load_or_create(&arguments.dir)?;
        issue_missing(&authority, &arguments.dir, &path)?;
        let loaded = load::read(&path)?;
        let steered = free_port()?;
        let loaded = steering(loaded, steered);
        let (sink, records) = read_along()?;
        let settings = RunSettings {
            policy: path.clone(),
            workers: Some(WORKERS),
            records: sink,
            access_log: None,
            // An instance of its own, so that gateways that serve here are not disturbed.
            instance: PinDir::new(Path::new(BPFFS), &format!("demo-{}", std::process::id()))
                .map(|pin_dir| (pin_dir, Role::Primary)),
            program: None,
        };
        let run = GatewayProcess::start(settings, loaded).await?;
        let dir = arguments.dir.clone();
        let stage = Self {
            authority,
            dir,
            policy: path,
            run,
            steered,
            records,
            upstreams,
            end,
        };
        stage.wait_until_healthy().await?;
        Ok(stage)
    }

    async fn wait_until_healthy(&self) -> Result<(), DemoError> {
        let deadline = Instant::now() + PATIENCE;
        let running = self.run.gateway().snapshot();
        for group in running.policy().groups() {
            let live = self.run.gateway().shared().balancer().group(&group.name);
            let live = live.ok_or_else(|| DemoError::Unhealthy(group.name.to_string()))?;
            while live.lease(&[]).is_err() {
                if Instant::now() > deadline {
                    return Err(DemoError::Unhealthy(group.name.to_string()));
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// Makes one visit to a port without a listener; `None` if the kernel does not steer to the
    /// gateway.
    pub(super) async fn run_steered(
        &mut self,
        visit: &DemoVisit,
    ) -> Result<Option<ResultRow>, DemoError> {
        if !self.run.gateway().is_steered_to() {
            return Ok(None);
        }
        let address = SocketAddr::new(self.address().ip(), self.steered);
        let mut row = self.run_at(address, visit).await?;
        row.client += ", steered";
        Ok(Some(row))
    }

    /// Makes one visit and finds the gateway's record of it.
    pub(super) async fn run(&mut self, visit: &DemoVisit) -> Result<ResultRow, DemoError> {
        self.run_at(self.address(), visit).await
    }

    async fn run_at(
        &mut self,
        address: SocketAddr,
        visit: &DemoVisit,
    ) -> Result<ResultRow, DemoError> {
        let certificate = match visit.who {
            DemoClient::Client(name) => Some(self.authority.client(name)?),
            DemoClient::Stranger(name) => Some(stranger(name)?),
            DemoClient::Nobody => None,
        };
        let (source, answer, said) =
            match self.visit(address, certificate.as_ref(), visit.sni).await? {
                Ok(served) => {
                    let (source, said) = (served.source, served.said.clone());
                    served.leave().await?;
                    (Some(source), ClientResult::Served, said)
                }
                Err(refused) => (refused.source, refused.answer, refused.said),
            };
        let reason = self.reason(source).await;
        let seen = VisitOutcome {
            answer,
            said,
            reason,
        };
        Ok(seen.row(visit.name(), visit.sni, (visit.answer, visit.reason)))
    }

    /// Holds as many connections as a client may have, tries one more and returns its row.
    pub(super) async fn run_over_the_limit(
        &mut self,
        client: &'static str,
        sni: &'static str,
    ) -> Result<ResultRow, DemoError> {
        let certificate = self.authority.client(client)?;
        let most = self.most_connections(client)?;
        let mut held = Vec::new();
        for _ in 0..most {
            if let Ok(served) = self.visit(self.address(), Some(&certificate), sni).await? {
                held.push(served);
            }
        }
        let allowed = held.len();
        let (source, answer, said) =
            match self.visit(self.address(), Some(&certificate), sni).await? {
                Ok(served) => (
                    Some(served.source),
                    ClientResult::Served,
                    served.said.clone(),
                ),
                Err(refused) => (refused.source, refused.answer, refused.said),
            };
        let reason = self.reason(source).await;
        for served in held {
            served.leave().await?;
        }
        let seen = VisitOutcome {
            answer,
            said,
            reason,
        };
        let client = format!("{client}, no. {}", allowed + 1);
        let mut row = seen.row(client, sni, (ClientResult::Reset, "client_connections"));
        if allowed != most {
            row.mistake = Some(format!("{most} connections expected before"));
        }
        Ok(row)
    }

    fn most_connections(&self, client: &str) -> Result<usize, DemoError> {
        let running = self.run.gateway().snapshot();
        match running
            .policy()
            .client(client)
            .map(|client| client.max_connections)
        {
            Some(Quota::AtMost(most)) => Ok(usize::try_from(most.get()).unwrap_or(usize::MAX)),
            Some(Quota::Unlimited) | None => Err(DemoError::Policy("a client with a limit")),
        }
    }

    async fn visit(
        &self,
        address: SocketAddr,
        certificate: Option<&IssuedCertificate>,
        sni: &str,
    ) -> Result<Result<ServedConnection, client::RefusedConnection>, DemoError> {
        let config = client::configuration(&self.authority, certificate)?;
        Ok(client::visit(address, config, sni).await)
    }

    /// Waits for the record of the connection from `source`, for at most [`PATIENCE`], and returns
    /// its reason.
    async fn reason(&mut self, source: Option<SocketAddr>) -> String {
        let Some(source) = source else {
            return "(never arrived)".to_owned();
        };
        let address = source.ip().to_string();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(Some(record)) = timeout_at(deadline, self.records.recv()).await {
            let is_its =
                record["source_address"] == address && record["source_port"] == source.port();
            if is_its && record["event"] != "opened" {
                return record["reason"].as_str().unwrap_or_default().to_owned();
            }
        }
        "(no record)".to_owned()
    }

    fn address(&self) -> SocketAddr {
        self.run.addresses()[0]
    }

    /// Instructions for a visit by hand while the demo serves.
    pub(super) fn invitation(&self) -> String {
        let address = self.address();
        let at = |name: &str| self.dir.join(name).display().to_string();
        format!(
            "\n{policy} is served on {address} until Ctrl-C.\n\
             To connect yourself, type in another terminal:\n\n  \
             curl --connect-to ui-servers:443:{address} --cacert {ca} \\\n    \
             --cert {cert} --key {key} \\\n    \
             https://ui-servers/\n",
            policy = self.policy.display(),
            ca = at("ca.crt"),
            cert = at("standard-client.crt"),
            key = at("standard-client.key"),
        )
    }

    /// Instructions for after the demo.
    pub(super) fn next(&self) -> String {
        let program = std::env::args_os().next().unwrap_or_default();
        format!(
            "\nTo see why a client is refused, type:\n\n  \
             {} explain free-trial-client backend-servers --policy {}\n",
            program.display(),
            self.policy.display(),
        )
    }

    /// Stops the gateway, then the upstreams, and waits for them.
    pub(super) async fn stop(self) {
        let drained = self.run.stop(PATIENCE).await;
        tracing::debug!(?drained, "the demo's gateway ended");
        self.end.cancel();
        self.upstreams.close();
        self.upstreams.wait().await;
    }
}

/// Finds a port without a listener.
fn free_port() -> io::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Adds to the policy a port that the kernel is to steer, if it can.
fn steering(loaded: LoadedPolicy, port: u16) -> LoadedPolicy {
    let steer = SteerPolicy {
        mode: SteerMode::Auto,
        ports: vec![port..=port],
        addresses: Vec::new(),
    };
    let mut gateway = GatewayPolicy::clone(loaded.policy().gateway());
    gateway.steer = Some(steer);
    loaded.changed(&[PolicyChange::Gateway(gateway.into())])
}

/// Makes a sink for records and a queue from which they are read.
fn read_along() -> Result<(Sink, mpsc::Receiver<Value>), DemoError> {
    let (reader, writer) = io::pipe()?;
    let (sender, records) = mpsc::channel(RECORDS);
    std::thread::Builder::new()
        .name("records".to_owned())
        .spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if let Ok(record) = serde_json::from_str(&line) {
                    // A record that does not fit into the queue, or has no reader, is dropped.
                    drop(sender.try_send(record));
                }
            }
        })?;
    Ok((
        Sink::into(Box::new(writer), access_record::lost_line)?,
        records,
    ))
}
