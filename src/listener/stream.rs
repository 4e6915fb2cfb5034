//! One accepted connection, over TCP or a unix socket, as one type.
//!
//! Promises: over TCP what is read is acknowledged at once.

use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;

/// One accepted connection.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// The same connection on another runtime.
    pub(super) fn moved_to(self, runtime: &Handle) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => {
                let stream = stream.into_std()?;
                let _within = runtime.enter();
                Self::Tcp(TcpStream::from_std(stream)?)
            }
            Self::Unix(stream) => {
                let stream = stream.into_std()?;
                let _within = runtime.enter();
                Self::Unix(UnixStream::from_std(stream)?)
            }
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => {
                let read = Pin::new(&mut *stream).poll_read(cx, buf);
                if let Poll::Ready(Ok(())) = read {
                    // The kernel forgets it, so it is said after each read. Its failure costs 40 ms.
                    let _ = SockRef::from(&*stream).set_tcp_quickack(true);
                }
                read
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
