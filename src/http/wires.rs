//! Connections: taken, spoken to in TLS where there is a certificate, and given up when the other side stops reading.
//!
//! Whoever asks for files and never takes them would hold a connection open for ever. (One that stops sending is noticed
//! where its request is read.)

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use crate::tls::Certificates;

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Clients that agree on TLS at once; more wait to be accepted.
const HANDSHAKES: usize = 256;
/// Connections that are ready and not taken up yet.
const READY: usize = 64;

/// A listener that gives up connections which take nothing for `limit` although something waits to be sent.
pub struct Wires {
    source: Source,
    address: SocketAddr,
    limit: Duration,
}

enum Source {
    Plain(TcpListener),
    /// Handshakes go on beside each other, so that a client that is slow at it keeps nobody waiting.
    Tls(mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>),
}

impl Wires {
    /// # Errors
    /// When the address that is listened on cannot be read.
    pub fn new(inner: TcpListener, tls: Option<Arc<Certificates>>, limit: Duration) -> io::Result<Self> {
        let address = inner.local_addr()?;
        let source = match tls {
            None => Source::Plain(inner),
            Some(certificates) => {
                let (ready, connections) = mpsc::channel(READY);
                tokio::spawn(shake_hands(inner, certificates, ready));
                Source::Tls(connections)
            }
        };
        Ok(Self { source, address, limit })
    }
}

/// Accepts connections until nobody takes them any more.
async fn shake_hands(
    mut inner: TcpListener,
    certificates: Arc<Certificates>,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let seats = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let (stream, address) = tokio::select! {
            () = ready.closed() => return,
            accepted = Listener::accept(&mut inner) => accepted,
        };
        let (acceptor, ready) = (certificates.acceptor(), ready.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send((stream, address)).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS was agreed on"),
                Err(_) => tracing::debug!(%address, "the client was too slow to agree on TLS"),
            }
            drop(seat);
        });
    }
}

impl Listener for Wires {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        let (wire, address) = match &mut self.source {
            Source::Plain(listener) => {
                let (stream, address) = Listener::accept(listener).await;
                (Wire::Plain(stream), address)
            }
            Source::Tls(connections) => match connections.recv().await {
                Some((stream, address)) => (Wire::Tls(Box::new(stream)), address),
                // Its task ends only after this listener.
                None => std::future::pending().await,
            },
        };
        (Patient { wire, limit: self.limit, waiting: None }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection of [`Wires`].
pub struct Patient {
    wire: Wire,
    limit: Duration,
    /// Runs while the other side takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Calls a method of whichever stream it is.
macro_rules! on {
    ($wire:expr, $stream:ident => $call:expr) => {
        match $wire {
            Wire::Plain($stream) => $call,
            Wire::Tls($stream) => $call,
        }
    };
}

impl Patient {
    fn within_limit<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let limit = self.limit;
        ready!(self.waiting.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side takes nothing")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(&mut self.wire, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = on!(&mut self.wire, stream => Pin::new(stream).poll_write(cx, bytes));
        self.within_limit(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = on!(&mut self.wire, stream => Pin::new(stream).poll_write_vectored(cx, pieces));
        self.within_limit(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        on!(&self.wire, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = on!(&mut self.wire, stream => Pin::new(stream).poll_flush(cx));
        self.within_limit(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(&mut self.wire, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
