//! An upstream that answers with its name and the contents of the PROXY header.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ppp::v2::{Addresses, Header};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest time without a line from the client: 10 minutes.
const SILENCE: Duration = Duration::from_mins(10);
/// Longest line that is read at once, in bytes.
const LONGEST_LINE: u64 = 8192;

/// Accepts and answers connections until `end` is cancelled; connections are spawned on `tasks`.
pub async fn serve(
    name: String,
    listener: TcpListener,
    tasks: TaskTracker,
    end: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        if let Ok((stream, _)) = accepted {
            let (name, end) = (name.clone(), end.clone());
            tasks.spawn(async move {
                tokio::select! {
                    // An error is not reported: the client has closed the connection.
                    result = answer(&name, stream) => drop(result),
                    () = end.cancelled() => {}
                }
            });
        }
    }
}

/// Answers an HTTP GET with one page, and anything else line by line.
async fn answer(name: &str, stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let about = format!("{name}: {}", introduction(&mut stream).await?);
    loop {
        let mut line = String::new();
        let mut limited = (&mut stream).take(LONGEST_LINE);
        let read = timeout(SILENCE, limited.read_line(&mut line)).await??;
        if read == 0 {
            return stream.get_mut().shutdown().await;
        }
        if line.starts_with("GET ") {
            let page = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{about}\n",
                about.len() + 1
            );
            stream.get_mut().write_all(page.as_bytes()).await?;
            return stream.get_mut().shutdown().await;
        }
        stream
            .get_mut()
            .write_all(format!("{about}\n").as_bytes())
            .await?;
    }
}

/// Reads the PROXY header (version 2) and describes the client, its address and the server name.
async fn introduction(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut header = vec![0; 16];
    stream.read_exact(&mut header).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    header.resize(16 + rest, 0);
    stream.read_exact(&mut header[16..]).await?;
    let header = Header::try_from(header.as_slice())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let source = match header.addresses {
        Addresses::IPv4(v4) => SocketAddr::from((v4.source_address, v4.source_port)).to_string(),
        Addresses::IPv6(v6) => SocketAddr::from((v6.source_address, v6.source_port)).to_string(),
        Addresses::Unix(_) | Addresses::Unspecified => "somewhere".to_owned(),
    };
    let (mut client, mut sni) = ("nobody".to_owned(), "nothing".to_owned());
    for tlv in header.tlvs().flatten() {
        match tlv.kind {
            0x02 => sni = String::from_utf8_lossy(&tlv.value).into_owned(),
            0x20 => client = common_name(&tlv.value).unwrap_or(client),
            _ => {}
        }
    }
    Ok(format!("{client} from {source} asked for {sni}"))
}

/// Finds `PP2_SUBTYPE_SSL_CN` after the first five bytes of a `PP2_TYPE_SSL`.
fn common_name(ssl: &[u8]) -> Option<String> {
    let mut rest = ssl.get(5..)?;
    while let [kind, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = more.get(..length)?;
        if *kind == 0x22 {
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        rest = &more[length..];
    }
    None
}
