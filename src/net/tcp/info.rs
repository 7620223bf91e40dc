//! What the kernel measures of a TCP connection.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

/// What the kernel has measured of a TCP connection's sending (TCP_INFO, tcp(7)). Bytes that it counts
/// in segments are of `segment` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// The connection is over, and nothing more is sent: it was reset, or both sides have closed it.
    pub closed: bool,
    /// The largest segment that is sent, in bytes.
    pub segment: u32,
    /// The congestion window in bytes.
    pub window: u64,
    /// The slow-start threshold in bytes; `None` while there is none.
    pub ssthresh: Option<u64>,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight: u64,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// The least one; `None` if there was none yet.
    pub min_rtt: Option<Duration>,
    /// Bytes a second at which segments may leave; `None`: it is not paced.
    pub pacing_rate: Option<u64>,
    /// Bytes a second at which they were last measured to arrive.
    pub delivery_rate: u64,
    /// Segments sent that held data, those sent again included.
    pub data_segments: u64,
    /// Segments sent again.
    pub retransmitted: u64,
}

/// The beginning of the kernel's `struct tcp_info` (include/uapi/linux/tcp.h), which only grows at its
/// end: an older kernel leaves the rest zero.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    window_scales: u8,
    flags: u8,
    rto: u32,
    ato: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt: u32,
    rttvar: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt: u32,
    rcv_space: u32,
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    delivery_rate: u64,
}

/// TCP_CLOSE (include/net/tcp_states.h).
const CLOSED: u8 = 7;
/// TCP_INFINITE_SSTHRESH (include/net/tcp.h).
const NO_SSTHRESH: u32 = 0x7fff_ffff;

/// What the kernel has measured of a connection.
///
/// # Errors
/// Those of a socket that is not TCP's.
pub fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    // SAFETY: all of its fields are integers, for which zero is a value.
    #[allow(unsafe_code)]
    let mut raw: Raw = unsafe { mem::zeroed() };
    let mut length = mem::size_of::<Raw>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes no more than `length`
    // bytes, which `raw` has.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut raw).cast(),
            &mut length,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(raw.into())
}

impl From<Raw> for TcpInfo {
    fn from(raw: Raw) -> Self {
        let bytes = |segments: u32| u64::from(segments) * u64::from(raw.snd_mss);
        let micros = |time: u32| Duration::from_micros(time.into());
        // As the kernel's tcp_packets_in_flight() has it.
        let left = raw.sacked.saturating_add(raw.lost);
        let in_flight = raw.unacked.saturating_add(raw.retrans).saturating_sub(left);
        Self {
            closed: raw.state == CLOSED,
            segment: raw.snd_mss,
            window: bytes(raw.snd_cwnd),
            ssthresh: (raw.snd_ssthresh < NO_SSTHRESH).then(|| bytes(raw.snd_ssthresh)),
            in_flight: bytes(in_flight),
            rtt: micros(raw.rtt),
            // The kernel's "none yet" is the greatest number.
            min_rtt: (raw.min_rtt != 0 && raw.min_rtt != u32::MAX).then(|| micros(raw.min_rtt)),
            pacing_rate: (raw.pacing_rate != u64::MAX).then_some(raw.pacing_rate),
            delivery_rate: raw.delivery_rate,
            data_segments: raw.data_segs_out.into(),
            retransmitted: raw.total_retrans.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn what_was_sent_is_counted_where_the_kernel_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).expect("a connection");
        let (mut server, _) = listener.accept().expect("a connection");
        let before = tcp_info(&server).expect("TCP");
        assert_eq!((before.data_segments, before.ssthresh), (0, None));
        let mut byte = [0];
        for _ in 0..10 {
            server.write_all(b"x").expect("written");
            client.read_exact(&mut byte).expect("read");
            // Acknowledged, so that each is a segment of its own.
            while tcp_info(&server).expect("TCP").in_flight > 0 {
                std::thread::yield_now();
            }
        }
        let after = tcp_info(&server).expect("TCP");
        assert_eq!((after.data_segments, after.retransmitted), (10, 0));
        assert!(
            after.window >= u64::from(after.segment) && after.segment > 500,
            "{after:?}"
        );
        assert!(!after.closed);
        let min_rtt = after.min_rtt.expect("measured");
        assert!(
            min_rtt <= after.rtt && after.rtt < Duration::from_secs(1),
            "{after:?}"
        );
    }
}
