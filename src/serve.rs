//! `millpond up`: bind first, open the rooms, answer until told to stop, drain.

use std::{future::IntoFuture as _, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use runtime::config::Loaded;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{app::App, grpc, http};

/// Runs the server until SIGTERM or SIGINT, then drains within `server.drain`.
pub async fn up(loaded: Loaded) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let config = loaded.config;
    let listener = bind(config.server.listen).await?;
    let address = listener.local_addr().context("could not read the address that was bound")?;

    let mut terminate = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for SIGINT")?;

    let app = App::open(&config).await?;
    let limits = http::DoorLimits {
        max_body_bytes: config.server.max_body_bytes,
        deadline: config.server.request_deadline.to_std(),
        max_artifact_bytes: config.server.max_artifact_bytes as u64,
        transfer_idle: config.server.transfer_idle.to_std(),
    };
    let names = http::Names::new(address, &config.server.allowed_hosts);
    let router = http::router(app.clone(), grpc::router(app.clone(), limits)?, limits, names);
    tracing::info!(%address, ms = started.elapsed().as_millis() as u64, "ready");
    println!("millpond is ready on http://{address} (REST, gRPC and pages; stop with Ctrl-C)");

    let (stop, stopped) = oneshot::channel::<()>();
    let listener = http::patience::Patient { inner: listener, limit: limits.transfer_idle };
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let mut server = tokio::spawn(server.into_future());
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("interrupted: draining"),
        ended = &mut server => return ended.context("the server task died")?.context("the server stopped by itself"),
    }
    drain(&app, stop, server, config.server.drain.to_std()).await;
    Ok(())
}

/// Refuses new work, lets the requests under way finish, stops the tasks, flushes.
async fn drain(
    app: &App,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    limit: Duration,
) {
    app.begin_drain();
    let _ = stop.send(());
    if tokio::time::timeout(limit, server).await.is_err() {
        tracing::warn!("requests were still open when the drain time ended");
    }
    let late = app.close(limit).await;
    if late.is_empty() {
        tracing::info!("stopped");
    } else {
        tracing::warn!(?late, "these tasks did not stop in time");
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    anyhow::ensure!(
        address.ip().is_loopback(),
        "server.listen `{address}` is not a loopback address: this version has no authentication, so it listens on \
         127.0.0.1 or [::1] only"
    );
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            anyhow::bail!(
                "{address} is in use by another program: stop it, or choose another port with --listen 127.0.0.1:PORT"
            )
        }
        Err(error) => Err(error).with_context(|| format!("could not listen on {address}")),
    }
}
