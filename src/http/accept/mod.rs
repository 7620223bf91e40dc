//! One loop that accepts connections, for everything that is spoken over TCP.

mod counted;
mod pace;
mod places;
mod wire;

use std::{cell::Cell, io, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

pub use pace::PacedStream;
pub use places::{Observer, Place, Places, Refusal};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
pub use wire::{Passed, Wire};

use crate::{
    net::{StreamTap, is_listening},
    watch::event::packet::Label,
};

/// How long a refused peer may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// So many refused peers are told at once; others are cut off.
const FAREWELLS: usize = 64;

/// What serves the connections.
pub trait Attend: Clone + Send + Sync + 'static {
    /// Serves one connection to its end. Dropped if another needs its place.
    fn attend(&self, connection: Connection) -> impl Future<Output = ()> + Send;

    /// Whose the connections are, and what is spoken on them: for who observes packets.
    fn label(&self) -> Label;

    /// What a peer hears that gets no place; nothing if the protocol has no words for it.
    fn refusal(&self, _refusal: Refusal) -> Vec<u8> {
        Vec::new()
    }
}

/// An accepted connection.
pub struct Connection {
    /// The bytes.
    pub stream: PacedStream,
    /// The two ends of it.
    pub ends: Ends,
    /// Its socket, for who asks the kernel.
    pub wire: Wire,
    /// Its place among all: to be told whether it is idle or busy.
    pub place: Arc<Place>,
    /// Changes (its sender is gone) when nothing is accepted any more: the service has ended or is
    /// made anew.
    pub closing: watch::Receiver<()>,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The client's address and port.
    pub peer: SocketAddr,
    /// The server's.
    pub local: SocketAddr,
}

/// Accepts the connections of a duplicate of `listener` until the future is dropped, each served in
/// a task of its own that outlives it; [`Connection::closing`] tells the tasks.
///
/// # Errors
/// What the listener's set-up fails with, and the error of a listener that somebody has closed from outside
/// (`ss --kill`). Every other failed `accept` is waited out.
pub async fn accept(
    listener: Arc<std::net::TcpListener>,
    places: Arc<Places>,
    service: impl Attend,
) -> io::Result<()> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    // Dropped with this future: that is what the connections watch.
    let (_accepting, closing) = watch::channel(());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if !is_listening(&listener) => return Err(error),
            Err(error) => {
                // A peer that was gone before it was accepted, or no descriptor to be had.
                tracing::debug!(%error, "accept failed");
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
                    places.make_room();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        let tap = StreamTap::new(service.label(), local, peer);
        let are_scarce = places.purpose.can_spare(&stream).is_err();
        let place = match places.admit(peer.ip(), are_scarce) {
            Ok(place) => Arc::new(place),
            Err(refusal) => {
                tracing::debug!(%peer, %local, "refused: {refusal}");
                if are_scarce {
                    // No time to wait until it has read them: the descriptor is another's.
                    let _ = try_write(&stream, tap, &service.refusal(refusal));
                } else {
                    refuse(stream, tap, service.refusal(refusal), &farewells);
                }
                continue;
            }
        };
        let stream = Arc::new(stream);
        let wire = Wire::new(&stream);
        let connection = Connection {
            stream: PacedStream::new(stream, tap, Arc::clone(&place), wire.clone()),
            wire,
            ends: Ends { peer, local },
            place: Arc::clone(&place),
            closing: closing.clone(),
        };
        let service = service.clone();
        let here = Here::new();
        tokio::spawn(async move {
            let _here = here;
            tokio::select! {
                () = service.attend(connection) => {}
                () = place.needed() => tracing::debug!(%peer, %local, "made room for another"),
            }
        });
        if are_scarce {
            // Whoever makes room does so before the next is accepted.
            tokio::task::yield_now().await;
        }
    }
}

/// How many connections are served by tasks of this thread: it must not end before them.
pub fn connections_here() -> usize {
    HERE.get()
}

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// One of them. As the tasks, it stays in its thread: each role's executor has one.
struct Here;

impl Here {
    fn new() -> Self {
        HERE.set(HERE.get() + 1);
        Self
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        // Dropped by an executor that goes with its thread, this may come after the count is gone.
        let _ = HERE.try_with(|here| here.set(here.get().saturating_sub(1)));
    }
}

/// Writes what goes in at once; `None`: nothing does.
fn try_write(stream: &TcpStream, tap: StreamTap, words: &[u8]) -> Option<usize> {
    let write = || Poll::Ready(stream.try_write(words));
    match tap.write(&[io::IoSlice::new(words)], write) {
        Poll::Ready(Ok(written)) => Some(written),
        _ => None,
    }
}

/// Tells a peer why it is refused. What it has sent is read and thrown away: closing over unread
/// bytes would reset the connection, and the peer could lose the words.
fn refuse(mut stream: TcpStream, tap: StreamTap, words: Vec<u8>, farewells: &Arc<Semaphore>) {
    if words.is_empty() {
        return;
    }
    let Ok(turn) = Arc::clone(farewells).try_acquire_owned() else {
        return;
    };
    // A new connection's buffer is empty: the words go in as a whole.
    if try_write(&stream, tap, &words).is_none() {
        return;
    }
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let read = async {
            stream.shutdown().await?;
            let mut unread = [0; 1024];
            while stream.read(&mut unread).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(FAREWELL, read).await;
        drop(turn);
    });
}
