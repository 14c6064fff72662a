//! Answering on connections: so many at once, each with a limit for being slow, drained at the end.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request, serve::Listener as _};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use runtime::CancellationToken;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::{Peer, wires::Wires};

/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 256;
/// How often the other side of a connection of HTTP/2 is asked whether it is there, and how long it may take to say so.
const ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How many connections, and how long each may stand still.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Connections at once; more wait to be accepted.
    pub most: usize,
    /// For the head of a request of HTTP/1.1, from the end of the one before.
    pub head_within: Duration,
}

/// Answers until `stop` is cancelled, and then lets the requests under way end.
pub async fn serve(mut wires: Wires, router: Router, patience: Patience, stop: CancellationToken) {
    let seats = Arc::new(Semaphore::new(patience.most));
    let open = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience.head_within).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(ALIVE.0)
        .keep_alive_timeout(ALIVE.1);
    loop {
        let accepted = async {
            let seat = seats.clone().acquire_owned().await;
            (wires.accept().await, seat)
        };
        let ((wire, address), seat) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(Peer(address)));
            router.clone().oneshot(request)
        });
        let connection = open.watch(builder.serve_connection(TokioIo::new(wire), service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "a connection broke");
            }
            drop(seat);
        });
    }
    drop(wires);
    open.shutdown().await;
}
