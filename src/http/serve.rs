//! Serves HTTP/1.1 on accepted connections.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    header::{DATE, HeaderValue},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};

use super::{Attend, Connection, Place, Places, Refusal, accept};
use crate::watch::event::packet::{Label, Protocol, Role};

/// Serves `router` on `listener` until the future is dropped. Connections then finish the request
/// they are at, so that a reload answers the request that asked for it and a download outlives a
/// restart. `role` is whose packets they are. Every request carries its [`Ends`](super::Ends) and its
/// [`Wire`](super::Wire) as extensions.
///
/// # Errors
/// What the listener's set-up fails with, nothing later.
pub async fn serve_http(
    listener: Arc<std::net::TcpListener>,
    router: Router,
    places: Arc<Places>,
    role: Role,
) -> io::Result<()> {
    let label = Label::new(role, Protocol::Http);
    accept(listener, places, Site { router, label }).await
}

#[derive(Clone)]
struct Site {
    router: Router,
    label: Label,
}

impl Attend for Site {
    fn label(&self) -> Label {
        self.label
    }

    async fn attend(&self, connection: Connection) {
        let Connection {
            stream,
            ends,
            wire,
            place,
            mut closing,
        } = connection;
        let router = TowerToHyperService::new(self.router.clone());
        let busy = Arc::clone(&place);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ends);
            request.extensions_mut().insert(wire.clone());
            busy.busy();
            let answering = Answering(Arc::clone(&busy));
            let answer = router.call(request);
            async move {
                let mut answer: Response<Body> = answer.await?;
                answer.headers_mut().entry(DATE).or_insert_with(date);
                Ok::<_, std::convert::Infallible>(answer.map(|body| Answer {
                    body,
                    _answering: answering,
                }))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            // Also ends keep-alive connections that are not used.
            .header_read_timeout(place.limits().request_timeout)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = closing.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            if error.is_timeout() {
                place.timed_out();
            }
            tracing::debug!(peer = %ends.peer, %error, "HTTP connection ended");
        }
    }

    fn refusal(&self, refusal: Refusal) -> Vec<u8> {
        let words = format!("{refusal}\n");
        format!(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{words}",
            words.len()
        )
        .into_bytes()
    }
}

/// What the clock says now (RFC 9110 section 6.6.1). hyper's own date stands still after the clock
/// was set back, until it is that time again.
fn date() -> HeaderValue {
    let now = httpdate::fmt_http_date(SystemTime::now());
    HeaderValue::try_from(now).unwrap_or(HeaderValue::from_static(""))
}

/// The connection is busy as long as this lives.
struct Answering(Arc<Place>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.idle();
    }
}

/// An answer's body, which keeps its connection busy until it has gone out.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
