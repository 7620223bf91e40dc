//! This kernel's TCP, with a congestion control of its own for each connection.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{Came, Ground, SAMPLE, Task};
use crate::{
    compare::{
        files::Turns,
        recorder::{Counts, PAYLOAD, Sample},
        sender::Sender,
    },
    net::{TcpInfo, connect, refuses_congestion, set_congestion, tcp_info},
};

/// How much is written and read at once.
const CHUNK: usize = 64 << 10;
/// How long a thread that waits for bytes does not look whether its time is up.
const PATIENCE: Duration = Duration::from_millis(50);

/// Why this congestion control can't be had there; `None`: it can.
pub(super) fn refusal(ground: &Ground, name: &str) -> Option<String> {
    let name = name.to_owned();
    let asked = ground.at_senders("ask", move |entered| match entered {
        Ok(()) => refuses_congestion(&name),
        Err(error) => Some(error.to_string()),
    });
    match asked.map(JoinHandle::join) {
        Ok(Ok(refusal)) => refusal,
        Ok(Err(_)) => Some("could not be tried".to_owned()),
        Err(problem) => Some(problem),
    }
}

/// Starts a sender and its receiver; gives the receiver's thread.
pub(super) fn transfer(task: Task) -> Result<JoinHandle<Came>, String> {
    let (tell, told) = mpsc::channel();
    let sending = task.clone();
    let ground = task.ground.clone();
    let done = Arc::new(AtomicBool::new(false));
    let received = Arc::clone(&done);
    let sender = ground.at_senders("tcp sender", move |entered| {
        let listener = entered.and_then(|()| listen(&sending));
        match listener {
            Ok(listener) => {
                let _ = tell.send(Ok(()));
                // The receiver is told by the end of the stream.
                let _ = send(&listener, &sending, &received);
            }
            Err(error) => {
                let _ = tell.send(Err(format!("{}: {error}", sending.sender)));
            }
        }
    })?;
    told.recv()
        .unwrap_or_else(|_| Err("the sender ended".to_owned()))?;
    ground.at_receivers("tcp receiver", move |entered| {
        let mut came = Came::default();
        let received = entered.and_then(|()| receive(&task, &mut came));
        came.failure = received.err().map(|error| error.to_string());
        // The next run wants its port.
        done.store(true, Ordering::Relaxed);
        let _ = sender.join();
        came
    })
}

fn socket(task: &Task) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Sender::Tcp(name) = &task.sender {
        set_congestion(&socket, name)?;
    }
    Ok(socket)
}

fn listen(task: &Task) -> io::Result<TcpListener> {
    let socket = socket(task)?;
    socket.set_reuse_address(true)?;
    socket.bind(&task.ground.listen(task.number).into())?;
    socket.listen(1)?;
    Ok(socket.into())
}

/// Sends until the receiver has enough, and asks the kernel how it stands meanwhile.
fn send(listener: &TcpListener, task: &Task, done: &AtomicBool) -> io::Result<()> {
    let is_over = || task.is_over() || done.load(Ordering::Relaxed);
    listener.set_nonblocking(true)?;
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_over() => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let asked = stream.try_clone()?;
    let (record, over) = (task.record.clone(), Arc::new(AtomicBool::new(false)));
    let ended = Arc::clone(&over);
    let asking = thread::Builder::new()
        .name("tcp info".to_owned())
        .spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Ok(info) = tcp_info(&asked) {
                    let now = Instant::now();
                    record.sample(now, sample(&info));
                    record.counts(now, counts(&info));
                }
                thread::sleep(SAMPLE);
            }
        })?;
    let sent = write(&stream, task, &is_over);
    // What is sent is sent again until it has come: the receiver closes.
    let _ = stream.shutdown(Shutdown::Write);
    while sent.is_ok() && !is_over() {
        match (&stream).read(&mut [0; 1]) {
            Ok(0) => break,
            Err(error) if !waits(&error) => break,
            _ => {}
        }
    }
    over.store(true, Ordering::Relaxed);
    let _ = asking.join();
    sent
}

fn write(mut stream: &TcpStream, task: &Task, is_over: &dyn Fn() -> bool) -> io::Result<()> {
    let chunk = vec![0; CHUNK];
    let mut left = task.size();
    while left > 0 && !is_over() {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        match stream.write(&chunk[..length]) {
            Ok(written) => left -= written as u64,
            Err(error) if waits(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn sample(info: &TcpInfo) -> Sample {
    Sample {
        window: info.window,
        ssthresh: info.ssthresh,
        in_flight: Some(info.in_flight),
        rtt: info.rtt,
        pacing: info.pacing_rate.map(|rate| rate as f64 * 8.0),
        phase: None,
    }
}

fn counts(info: &TcpInfo) -> Counts {
    Counts {
        packets: Some(info.data_segments),
        again_bytes: Some(info.retransmitted * u64::from(info.segment)),
        // The kernel does not count those that it took for lost, only those that it sent again.
        lost: None,
    }
}

fn receive(task: &Task, came: &mut Came) -> io::Result<()> {
    let socket = socket(task)?;
    task.wait();
    let server = task.ground.listen(task.number);
    connect(&socket, server, || task.is_over())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; CHUNK];
    let size = task.size();
    let turns = Turns {
        count: task.files,
        size: task.file_size(),
        piece: PAYLOAD,
    };
    while came.received < size && !task.is_over() {
        match stream.read(&mut buffer) {
            Ok(0) if task.is_over() => break,
            Err(_) if task.is_over() => break,
            Ok(0) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(read) => {
                let to = came.received + read as u64;
                while came.received < to {
                    let (file, end, is_last) = turns.at(came.received);
                    let bytes = end.min(to) - came.received;
                    task.piece(came, file, bytes, is_last && end <= to);
                }
            }
            Err(error) if waits(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if came.received >= size {
        came.whole = Some(Instant::now());
    }
    Ok(())
}
