//! `millpond up`: bind first, open the projects, answer until told to stop, drain.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use access::{Secret, default_project};
use anyhow::{Context as _, ensure};
use runtime::{
    CancellationToken,
    config::{Config, Loaded},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    app::Ground,
    grpc,
    http::{
        self, Door, DoorLimits, Scheme,
        connections::{Patience, serve},
        wires::Wires,
    },
    tenants::Tenants,
    tls::Certificates,
};

/// Where the token of the first admin lies in the data directory.
const FIRST_TOKEN: &str = "first-admin.token";

/// Runs the server until SIGTERM or SIGINT, then drains within `server.drain`.
pub async fn up(loaded: Loaded) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let config = loaded.config;
    let tls = Certificates::open(&config.tls)?.map(Arc::new);
    may_listen(&config)?;
    let listener = bind(config.server.listen).await?;
    let address = listener.local_addr().context("could not read the address that was bound")?;

    let mut terminate = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for SIGINT")?;

    let limits = DoorLimits {
        max_body_bytes: config.server.max_body_bytes,
        deadline: config.server.request_deadline.to_std(),
        max_artifact_bytes: config.server.max_artifact_bytes as u64,
        transfer_idle: config.server.transfer_idle.to_std(),
    };
    let ground = Ground::lay(&config)?;
    if let Some(certificates) = tls.clone() {
        ground.house.spawn("TLS certificate", |stop| async move { certificates.follow(stop).await });
    }
    let tenants =
        Tenants::open(ground, move |app| Ok(http::router(app.clone(), grpc::router(app.clone(), limits)?, limits)))
            .await?;
    if config.access.required {
        keep_first_token(&tenants, &config.data.dir).await?;
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let names = http::Names::new(address, &config.server.allowed_hosts);
    let door = Door { tenants: tenants.clone(), names, required: config.access.required, scheme: Scheme(scheme) };
    let wires = Wires::new(listener, tls, limits.transfer_idle).context("could not read the address that was bound")?;
    tracing::info!(%address, ms = started.elapsed().as_millis() as u64, "ready");
    println!("millpond is ready on {scheme}://{address} (REST, gRPC and pages; stop with Ctrl-C)");

    let stop = CancellationToken::new();
    let patience =
        Patience { most: config.server.max_connections, head_within: config.server.connection_idle.to_std() };
    let mut server = tokio::spawn(serve(wires, door.router(), patience, stop.clone()));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("interrupted: draining"),
        ended = &mut server => return ended.context("the server task died"),
    }
    drain(&tenants, &stop, server, config.server.drain.to_std()).await;
    Ok(())
}

/// Refuses new work, lets the requests under way finish, stops the tasks, flushes.
async fn drain(tenants: &Tenants, stop: &CancellationToken, server: tokio::task::JoinHandle<()>, limit: Duration) {
    tenants.begin_drain();
    stop.cancel();
    if tokio::time::timeout(limit, server).await.is_err() {
        tracing::warn!("requests were still open when the drain time ended");
    }
    let late = tenants.close(limit).await;
    if late.is_empty() {
        tracing::info!("stopped");
    } else {
        tracing::warn!(?late, "these tasks did not stop in time");
    }
}

/// Whether the address may be listened on with what protects it.
fn may_listen(config: &Config) -> anyhow::Result<()> {
    let address = config.server.listen;
    if address.ip().is_loopback() {
        return Ok(());
    }
    ensure!(
        config.access.required || config.access.open_to_network,
        "server.listen `{address}` is not a loopback address, and calls need no token: everyone who reaches it could do \
         everything; set access.required=true, or access.open_to_network=true if that is meant"
    );
    ensure!(
        config.tls.certificate.is_some() || config.tls.plain_to_network,
        "server.listen `{address}` is not a loopback address, and there is no TLS: tokens and data would travel readable; \
         set tls.certificate and tls.key, or tls.plain_to_network=true where a proxy in front does TLS"
    );
    Ok(())
}

/// Makes a token for the first admin, if nobody holds one that opens every project, and leaves it in a file that only
/// its owner can read.
async fn keep_first_token(tenants: &Tenants, data: &Path) -> anyhow::Result<()> {
    let path = data.join(FIRST_TOKEN);
    let keep = |secret: &Secret| {
        // One that is there may be open to others, and its token is one that was never made to hold.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", secret.reveal())?;
        file.sync_all()?;
        File::open(data)?.sync_all()
    };
    if tenants.first().app.access.first_token(&default_project(), keep).await? {
        println!("a token for the first admin was written to {}: keep it, then remove the file", path.display());
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            anyhow::bail!(
                "{address} is in use by another program: stop it, or choose another port with --listen 127.0.0.1:PORT"
            )
        }
        Err(error) => Err(error).with_context(|| format!("could not listen on {address}")),
    }
}
