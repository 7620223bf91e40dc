//! Packets as a pcapng file, for Wireshark and its like.
//!
//! The payloads are true; the headers around them are not what was on the wire, for a service sees no
//! headers at its sockets: IP, UDP and TCP headers are made up from the addresses that the socket
//! knows, without a link layer (LINKTYPE_RAW). Times to live, identifications, checksums (0: not
//! computed), fragments and TCP's segments, windows, handshakes and acknowledgements are not the
//! real ones. The file says so in its section's comment.
//!
//! Each role is an interface of its own, with the direction of each packet as the role sees it. What
//! passes between two roles of one process stands twice in it over UDP, once at each; of a TCP
//! connection between two of them it has one end, or Wireshark would take the other for
//! retransmissions.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pcap_file::{
    DataLink, Endianness, PcapError,
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption},
            section_header::{SectionHeaderBlock, SectionHeaderOption},
        },
    },
};

use super::{
    event::packet::{Carrier, Direction, Fate, Packet, Role},
    fates, why,
    words::{Reading, Words},
};

/// What stands in the file's head.
const MADE_UP: &str = "Captured by labnet at its own sockets. The payloads are what passed there; the IP, UDP and \
     TCP headers are made up from the sockets' addresses (no link layer, checksums 0, TCP without its \
     handshake, segments and acknowledgements as they really were).";
/// Of a packet that stood in its link's queue for longer than a capture waits, or whose verdict found no
/// room, is forgotten, or has left the ring before it.
const UNTOLD: &str = "what the link did to it is not known here";
/// Nanoseconds, as `if_tsresol` has it.
const NANOSECONDS: u8 = 9;
/// What one made-up IP packet carries of a TCP connection at most.
const SEGMENT: usize = 65_000;
/// So many TCP connections are followed; one more, and all begin anew.
const FOLLOWED: usize = 65_536;

/// Writes a file.
pub struct Writer<W: Write> {
    out: PcapNgWriter<Counted<W>>,
    words: Words,
    /// By interface.
    written: [u64; Role::ALL.len()],
    /// What was sent over a TCP connection, from the first address to the second.
    streams: HashMap<(SocketAddr, SocketAddr), u32>,
    /// Ends of TCP connections that are in the file: the other end of each is not.
    ends: HashSet<(SocketAddr, SocketAddr)>,
    frame: Vec<u8>,
}

