//! Portcullis and the others: how each is set up to do the same.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::certs;
use crate::fallible::Fallible;

/// How long a gateway may take to listen.
const START: Duration = Duration::from_secs(30);

/// Who is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// With access records. The program, and how it is told from others of its kind.
    Portcullis {
        binary: PathBuf,
        name: String,
    },
    /// With a policy of 100,000 groups and clients.
    LargePolicy {
        binary: PathBuf,
    },
    Haproxy,
    Nginx,
    Envoy {
        binary: PathBuf,
    },
    /// Plain tokio and rustls.
    Yardstick,
}

impl Peer {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Portcullis { name, .. } => name,
            Self::LargePolicy { .. } => "portcullis, 100,000 groups",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy { .. } => "envoy",
            Self::Yardstick => "tokio-rustls",
        }
    }

    /// Whether it is somebody's product.
    pub(crate) fn is_product(&self) -> bool {
        matches!(self, Self::Haproxy | Self::Nginx | Self::Envoy { .. })
    }

    /// The first line of what it says of its version.
    pub(crate) fn version(&self) -> String {
        let (program, argument) = match self {
            Self::Portcullis { binary, .. } | Self::LargePolicy { binary } => {
                (binary.clone(), "--version")
            }
            Self::Haproxy => ("haproxy".into(), "-v"),
            Self::Nginx => ("nginx".into(), "-v"),
            Self::Envoy { binary } => (binary.clone(), "--version"),
            Self::Yardstick => return "tokio-rustls 0.26, rustls 0.23, aws-lc-rs".to_owned(),
        };
        let said = Command::new(program).arg(argument).output();
        let said = said.map(|said| [said.stdout, said.stderr].concat());
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        let line = said.lines().find(|line| !line.trim().is_empty());
        without_directories(line.unwrap_or("not there"))
    }
}

/// The line without the directories of the paths in it: figures are published, and where a program
/// was on somebody's machine is not part of them.
fn without_directories(line: &str) -> String {
    let words = line
        .split_whitespace()
        .map(|word| match word.rsplit_once('/') {
            Some((_, name)) if word.starts_with('/') => name,
            _ => word,
        });
    words.collect::<Vec<_>>().join(" ")
}

/// Where everything of one measurement is.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) upstream: SocketAddr,
    /// The cores of the gateway, as taskset(1) wants them, and how many.
    pub(crate) cores: (&'a str, usize),
}

