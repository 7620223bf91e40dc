//! One HTTP request over a connection of its own, from the client's own address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use http_body_util::Empty;
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::AbortHandle,
    time::timeout,
};
use url::{Host, Position, Url};

use super::{Patience, dns, lookup};
use crate::{
    net::WatchedStream,
    watch::event::packet::{Label, Protocol, Role},
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not a URL that the client can fetch.
    #[error("{0} is no http:// URL")]
    Url(String),
    /// The server's name leads nowhere.
    #[error("no address for {host}: {reason}")]
    Name {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// The client can't send from its own address.
    #[error("can't send from {address}: {error}{}", hint(*.address, .error))]
    Bind {
        /// The client's address.
        address: IpAddr,
        /// What the system says.
        error: io::Error,
    },
    /// No connection.
    #[error("can't connect to {server}{}: {error}", from(*.local))]
    Connect {
        /// The server.
        server: SocketAddr,
        /// The client's address, if it is a chosen one.
        local: Option<IpAddr>,
        /// What the system says.
        error: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the connection broke: {}", chain(.0))]
    Broken(#[from] hyper::Error),
    /// Nothing came for so long.
    #[error("nothing came for {} s", .0.as_secs())]
    Stalled(Duration),
}

fn hint(address: IpAddr, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable if !address.is_loopback() => {
            " (no interface of this machine has that address)"
        }
        _ => "",
    }
}

fn from(local: Option<IpAddr>) -> String {
    local.map_or_else(String::new, |local| format!(" from {local}"))
}

/// hyper keeps the reason behind its own words.
fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// How the client reaches HTTP servers.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// The address that connections start from, where the server's family is the same.
    pub local: Option<IpAddr>,
    /// Who knows names that are no addresses; without one the system is asked.
    pub dns: Option<SocketAddr>,
    /// The longest wait for a connection, for the head of an answer, for the next bytes.
    pub patience: Duration,
}

/// An answer whose body is still to come.
pub struct Answer {
    /// The head, and the body as it arrives.
    pub response: Response<Incoming>,
    /// The client's end of the connection.
    pub local: SocketAddr,
    /// The server's.
    pub server: SocketAddr,
    _connection: Connection,
}

/// Ends the connection's task when dropped.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Http {
    /// Sends one request.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, HttpError> {
        let bad = || HttpError::Url(url.to_string());
        if url.scheme() != "http" {
            return Err(bad());
        }
        let server = self.address(url).await?;
        let stream = self.connect(server).await?;
        let broken = |error| HttpError::Connect {
            server,
            local: self.local,
            error,
        };
        let local = stream.local_addr().map_err(broken)?;
        let _ = stream.set_nodelay(true);
        let mut request = Request::builder()
            .method(method)
            .uri(&url[Position::BeforePath..Position::AfterQuery])
            .header("host", &url[Position::BeforeHost..Position::AfterPort])
            .header("user-agent", concat!("labnet/", env!("CARGO_PKG_VERSION")))
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(|_| bad())?;
        request.headers_mut().extend(fields.iter().cloned());
        let label = Label::new(Role::Client, Protocol::Http);
        let stream = WatchedStream::between(stream, label, local, server);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        let connection = Connection(tokio::spawn(connection).abort_handle());
        let response = timeout(self.patience, sender.send_request(request)).await;
        Ok(Answer {
            response: response.map_err(|_| HttpError::Stalled(self.patience))??,
            local,
            server,
            _connection: connection,
        })
    }

    async fn connect(&self, server: SocketAddr) -> Result<TcpStream, HttpError> {
        let local = self
            .local
            .filter(|local| local.is_ipv4() == server.is_ipv4());
        let failed = |error| HttpError::Connect {
            server,
            local,
            error,
        };
        let socket = if server.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }
        .map_err(failed)?;
        if let Some(address) = local {
            socket
                .bind((address, 0).into())
                .map_err(|error| HttpError::Bind { address, error })?;
        }
        timeout(self.patience, socket.connect(server))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)
    }

    async fn address(&self, url: &Url) -> Result<SocketAddr, HttpError> {
        let port = url.port_or_known_default().unwrap_or(80);
        let host = match url.host() {
            Some(Host::Ipv4(address)) => return Ok((address, port).into()),
            Some(Host::Ipv6(address)) => return Ok((address, port).into()),
            Some(Host::Domain("localhost")) => return Ok((Ipv4Addr::LOCALHOST, port).into()),
            Some(Host::Domain(host)) => host,
            None => return Err(HttpError::Url(url.to_string())),
        };
        let unknown = |reason: String| HttpError::Name {
            host: host.to_owned(),
            reason,
        };
        if let Some(dns) = self.dns {
            match lookup::resolve(dns, host, self.local, Patience::with(dns), rand::random()).await
            {
                Ok(found) => return Ok((found.resolved.address(), port).into()),
                // Not a name of the lab's: the system may know it.
                Err(lookup::LookupError::Dns(
                    dns::DnsError::Failed(_) | dns::DnsError::NoSuchName(_),
                )) => {}
                Err(error) => return Err(unknown(error.to_string())),
            }
        }
        match timeout(self.patience, tokio::net::lookup_host((host, port))).await {
            Ok(Ok(mut addresses)) => addresses
                .next()
                .ok_or_else(|| unknown("the system knows none".to_owned())),
            Ok(Err(error)) => Err(unknown(error.to_string())),
            Err(_) => Err(unknown("the system does not answer".to_owned())),
        }
    }
}

/// What one read of a body may bring at most; with the writer's queue the bulk of the memory that a
/// download takes.
pub const READ_BUFFER: usize = 256 * 1024;