/// Counts what is written.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W) -> io::Result<Self> {
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![
                SectionHeaderOption::Comment(Cow::Borrowed(MADE_UP)),
                SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
                    "labnet ",
                    env!("CARGO_PKG_VERSION")
                ))),
            ],
            ..SectionHeaderBlock::default()
        };
        let counted = Counted { out, bytes: 0 };
        let mut out = PcapNgWriter::with_section_header(counted, section).map_err(plain)?;
        for role in Role::ALL {
            let block = InterfaceDescriptionBlock {
                linktype: DataLink::RAW,
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(role.name())),
                    InterfaceDescriptionOption::IfDescription(Cow::Owned(format!(
                        "the sockets of labnet's {}, headers made up",
                        role.name()
                    ))),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ],
            };
            out.write_pcapng_block(block).map_err(plain)?;
        }
        Ok(Self {
            out,
            words: Words::default(),
            written: [0; Role::ALL.len()],
            streams: HashMap::new(),
            ends: HashSet::new(),
            frame: Vec::new(),
        })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.out.get_ref().bytes
    }

    /// Writes a packet with its words as a comment, and what a link of this process did to it. What was on
    /// no network (lost on purpose, refused) is no packet of its own: a file shows what a capture beside the
    /// socket would.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn packet(&mut self, packet: &Packet<'_>, link: Option<&fates::Fate>) -> io::Result<()> {
        let reading = self.words.read(packet);
        if !packet.fate.is_on_the_network() {
            return Ok(());
        }
        if packet.place.carrier == Carrier::Udp {
            let comment = comment(packet, &reading, link);
            return self.frame(packet, packet.payload, packet.length, &comment, 0);
        }
        let place = &packet.place;
        if self.ends.contains(&(place.remote, place.local)) {
            return Ok(());
        }
        if self.ends.len() >= FOLLOWED {
            self.ends.clear();
            self.streams.clear();
        }
        self.ends.insert((place.local, place.remote));
        let way = (packet.source(), packet.destination());
        let comment = comment(packet, &reading, None);
        let mut offset = 0;
        while offset < packet.length {
            let length = SEGMENT.min(packet.length - offset);
            let end = packet.payload.len().min(offset + length);
            let piece = packet.payload.get(offset..end).unwrap_or_default();
            let at = *self.streams.entry(way).or_insert(1);
            self.frame(packet, piece, length, &comment, at)?;
            // Sequence numbers go round.
            let next = at.wrapping_add(length as u32);
            self.streams.insert(way, next);
            offset += length;
        }
        Ok(())
    }

    fn frame(
        &mut self,
        packet: &Packet<'_>,
        payload: &[u8],
        length: usize,
        comment: &str,
        sequence: u32,
    ) -> io::Result<()> {
        let back = (packet.destination(), packet.source());
        let acknowledged = self.streams.get(&back).copied().unwrap_or(1);
        self.frame.clear();
        headers(packet, length, [sequence, acknowledged], &mut self.frame);
        let header = self.frame.len();
        self.frame.extend_from_slice(payload);
        let interface = packet.place.label.role as usize;
        self.written[interface] += 1;
        // pcapng section 4.3.1: bits 0 and 1.
        let flags = match packet.fate.direction() {
            Direction::Received => 1,
            Direction::Sent => 2,
        };
        let mut options = vec![EnhancedPacketOption::Flags(flags)];
        if !comment.is_empty() {
            options.push(EnhancedPacketOption::Comment(Cow::Borrowed(comment)));
        }
        let block = EnhancedPacketBlock {
            interface_id: interface as u32,
            timestamp: since_1970(packet.when.wall),
            original_len: u32::try_from(header + length).unwrap_or(u32::MAX),
            data: Cow::Borrowed(&self.frame),
            options,
        };
        self.out.write_pcapng_block(block).map_err(plain)?;
        Ok(())
    }

    /// Writes for each interface how many packets of it the file has, and for the first how many are
    /// missing because whoever wrote it was too slow.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn statistics(&mut self, lost: u64) -> io::Result<()> {
        let now = since_1970(SystemTime::now()).as_nanos();
        for (interface, written) in self.written.into_iter().enumerate() {
            let dropped = if interface == 0 { lost } else { 0 };
            let mut options = vec![
                InterfaceStatisticsOption::IsbIfRecv(written + dropped),
                InterfaceStatisticsOption::IsbIfDrop(dropped),
            ];
            if dropped > 0 {
                let text = "packets of all interfaces that are missing, told at this one";
                options.push(InterfaceStatisticsOption::Comment(Cow::Borrowed(text)));
            }
            let block = InterfaceStatisticsBlock {
                interface_id: interface as u32,
                // The high half first, as the format has it and not the library.
                timestamp: (now as u64).rotate_left(32),
                options,
            };
            self.out.write_pcapng_block(block).map_err(plain)?;
        }
        self.flush()
    }

    /// Hands on what is buffered below.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.get_mut().flush()
    }

    /// What it writes to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out.get_mut().out
    }
}

fn comment(packet: &Packet<'_>, reading: &Reading, link: Option<&fates::Fate>) -> String {
    let mut comment = match packet.fate {
        Fate::SentAgain(why) => format!("again ({why}): {}", reading.meaning),
        _ => reading.meaning.clone(),
    };
    if packet.crossing.is_some() {
        let words = link.map(why::link_words);
        comment += "; ";
        comment += words.as_deref().unwrap_or(UNTOLD);
    }
    comment
}

fn plain(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

const UDP: u8 = 17;
const TCP: u8 = 6;
/// PSH and ACK.
const FLAGS: u8 = 0x18;

/// Makes up the headers of a payload of `length` bytes; `numbers` are TCP's sequence and
/// acknowledgement.
fn headers(packet: &Packet<'_>, length: usize, numbers: [u32; 2], out: &mut Vec<u8>) {
    let (protocol, header) = match packet.place.carrier {
        Carrier::Udp => (UDP, 8),
        Carrier::Tcp => (TCP, 20),
    };
    // A datagram and a segment are shorter than 64 KiB.
    let total = (header + length) as u16;
    let (source, destination) = (packet.source(), packet.destination());
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let start = out.len();
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&total.saturating_add(20).to_be_bytes());
            out.extend_from_slice(&[0, 0, 0, 0, 64, protocol, 0, 0]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
            let sum = checksum(&out[start..]).to_be_bytes();
            out[start + 10..start + 12].copy_from_slice(&sum);
        }
        (source, destination) => {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&total.to_be_bytes());
            out.extend_from_slice(&[protocol, 64]);
            for address in [source, destination] {
                let address = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                out.extend_from_slice(&address.octets());
            }
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    match packet.place.carrier {
        Carrier::Udp => {
            out.extend_from_slice(&total.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
        }
        Carrier::Tcp => {
            for number in numbers {
                out.extend_from_slice(&number.to_be_bytes());
            }
            // Five words of header; a window that says nothing; no checksum, nothing urgent.
            out.extend_from_slice(&[0x50, FLAGS, 0xff, 0xff, 0, 0, 0, 0]);
        }
    }
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
