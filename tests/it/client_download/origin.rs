//! A server whose answers are written byte by byte.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// One request, as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) fields: HashMap<String, String>,
    pub(crate) peer: SocketAddr,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

pub(crate) type Answering = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that calls `answer` with the number of the connection (0 first), the request and the
/// stream.
pub(crate) struct Origin {
    pub(crate) url: Url,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

impl Origin {
    pub(crate) async fn start(
        answer: impl Fn(usize, Request, TcpStream) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/file.bin", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let answer = Arc::new(answer);
            for n in 0.. {
                let (mut stream, peer) = listener.accept().await.unwrap();
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let mut lines = head.lines();
                    let request = Request {
                        line: lines.next().unwrap().to_owned(),
                        fields: lines
                            .filter_map(|line| line.split_once(": "))
                            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                            .collect(),
                        peer,
                    };
                    seen.lock().unwrap().push(request.clone());
                    answer(n, request, stream).await;
                });
            }
        });
        Self {
            url: Url::parse(&url).unwrap(),
            requests,
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Writes `head` and `body` and closes.
pub(crate) fn say(mut stream: TcpStream, head: String, body: Vec<u8>) -> Answering {
    Box::pin(async move {
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&body).await;
        let _ = stream.shutdown().await;
    })
}

/// Writes `head` and `body`, then breaks the connection with a reset.
pub(crate) fn say_and_reset(mut stream: TcpStream, head: String, body: Vec<u8>) -> Answering {
    Box::pin(async move {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        // Let what was sent be read first: a reset overtakes it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stream.set_zero_linger().unwrap();
    })
}

pub(crate) fn contents() -> Vec<u8> {
    (0..300_000_u32)
        .flat_map(|n| (n * 7919).to_le_bytes())
        .collect()
}

pub(crate) fn digest_field(contents: &[u8]) -> String {
    format!(
        "Repr-Digest: sha-256=:{}:\r\n",
        BASE64_STANDARD.encode(Sha256::digest(contents))
    )
}

/// The head of a whole answer of `length` bytes.
pub(crate) fn ok(length: usize, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{more}\r\n")
}

/// The head of an answer with what follows byte `from` of `length`.
pub(crate) fn partial(from: usize, length: usize, more: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{length}\r\n{more}\r\n",
        length - from,
        length - 1
    )
}