/// A gateway that runs. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its children end with it, or see that it has.
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().ok();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> Fallible<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Peer {
    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, place: &Place<'_>) -> Fallible<Running> {
        let address = free_address()?;
        let name = self.name().replace([' ', ','], "-");
        let folder = place.folder.join(format!("{name}-{}", address.port()));
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("taskset");
        command.args(["-c", place.cores.0]);
        self.configure(&mut command, place, address, &folder)?;
        let log = File::create(folder.join("log"))?;
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let running = Running { address, process };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begin.elapsed() > START {
                let said = fs::read_to_string(folder.join("log"))?;
                return Err(format!("{} does not listen: {said}", self.name()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    fn configure(
        &self,
        command: &mut Command,
        place: &Place<'_>,
        address: SocketAddr,
        folder: &Path,
    ) -> Fallible<()> {
        let at = |name: &str| folder.join(name);
        let threads = place.cores.1.to_string();
        let (text, file) = match self {
            Self::Portcullis { binary, .. } | Self::LargePolicy { binary } => {
                let mut text = portcullis(place, address);
                if matches!(self, Self::LargePolicy { .. }) {
                    text += &large();
                }
                command.arg(binary).args(["run", "--workers", &threads]);
                command.arg("--access-log").arg(at("access.log"));
                command
                    .args(["--log", "warn", "--policy"])
                    .arg(at("policy.yaml"));
                (text, "policy.yaml")
            }
            Self::Haproxy => {
                command.args(["haproxy", "-W", "-f"]).arg(at("haproxy.cfg"));
                (haproxy(place, address), "haproxy.cfg")
            }
            Self::Nginx => {
                command.args(["nginx", "-p"]).arg(folder);
                command.arg("-c").arg(at("nginx.conf"));
                (nginx(place, address, folder), "nginx.conf")
            }
            Self::Envoy { binary } => {
                command.arg(binary).args(["--concurrency", &threads]);
                command.args(["--log-level", "warn", "--disable-hot-restart", "-c"]);
                command.arg(at("envoy.yaml"));
                (envoy(place, address), "envoy.yaml")
            }
            Self::Yardstick => {
                command.arg(std::env::current_exe()?).arg("yardstick");
                command.args([address.to_string(), place.upstream.to_string()]);
                command.arg(place.folder).arg(threads);
                return Ok(());
            }
        };
        fs::write(at(file), text)?;
        Ok(())
    }
}

fn portcullis(place: &Place<'_>, address: SocketAddr) -> String {
    let (folder, upstream) = (place.folder.display(), place.upstream);
    let (server, client) = (certs::SERVER, certs::CLIENT);
    format!(
        "version: 1
gateway:
  listen: ['{address}']
  tls: {{certificate: {folder}/{server}.crt, key: {folder}/{server}.key, client_ca: {folder}/ca.crt}}
  limits: {{handshakes: 20000, handshakes_per_source: 20000}}
  timeouts: {{handshake: 10m}}
clients:
  {client}: {{groups: [{server}]}}
groups:
  {server}: {{upstreams: ['{upstream}'], health: {{check: off}}}}
"
    )
}

/// More groups.
fn large() -> String {
    let group = |n: usize| {
        let upstream = format!("127.{}.{}.{}:9", 1 + n / 60_000, n / 250 % 240, n % 250 + 1);
        format!("  g{n}: {{upstreams: ['{upstream}'], health: {{check: off}}}}\n")
    };
    (0..100_000).map(group).collect()
}

fn haproxy(place: &Place<'_>, address: SocketAddr) -> String {
    let (folder, upstream) = (place.folder.display(), place.upstream);
    let (server, threads) = (certs::SERVER, place.cores.1);
    format!(
        "global
  maxconn 9900
  nbthread {threads}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
frontend gateway
  bind {address} backlog 4096 ssl crt {folder}/{server}.pem ca-file {folder}/ca.crt verify required ssl-min-ver TLSv1.3
  default_backend upstream
backend upstream
  server one {upstream}
"
    )
}

fn nginx(place: &Place<'_>, address: SocketAddr, own: &Path) -> String {
    let (folder, upstream) = (place.folder.display(), place.upstream);
    let (server, threads, own) = (certs::SERVER, place.cores.1, own.display());
    let listen = if threads > 1 { " reuseport" } else { "" };
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes {threads};
worker_rlimit_nofile 20000;
daemon off;
user root;
pid {own}/pid;
error_log {own}/error.log warn;
events {{ worker_connections 19900; }}
stream {{
  access_log off;
  server {{
    listen {address} ssl backlog=4096{listen};
    ssl_certificate {folder}/{server}.crt;
    ssl_certificate_key {folder}/{server}.key;
    ssl_client_certificate {folder}/ca.crt;
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    ssl_session_tickets on;
    ssl_session_cache shared:sessions:10m;
    ssl_handshake_timeout 10m;
    proxy_timeout 1h;
    proxy_pass {upstream};
  }}
}}
"
    )
}

fn envoy(place: &Place<'_>, address: SocketAddr) -> String {
    let (folder, server) = (place.folder.display(), certs::SERVER);
    let (ip, port) = (address.ip(), address.port());
    let (to_ip, to_port) = (place.upstream.ip(), place.upstream.port());
    format!(
        "static_resources:
  listeners:
  - address: {{socket_address: {{address: {ip}, port_value: {port}}}}}
    tcp_backlog_size: 4096
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}
            tls_certificates:
            - certificate_chain: {{filename: {folder}/{server}.crt}}
              private_key: {{filename: {folder}/{server}.key}}
            validation_context: {{trusted_ca: {{filename: {folder}/ca.crt}}}}
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: gateway
          cluster: upstream
  clusters:
  - name: upstream
    connect_timeout: 10s
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000}}]}}
    load_assignment:
      cluster_name: upstream
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {to_ip}, port_value: {to_port}}}}}}}}}]}}]
overload_manager: {{resource_monitors: [{{name: envoy.resource_monitors.global_downstream_max_connections, typed_config: {{'@type': type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 100000}}}}]}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_no_path_of_the_machine_that_was_measured() {
        for (line, version) in [
            (
                "/home/me/bin/envoy  version: 1/1.40.0",
                "envoy version: 1/1.40.0",
            ),
            (
                "HAProxy 2.6 2026/10/17 - https://haproxy.org/",
                "HAProxy 2.6 2026/10/17 - https://haproxy.org/",
            ),
            ("  not there ", "not there"),
        ] {
            assert_eq!(without_directories(line), version);
        }
    }
}
