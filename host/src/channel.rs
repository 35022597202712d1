//! The socket between two processes: framed messages, and file descriptors beside them.
//!
//! A message is JSON behind its length in bytes, a number of 32 bits in network byte order. Both
//! sides have to trust each other: a length is bounded, but nothing has a time limit.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use host::channel::halves;
//!
//! let (one, other) = std::os::unix::net::UnixStream::pair()?;
//! let (mut sender, _) = halves(one)?;
//! let (_, mut receiver) = halves(other)?;
//! sender.send(&"ready").await?;
//! assert_eq!(receiver.receive().await?, Some("ready".to_owned()));
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Size limit of a received message: 4 MiB, far above what is sent.
const LONGEST: usize = 4 << 20;
/// Limit of the descriptors in one [`MessageSender::send_with`]. The kernel allows 253 (unix(7)).
pub const MOST_DESCRIPTORS: usize = 64;
/// Size of the read buffer: 64 KiB.
const READ_CHUNK: usize = 64 << 10;

/// Sending side of the socket. Clones share the socket; they must not send at the same time.
#[derive(Debug, Clone)]
pub struct MessageSender(Arc<UnixStream>);

/// Receiving side of the socket, with the bytes and descriptors that are not yet consumed.
#[derive(Debug)]
pub struct MessageReceiver {
    socket: Arc<UnixStream>,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

/// Splits a connected socket into its two directions. Must be called within a tokio runtime.
///
/// # Errors
///
/// The socket cannot be made non-blocking, or the runtime cannot watch it.
pub fn halves(
    socket: std::os::unix::net::UnixStream,
) -> io::Result<(MessageSender, MessageReceiver)> {
    socket.set_nonblocking(true)?;
    let socket = Arc::new(UnixStream::from_std(socket)?);
    let receiver = MessageReceiver {
        socket: Arc::clone(&socket),
        bytes: Vec::new(),
        descriptors: VecDeque::new(),
    };
    Ok((MessageSender(socket), receiver))
}

/// Splits the socket that is this process's standard input into its two directions. Standard input
/// is replaced by `/dev/null`, so that the socket is closed when this process drops it.
///
/// # Errors
///
/// Standard input is not a connected socket, or it cannot be replaced.
pub fn at_standard_input() -> io::Result<(MessageSender, MessageReceiver)> {
    let socket = std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    halves(socket)
}

impl MessageSender {
    /// Sends a message. Not cancel safe: a cancelled call may leave a part of it in the socket.
    ///
    /// # Errors
    ///
    /// The message cannot be written as JSON, or the other side has closed the socket.
    pub async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends a message with descriptors, at most [`MOST_DESCRIPTORS`], which the receiver has as
    /// soon as it has the message. Not cancel safe, as [`Self::send`].
    ///
    /// # Errors
    ///
    /// Those of [`Self::send`]; `InvalidInput` for too many descriptors.
    pub async fn send_with(
        &mut self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(text);
        let mut left: &[u8] = &frame;
        let mut descriptors = descriptors;
        while !left.is_empty() {
            let sent = self
                .0
                .async_io(Interest::WRITABLE, || send(&self.0, left, descriptors))
                .await?;
            left = &left[sent..];
            // They were sent with the first byte.
            descriptors = &[];
        }
        Ok(())
    }
}

impl MessageReceiver {
    /// Receives the next message; `None` when the other side has closed the socket. Its descriptors
    /// are then returned by [`Self::descriptor`]. Cancel safe.
    ///
    /// # Errors
    ///
    /// A message is longer than 4 MiB or malformed, or this process has no file descriptors left
    /// for those that were sent (`EMFILE`).
    pub async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(text) = self.frame()? {
                return Ok(Some(serde_json::from_slice(&text)?));
            }
            let socket = Arc::clone(&self.socket);
            let (bytes, descriptors) = (&mut self.bytes, &mut self.descriptors);
            let read = socket
                .async_io(Interest::READABLE, || receive(&socket, bytes, descriptors))
                .await?;
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes the oldest descriptor that was received with the last message or before it.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((length, rest)) = self.bytes.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        let text = text.to_vec();
        self.bytes.drain(..size_of::<u32>() + length);
        Ok(Some(text))
    }
}

fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = [IoSlice::new(bytes)];
    Ok(sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL)?)
}

fn receive(
    socket: &UnixStream,
    bytes: &mut Vec<u8>,
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut chunk = vec![0; READ_CHUNK];
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut chunk)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    // The kernel drops the descriptors for which this process is over its limit.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    bytes.extend(&chunk[..received.bytes]);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use tokio_util::task::TaskTracker;

    use super::*;

    fn pair() -> (
        (MessageSender, MessageReceiver),
        (MessageSender, MessageReceiver),
    ) {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        (halves(one).unwrap(), halves(other).unwrap())
    }

    #[tokio::test]
    async fn messages_and_descriptors_arrive_in_their_order_however_long_they_are() {
        let ((mut sender, one), (_other, mut receiver)) = pair();
        let sending = TaskTracker::new().spawn(async move {
            for n in 0..200_usize {
                let (reader, mut writer) = std::io::pipe().unwrap();
                std::io::Write::write_all(&mut writer, &[u8::try_from(n).unwrap()]).unwrap();
                let message = (n, "x".repeat(n * 1000));
                let descriptors = [reader.as_fd()];
                sender.send_with(&message, &descriptors).await.unwrap();
                sender.send(&(n, "and no descriptor")).await.unwrap();
            }
        });
        for n in 0..200_usize {
            let (number, text): (usize, String) = receiver.receive().await.unwrap().unwrap();
            assert_eq!((number, text.len()), (n, n * 1000));
            let mut byte = [0];
            let reader = receiver.descriptor().unwrap();
            File::from(reader).read_exact(&mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), n);
            let (number, _): (usize, String) = receiver.receive().await.unwrap().unwrap();
            assert_eq!(number, n);
        }
        sending.await.unwrap();
        drop(one);
        let end: Option<()> = receiver.receive().await.unwrap();
        assert_eq!(end, None);
    }

    #[tokio::test]
    async fn what_is_no_message_is_an_error() {
        for frame in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x01?", b"\0\0\0\x02[]"] {
            let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
            std::io::Write::write_all(&mut &one, frame).unwrap();
            let (_sender, mut receiver) = halves(other).unwrap();
            assert!(receiver.receive::<u32>().await.is_err());
        }
    }
}
