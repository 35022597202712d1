//! A directory with an authority, a gateway's certificate and a policy, and an upstream that
//! echoes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use certgen::{Authority, AuthoritySpec, Overwrite};
use tempfile::TempDir;
use tokio::io;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::process::Gateway;

/// One group `db`, and one client `alice` who may reach it.
#[derive(Debug)]
pub(crate) struct Stage {
    dir: TempDir,
    pub(crate) authority: Authority,
    _upstreams: JoinSet<()>,
}

impl Stage {
    /// A stage whose gateway has these further settings, one a line.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        authority.save(dir.path(), Overwrite::Refuse).unwrap();
        let own = authority.server(&["db"]).unwrap();
        own.save(dir.path(), "server", Overwrite::Refuse).unwrap();

        let mut upstreams = JoinSet::new();
        let mut addresses = Vec::new();
        for _ in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            upstreams.spawn(echo(listener));
        }
        let stage = Self {
            dir,
            authority,
            _upstreams: upstreams,
        };
        std::fs::write(stage.path("policy.yaml"), policy(settings, &addresses)).unwrap();
        stage
    }

    /// A path in the stage's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The stage's directory.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The client that is granted the group.
    pub(crate) fn alice(&self) -> Client {
        let issued = self.authority.client("alice").unwrap();
        Client::of(&self.authority, &issued)
    }

    /// Starts the gateway, with its records in `access.log`.
    pub(crate) async fn start(&self) -> Gateway {
        Gateway::start(self, "access.log").await
    }
}

fn policy(settings: &[&str], upstreams: &[SocketAddr]) -> String {
    let settings: String = settings
        .iter()
        .flat_map(|line| ["  ", line, "\n"])
        .collect();
    let upstreams: Vec<_> = upstreams.iter().map(|a| format!("'{a}'")).collect();
    format!(
        "version: 1
gateway:
  listen: ['127.0.0.1:0']
  tls: {{certificate: server.crt, key: server.key, client_ca: ca.crt}}
{settings}groups:
  db: {{upstreams: [{}], health: {{check: off}}}}
clients:
  alice: {{groups: [db]}}
",
        upstreams.join(", ")
    )
}

/// Sends every byte back, and ends when the other side does.
async fn echo(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut stream, _) = accepted.expect("the test has descriptors");
                connections.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    // A side that breaks off is what these tests are about.
                    drop(io::copy(&mut read, &mut write).await);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
