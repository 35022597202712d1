use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::clients::{ClientReport, ClientsReport};
use crate::error::AdminError;
use crate::groups::{GroupsReport, UpstreamsReport};
use crate::status::StatusReport;
use crate::upgrade_request::{UpgradeReport, UpgradeRequest};

/// A gateway with more clients than an answer fits into the buffers of a socket.
struct LargeGateway;

impl GatewayControl for LargeGateway {
    async fn upgrade(&self, _: UpgradeRequest) -> Result<UpgradeReport, AdminError> {
        Err(AdminError::Ending)
    }

    fn status(&self) -> StatusReport {
        unreachable!("nobody asks for it")
    }

    fn groups(&self) -> GroupsReport {
        GroupsReport {
            generation: 1,
            groups: Vec::new(),
        }
    }

    fn upstreams(&self) -> UpstreamsReport {
        unreachable!("nobody asks for it")
    }

    fn clients(&self) -> ClientsReport {
        let client = |number| ClientReport {
            name: format!("client-{number}"),
            groups: Vec::new(),
            connections: 0,
            max_connections: None,
            waiting: 0,
            rate: None,
            certificate_ends: None,
        };
        ClientsReport {
            generation: 1,
            clients: (0..20_000).map(client).collect(),
        }
    }
}

async fn get(path: &Path, what: &str) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let request = format!("GET {what} HTTP/1.1\r\nHost: gateway\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(start_paused = true)]
async fn clients_that_do_not_take_their_answers_keep_nobody_else_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let _socket = AdminSocket::open(path.clone(), None, Arc::new(LargeGateway)).unwrap();
    let mut stuck = Vec::new();
    for _ in 0..CONNECTIONS {
        stuck.push(get(&path, "/clients").await);
    }
    let mut answer = String::new();
    let asked = async {
        let mut stream = get(&path, "/groups").await;
        stream.read_to_string(&mut answer).await
    };
    timeout(TAKE * 3, asked).await.unwrap().unwrap();
    assert!(answer.contains("\"generation\":1"), "{answer}");
    // The answer of a stuck client is cut, and not complete.
    let mut cut = String::new();
    let read = stuck[0].read_to_string(&mut cut).await;
    assert!(read.is_err() || !cut.contains("client-19999"));
}
