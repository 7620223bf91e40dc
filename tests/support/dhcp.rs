//! A client's messages, byte by byte, and a server's answers.

use std::net::Ipv4Addr;

pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const DECLINE: u8 = 4;
pub(crate) const ACK: u8 = 5;
pub(crate) const NAK: u8 = 6;
pub(crate) const RELEASE: u8 = 7;
pub(crate) const INFORM: u8 = 8;

/// A message under construction.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) header: [u8; 240],
    pub(crate) options: Vec<u8>,
}

impl Packet {
    /// A message of type `kind` from the Ethernet client 02:00:00:00:00:`client`.
    pub(crate) fn new(kind: u8, client: u8) -> Self {
        Self::from_mac(kind, [2, 0, 0, 0, 0, client])
    }

    pub(crate) fn from_mac(kind: u8, mac: [u8; 6]) -> Self {
        let mut header = [0; 240];
        header[..4].copy_from_slice(&[1, 1, 6, 0]);
        header[4..8].copy_from_slice(&[0xca, 0xfe, kind, mac[5]]);
        header[28..34].copy_from_slice(&mac);
        header[236..].copy_from_slice(&[99, 130, 83, 99]);
        let options = vec![53, 1, kind];
        Self { header, options }
    }

    pub(crate) fn option(mut self, code: u8, data: &[u8]) -> Self {
        self.options.push(code);
        self.options
            .push(u8::try_from(data.len()).expect("one option"));
        self.options.extend_from_slice(data);
        self
    }

    pub(crate) fn requested(self, address: Ipv4Addr) -> Self {
        self.option(50, &address.octets())
    }

    pub(crate) fn server(self, address: Ipv4Addr) -> Self {
        self.option(54, &address.octets())
    }

    pub(crate) fn id(self, id: &[u8]) -> Self {
        self.option(61, id)
    }

    fn field(mut self, at: usize, address: Ipv4Addr) -> Self {
        self.header[at..at + 4].copy_from_slice(&address.octets());
        self
    }

    pub(crate) fn ciaddr(self, address: Ipv4Addr) -> Self {
        self.field(12, address)
    }

    pub(crate) fn giaddr(self, address: Ipv4Addr) -> Self {
        self.field(24, address)
    }

    pub(crate) fn broadcast(mut self) -> Self {
        self.header[10] = 0x80;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        bytes.extend_from_slice(&self.options);
        bytes.push(255);
        bytes
    }
}

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// In the order of the wire.
    pub(crate) options: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    /// Takes an answer apart; it has to be well-formed.
    #[track_caller]
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 300, "shorter than BOOTP's 300 bytes");
        assert_eq!(bytes[0], 2, "op");
        assert_eq!(bytes[236..240], [99, 130, 83, 99], "cookie");
        let mut options = Vec::new();
        let mut rest = &bytes[240..];
        loop {
            match rest {
                [255, padding @ ..] => {
                    assert!(padding.iter().all(|byte| *byte == 0), "padding");
                    break;
                }
                [code, len, tail @ ..] => {
                    let (data, next) = tail.split_at(usize::from(*len));
                    options.push((*code, data.to_vec()));
                    rest = next;
                }
                _ => panic!("no End option"),
            }
        }
        Self {
            bytes: bytes.to_vec(),
            options,
        }
    }

    pub(crate) fn option(&self, code: u8) -> Option<&[u8]> {
        let mut options = self.options.iter();
        let (_, data) = options.find(|(found, _)| *found == code)?;
        Some(data)
    }

    pub(crate) fn codes(&self) -> Vec<u8> {
        self.options.iter().map(|(code, _)| *code).collect()
    }

    pub(crate) fn kind(&self) -> u8 {
        self.option(53).expect("a message type")[0]
    }

    pub(crate) fn address(&self, at: usize) -> Ipv4Addr {
        let octets: [u8; 4] = self.bytes[at..at + 4].try_into().expect("four");
        octets.into()
    }

    pub(crate) fn ciaddr(&self) -> Ipv4Addr {
        self.address(12)
    }

    pub(crate) fn yiaddr(&self) -> Ipv4Addr {
        self.address(16)
    }

    pub(crate) fn seconds(&self, code: u8) -> Option<u32> {
        let data = self.option(code)?;
        Some(u32::from_be_bytes(data.try_into().expect("four")))
    }
}
