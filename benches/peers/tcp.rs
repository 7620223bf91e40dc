//! The kernel's TCP, with one of its congestion controllers for each socket.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use socket2::{Domain, Socket, Type};

use super::{Congestion, Meter, Wish, parts, random_chunk, ready};

fn socket(address: SocketAddr, congestion: Congestion) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
    let socket = socket.expect("a socket");
    let name: &[u8] = match congestion {
        Congestion::Bbr => b"bbr",
        Congestion::Cubic => b"cubic",
        Congestion::NewReno => b"reno",
    };
    let set = socket.set_tcp_congestion(name);
    set.expect("sysctl net.ipv4.tcp_available_congestion_control has it");
    socket
}

/// Answers each connection's eight bytes, a number, with so many bytes.
pub fn serve(congestion: Congestion, address: SocketAddr) {
    let socket = socket(address, congestion);
    socket.set_reuse_address(true).expect("a socket");
    socket.bind(&address.into()).expect("bound");
    socket.listen(1024).expect("listening");
    let listener = TcpListener::from(socket);
    let chunk = random_chunk();
    ready();
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let chunk = chunk.clone();
        thread::spawn(move || {
            let mut size = [0; 8];
            stream.read_exact(&mut size).expect("a request");
            for part in parts(&chunk, u64::from_be_bytes(size)) {
                if stream.write_all(&part).is_err() {
                    return;
                }
            }
        });
    }
}

/// The seconds that each session took.
pub fn fetch(congestion: Congestion, address: SocketAddr, wish: Wish) -> Vec<f64> {
    let streams: Vec<TcpStream> = (0..wish.sessions)
        .map(|_| {
            let socket = socket(address, congestion);
            socket.connect(&address.into()).expect("a connection");
            socket.into()
        })
        .collect();
    let sessions: Vec<_> = streams
        .into_iter()
        .map(|stream| thread::spawn(move || session(stream, wish)))
        .collect();
    let ended = sessions.into_iter().map(|session| session.join());
    ended.map(|seconds| seconds.expect("it came")).collect()
}

fn session(mut stream: TcpStream, wish: Wish) -> f64 {
    let mut meter = Meter::new(wish);
    let mut buffer = vec![0; super::CHUNK];
    let start = Instant::now();
    let sent = stream.write_all(&wish.size.to_be_bytes());
    sent.expect("the request went out");
    while meter.so_far < wish.size {
        let read = stream.read(&mut buffer).expect("bytes");
        assert!(read > 0, "the server closed after {} bytes", meter.so_far);
        meter.add(read);
    }
    start.elapsed().as_secs_f64()
}
