use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{Request, body::Incoming, service::Service, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::timeout,
};

/// What one HTTP server allows its peers.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at once; the next one waits in the kernel's queue.
    pub connections: usize,
    /// A request's header must be whole within so long of the connection's start or of the last
    /// answer. Also ends idle keep-alive connections.
    pub header_timeout: Duration,
    /// A connection may last so long in all.
    pub connection_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            header_timeout: Duration::from_secs(10),
            connection_timeout: Duration::from_secs(24 * 3600),
        }
    }
}

/// A peer that takes none of what is sent to it for so long is gone or means harm: it must not hold
/// its connection, of which there are not many.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The two ends of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The client's address and port.
    pub peer: SocketAddr,
    /// The server's.
    pub local: SocketAddr,
}

/// Serves `router` on a duplicate of `listener` until the future is dropped. Connections then
/// finish the request they are at, so that a reload answers the request that asked for it and a
/// download outlives a restart. Every request carries its [`Ends`] as an extension.
///
/// # Errors
/// Those of the listener's set-up alone; a failed `accept` is waited out.
pub async fn serve_http(
    listener: Arc<std::net::TcpListener>,
    router: Router,
    limits: HttpLimits,
) -> io::Result<()> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(limits.connections));
    // Dropped with this future: that is what the connections watch.
    let (_serving, served) = watch::channel(());
    loop {
        // The semaphore is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return Ok(());
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a peer that was gone before it was accepted.
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let router = router.clone();
        let served = served.clone();
        tokio::spawn(async move {
            serve_connection(stream, peer, router, limits, served).await;
            drop(slot);
        });
    }
}

async fn serve_connection(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
    mut served: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(STALL_TIMEOUT));
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Ends { peer, local });
        router.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let lasting = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            _ = served.changed() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    match timeout(limits.connection_timeout, lasting).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "HTTP connection ended"),
        Err(_) => tracing::debug!(%peer, "HTTP connection lasted too long"),
    }
}
