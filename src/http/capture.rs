//! `POST /api/v1/capture`: the service's own packets, as a pcapng stream.
//!
//! It shows payloads, so the rules of changes hold for it: loopback, or the token. One that is not
//! read loses packets and counts them; it never holds up a role.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
};

use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use url::form_urlencoded;

use super::{
    ask::{reply, silent},
    kept::Kept,
    problem,
};
use crate::{
    role::api::ListSessions,
    watch::{
        capture,
        event::{hub, packet::Role},
        pcapng::Writer,
    },
};

/// So many captures at once.
const CAPTURES: usize = 8;
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(CAPTURES)));
/// And so many of the ring: each keeps in memory what the ring held when it was asked for.
const RINGS: usize = 2;
static RING_PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(RINGS)));
/// Pieces of a stream that wait for their reader, of up to 64 KiB each.
const PIECES: usize = 16;
const PIECE: usize = 64 << 10;

/// What is asked for.
#[derive(Default)]
struct Question {
    ring: bool,
    roles: BTreeSet<Role>,
    client: Option<String>,
    data_bytes: Option<usize>,
}

impl Question {
    fn parse(query: &str) -> Result<Self, String> {
        let mut question = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "ring" => question.ring = true,
                "role" => {
                    let role = Role::named(&value).filter(|role| *role != Role::Client);
                    question.roles.insert(role.ok_or(
                        "no such role: there are dhcp, dns, rudp, scrap, origin and http",
                    )?);
                }
                "client" => question.client = Some(value.into_owned()),
                "bytes" => {
                    let bytes = value.parse().map_err(|_| "`bytes` is a number of bytes")?;
                    question.data_bytes = Some(bytes);
                }
                _ => return Err("there are role, client, bytes and ring".to_owned()),
            }
        }
        Ok(question)
    }
}

pub(super) async fn stream(State(kept): State<Kept>, RawQuery(query): RawQuery) -> Response {
    let question = match Question::parse(&query.unwrap_or_default()) {
        Ok(question) => question,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let (places, most, what) = match question.ring {
        true => (&RING_PLACES, RINGS, "captures of the ring"),
        false => (&PLACES, CAPTURES, "captures"),
    };
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        let text = format!("{most} {what} run already: end one of them");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &text);
    };
    if question.ring {
        let Some(ring) = capture::ring() else {
            return problem(
                StatusCode::NOT_FOUND,
                "there is no ring: set `ring = \"16MiB\"` in [capture] and reload",
            );
        };
        return pieces(place, move |out| ring.write(out));
    }
    let data_bytes = question.data_bytes.unwrap_or(capture::DATA_BYTES);
    let mut wants = capture::wants(question.roles, data_bytes);
    if let Some(client) = question.client {
        match find(&kept, &client).await {
            Ok(Client::Session(address)) => drop(wants.peers.insert(address)),
            Ok(Client::Hosts(hosts)) => wants.hosts = hosts,
            Err(answer) => return *answer,
        }
    }
    // Before the answer's head: whoever has that sees every packet from then on.
    let subscription = hub::subscribe(wants);
    pieces(place, move |out| {
        let watched = out.chunks.clone();
        capture::run(&subscription, Writer::new(out)?, || !watched.is_closed())
    })
}

enum Client {
    Session(SocketAddr),
    Hosts(BTreeSet<IpAddr>),
}

/// The client of that name or address: by name all packets with the hosts of its sessions.
async fn find(kept: &Kept, client: &str) -> Result<Client, Box<Response>> {
    if let Ok(address) = client.parse() {
        return Ok(Client::Session(address));
    }
    if let Ok(host) = client.parse() {
        return Ok(Client::Hosts(BTreeSet::from([host])));
    }
    let refused = |code, text: &str| Err(Box::new(problem(code, text)));
    let asked = kept.roster.read().sessions.clone();
    let Some(rudp) = asked else {
        return refused(
            StatusCode::NOT_FOUND,
            "rudp is not configured: name an address",
        );
    };
    let Some(sessions) = reply(&rudp, ListSessions).await else {
        return Err(Box::new(silent("rudp")));
    };
    let named = sessions.iter().filter(|session| session.name == client);
    let hosts: BTreeSet<IpAddr> = named.map(|session| session.client.ip()).collect();
    if hosts.is_empty() {
        return refused(
            StatusCode::NOT_FOUND,
            "no session has that name now: GET /api/v1/sessions lists them; an address works at \
             any time",
        );
    }
    Ok(Client::Hosts(hosts))
}

/// Answers with what `write` writes, in a thread of its own.
fn pieces(
    place: OwnedSemaphorePermit,
    write: impl FnOnce(Pieces) -> io::Result<()> + Send + 'static,
) -> Response {
    let (chunks, received) = mpsc::channel(PIECES);
    let out = Pieces {
        chunks,
        buffer: Vec::new(),
    };
    let spawned = capture::spawn("capture", move || {
        let _place = place;
        if let Err(error) = write(out) {
            tracing::debug!(%error, "a capture has ended");
        }
    });
    if let Err(error) = spawned {
        let text = format!("no thread for a capture: {error}");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &text);
    }
    let body = stream::unfold(received, |mut received| async {
        let piece: Bytes = received.recv().await?;
        Some((Ok::<_, io::Error>(piece), received))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-pcapng")];
    (kind, Body::from_stream(body)).into_response()
}

/// Hands what is written to a stream.
struct Pieces {
    chunks: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer).into();
        let sent = self.chunks.blocking_send(piece);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
