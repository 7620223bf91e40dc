use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use crate::{
    http::{Attend, Connection, Places},
    watch::event::packet::{Label, Protocol, Role},
};

use super::counters::{Counters, Dropped};
use crate::dns::{Authority, Outcome, Transport};

/// Answers to pipelined questions are written together up to about so many bytes. With a question
/// and an answer of 65535 bytes each, a connection takes at most some 200 KB.
const WRITE_BATCH: usize = 16 * 1024;
/// Most questions fit.
const READ_AHEAD: usize = 512;

/// What all connections of one actor share.
pub(super) struct Service {
    /// Swapped by a reload while connections ask. Nobody holds the lock but to copy or swap.
    authority: Mutex<Arc<Authority>>,
    counters: Counters,
    places: Arc<Places>,
}

impl Service {
    pub(super) fn new(authority: Arc<Authority>, counters: Counters, places: Arc<Places>) -> Self {
        Self {
            authority: Mutex::new(authority),
            counters,
            places,
        }
    }

    /// Answers from other zones from the next batch of questions on.
    pub(super) fn set_authority(&self, authority: Arc<Authority>) {
        *self.lock() = authority;
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Authority>> {
        // An `Arc` is whole even if a thread died while it held the lock.
        self.authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole question has to come by then, counted from the connection's start or the last answer,
    /// and an answer has to be taken; a tenth of the time once half of the connections are taken (RFC
    /// 7766 section 6.2).
    fn deadline(&self) -> Instant {
        let (taken, total) = self.places.taken();
        let patience = self.places.limits().request_timeout;
        let busy = taken > total / 2;
        Instant::now() + if busy { patience / 10 } else { patience }
    }
}

/// Serves connections; they end with the actor.
#[derive(Clone)]
pub(super) struct Questions(pub(super) Arc<Service>);

impl Attend for Questions {
    fn label(&self) -> Label {
        Label::new(Role::Dns, Protocol::Dns)
    }

    async fn attend(&self, mut connection: Connection) {
        let service = &self.0;
        let _open = Open::new(&service.counters);
        let mut closing = connection.closing.clone();
        let ended = tokio::select! {
            ended = converse(&mut connection, service) => ended,
            _ = closing.changed() => return,
        };
        if let Err(error) = ended {
            if error.kind() == io::ErrorKind::TimedOut {
                service.counters.dropped(Dropped::TcpTimeout).inc();
                connection.place.timed_out();
            }
            tracing::debug!(peer = %connection.ends.peer, %error, "DNS connection ended");
        }
    }
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.metrics.dns_tcp_connections.inc();
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.metrics.dns_tcp_connections.dec();
    }
}

/// Answers the questions of one connection in their order, each message after its length (RFC 1035
/// section 4.2.2, RFC 7766), until the peer closes it, is too slow, or sends what is no question.
async fn converse(connection: &mut Connection, service: &Service) -> io::Result<()> {
    let peer = connection.ends.peer;
    let stream = &mut connection.stream;
    let mut input = BytesMut::new();
    let mut output = Vec::new();
    let mut deadline = service.deadline();
    loop {
        output.clear();
        let mut broken = false;
        let authority = Arc::clone(&service.lock());
        while !broken
            && output.len() < WRITE_BATCH
            && let Some(question) = first_message(&input)
        {
            let start = output.len();
            output.extend([0, 0]);
            let outcome = authority.answer(question, Transport::Tcp, &mut output);
            service.counters.count(Transport::Tcp, outcome);
            let taken = 2 + question.len();
            if let Outcome::Ignored(reason) = outcome {
                tracing::debug!(%peer, ?reason, "DNS message ignored");
                output.truncate(start);
                broken = true;
            } else {
                let answer = &output[start + 2..];
                // An answer has at most 65535 bytes: see Authority::answer.
                let length = (answer.len() as u16).to_be_bytes();
                output[start..start + 2].copy_from_slice(&length);
            }
            input.advance(taken);
        }
        // An idle connection keeps no zones.
        drop(authority);
        if !output.is_empty() {
            connection.place.busy();
            timeout_at(service.deadline(), stream.write_all(&output)).await??;
            connection.place.idle();
            deadline = service.deadline();
        }
        if broken {
            return Ok(());
        }
        if first_message(&input).is_some() {
            continue;
        }
        if input.len() == input.capacity() {
            input.reserve(READ_AHEAD);
        }
        if timeout_at(deadline, stream.read_buf(&mut input)).await?? == 0 {
            return Ok(());
        }
    }
}

/// The message at the start of `input`, if it is whole.
fn first_message(input: &[u8]) -> Option<&[u8]> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::Path, time::Duration};

    use tokio::{
        net::{TcpListener, TcpStream},
        task::JoinHandle,
        time::sleep,
    };

    use super::*;
    use crate::{
        dns::{Name, Zone},
        http::accept,
        net::Purpose,
        telemetry::Metrics,
    };

    struct Server {
        address: SocketAddr,
        metrics: Arc<Metrics>,
        serving: JoinHandle<io::Result<()>>,
    }

    const PATIENT: Duration = Duration::from_secs(600);
    const IMPATIENT: Duration = Duration::from_millis(50);

    async fn server(patience: Duration) -> Server {
        server_for(patience, 8).await
    }

    /// One that has so many places, all of which one address may have.
    async fn server_for(patience: Duration, connections: usize) -> Server {
        let mut text = "$TTL 1h\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n".to_owned();
        for n in 0..200 {
            text += &format!("huge TXT \"{n} {}\"\n", "x".repeat(240));
        }
        let name: Name = "test.".parse().expect("valid");
        let zone = Zone::load(&name, Path::new("z"), &|_| Ok(text.clone().into_bytes()));
        let authority: Authority = [Arc::new(zone.expect("loads"))].into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let metrics = Arc::new(Metrics::new());
        let counters = Counters::new(Arc::clone(&metrics));
        let limits = crate::config::ConnectionLimits {
            request_timeout: patience,
            ..crate::config::ConnectionLimits::of(connections, connections)
        };
        let places = metrics.places("dns", limits, Purpose::Peer);
        let service = Service::new(Arc::new(authority), counters, places);
        let questions = Questions(Arc::new(service));
        let places = Arc::clone(&questions.0.places);
        let listener = Arc::new(listener.into_std().expect("a socket"));
        let serving = tokio::spawn(accept(listener, places, questions));
        Server {
            address,
            metrics,
            serving,
        }
    }

    impl Server {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address)
                .await
                .expect("a connection")
        }

        fn dropped(&self, reason: &str) -> u64 {
            self.metrics.dns_dropped.with_label_values(&[reason]).get()
        }
    }

    /// A question for a TXT or A record, behind its length.
    fn framed(id: u8, name: &[u8], rtype: u8) -> Vec<u8> {
        let question = [
            &[0, id, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
            name,
            &[0, rtype, 0, 1],
        ]
        .concat();
        [&[0, question.len() as u8][..], &question].concat()
    }

    fn address_of_ns(id: u8) -> Vec<u8> {
        framed(id, b"\x02ns\x04test\x00", 1)
    }

    fn huge(id: u8) -> Vec<u8> {
        framed(id, b"\x04huge\x04test\x00", 16)
    }

    async fn answer(stream: &mut TcpStream) -> Vec<u8> {
        let length = stream.read_u16().await.expect("a length");
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await.expect("a message");
        message
    }

    async fn assert_works(stream: &mut TcpStream) {
        stream.write_all(&address_of_ns(7)).await.expect("sent");
        let message = answer(stream).await;
        assert_eq!((message[1], message[7]), (7, 1));
    }

    async fn assert_closed(stream: &mut TcpStream) {
        // A reset is an end, too: we may have sent what was never read.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{rest:?}");
    }

    #[tokio::test]
    async fn questions_come_in_any_pieces() {
        let server = server(PATIENT).await;
        let mut stream = server.connect().await;
        stream.set_nodelay(true).expect("a socket");
        for byte in address_of_ns(1) {
            stream.write_all(&[byte]).await.expect("sent");
            stream.flush().await.expect("sent");
            tokio::task::yield_now().await;
        }
        assert_eq!(answer(&mut stream).await[1], 1);
        // Two and a half in one segment, then the other half.
        let five = (2..=4).map(address_of_ns).collect::<Vec<_>>().concat();
        let half = five.len() - 10;
        stream.write_all(&five[..half]).await.expect("sent");
        assert_eq!(answer(&mut stream).await[1], 2);
        assert_eq!(answer(&mut stream).await[1], 3);
        stream.write_all(&five[half..]).await.expect("sent");
        assert_eq!(answer(&mut stream).await[1], 4);
        assert_eq!(server.metrics.dns_tcp_connections.get(), 1);
    }

    #[tokio::test]
    async fn many_questions_and_long_answers_keep_their_order() {
        let server = server(PATIENT).await;
        let mut stream = server.connect().await;
        let (mut from, mut to) = stream.split();
        let send = async {
            for id in 0..100 {
                let question = if id % 10 == 0 {
                    huge(id)
                } else {
                    address_of_ns(id)
                };
                to.write_all(&question).await.expect("sent");
            }
            // Nothing more to ask: what was asked is still answered.
            to.shutdown().await.expect("half closed");
        };
        let receive = async {
            let mut all = Vec::new();
            from.read_to_end(&mut all).await.expect("answers");
            all
        };
        let ((), all) = tokio::join!(send, receive);
        let mut rest = &all[..];
        for id in 0..100 {
            let message = first_message(rest).expect("an answer");
            assert_eq!(message[1], id);
            assert_eq!(message[2] & 0x02, 0, "not cut off");
            assert_eq!(message.len() > 48_000, id % 10 == 0);
            rest = &rest[2 + message.len()..];
        }
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn what_is_no_question_ends_the_connection() {
        let server = server(PATIENT).await;
        let mut response = address_of_ns(1);
        response[4] = 0x80;
        for bytes in [&[0, 0][..], &[0, 5, 1, 2, 3, 4, 5], &response] {
            let mut stream = server.connect().await;
            stream.write_all(bytes).await.expect("sent");
            assert_closed(&mut stream).await;
        }
        // What came before it is answered.
        let mut stream = server.connect().await;
        let both = [address_of_ns(3), vec![0, 0]].concat();
        stream.write_all(&both).await.expect("sent");
        assert_eq!(answer(&mut stream).await[1], 3);
        assert_closed(&mut stream).await;
        assert_eq!(
            (server.dropped("short"), server.dropped("response")),
            (3, 1)
        );
    }

    #[tokio::test]
    async fn a_question_that_stays_short_ends_with_its_connection() {
        let server = server(PATIENT).await;
        let mut stream = server.connect().await;
        stream
            .write_all(&address_of_ns(1)[..20])
            .await
            .expect("sent");
        stream.shutdown().await.expect("half closed");
        assert_closed(&mut stream).await;
        assert_works(&mut server.connect().await).await;
    }

    #[tokio::test]
    async fn the_largest_question_is_read_and_answered() {
        let server = server(PATIENT).await;
        let mut stream = server.connect().await;
        let mut question = address_of_ns(9);
        question.resize(2 + 65535, 0);
        question[..2].fill(0xff);
        stream.write_all(&question).await.expect("sent");
        // Trailing bytes are nobody's.
        assert_eq!(answer(&mut stream).await[1], 9);
        assert_works(&mut stream).await;
    }

    #[tokio::test]
    async fn silence_and_dripping_end_a_connection() {
        let server = server(IMPATIENT).await;
        let mut silent = server.connect().await;
        assert_closed(&mut silent).await;
        let mut dripping = server.connect().await;
        for byte in address_of_ns(1).into_iter().cycle() {
            // Never a whole question: no length byte but the largest.
            let sent = dripping.write_all(&[byte | 0xf0]).await;
            if sent.is_err() {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(server.dropped("tcp_timeout"), 2);
    }

    #[tokio::test]
    async fn a_peer_that_takes_no_answers_is_left_and_stalls_nobody() {
        let server = server(Duration::from_secs(1)).await;
        let mut greedy = server.connect().await;
        let questions = (0..=255).flat_map(huge).collect::<Vec<_>>();
        // 12 MB of answers: more than the sockets' buffers hold.
        greedy.write_all(&questions).await.expect("sent");
        assert_works(&mut server.connect().await).await;
        while server.dropped("tcp_timeout") == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn whoever_is_idle_longest_makes_room() {
        let server = server_for(PATIENT, 2).await;
        let mut first = server.connect().await;
        assert_works(&mut first).await;
        let mut second = server.connect().await;
        assert_works(&mut second).await;
        assert_works(&mut first).await;
        let mut third = server.connect().await;
        assert_works(&mut third).await;
        assert_closed(&mut second).await;
        assert_works(&mut first).await;
        let made_room = &server.metrics.connections_closed;
        let made_room = made_room.with_label_values(&["dns", "made_room"]);
        assert_eq!(made_room.get(), 1);
        assert_eq!(server.metrics.dns_tcp_connections.get(), 2);
    }

    #[tokio::test]
    async fn connections_end_with_the_service() {
        let server = server(PATIENT).await;
        let mut stream = server.connect().await;
        assert_works(&mut stream).await;
        server.serving.abort();
        assert_closed(&mut stream).await;
        while server.metrics.dns_tcp_connections.get() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
}
