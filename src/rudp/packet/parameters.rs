//! What each side tells the other of itself in the handshake.

use std::time::Duration;

use super::{
    Malformed, Text, Token,
    varint::{self, Reader},
};

const MAX_IDLE_TIMEOUT: u64 = 0x01;
const INITIAL_MAX_DATA: u64 = 0x02;
const INITIAL_MAX_STREAM_DATA: u64 = 0x03;
const INITIAL_MAX_STREAMS: u64 = 0x04;
const MAX_UDP_PAYLOAD_SIZE: u64 = 0x05;
const MAX_ACK_DELAY: u64 = 0x06;
const RESET_TOKEN: u64 = 0x07;
const CONGESTION: u64 = 0x08;
const NAME: u64 = 0x09;

/// The smallest `max_udp_payload_size`: what every path must carry.
pub const MIN_UDP_PAYLOAD: u16 = 1200;
/// The largest: 65,535 less the headers of IPv4 and UDP, less those of IPv6.
pub const MAX_UDP_PAYLOAD: u16 = 65_487;
/// The longest `max_ack_delay`: below 2^14 ms as in RFC 9000 section 18.2.
pub const MAX_MAX_ACK_DELAY: Duration = Duration::from_millis((1 << 14) - 1);
/// The longest `max_idle_timeout`: a day.
pub const MAX_MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(86_400);
/// The shortest `max_idle_timeout`.
pub const MIN_MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Transport parameters. What is absent on the wire has its default; what is at its default is
/// written all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// The connection ends silently when nothing was received for so long; whole milliseconds,
    /// [`MIN_MAX_IDLE_TIMEOUT`] to [`MAX_MAX_IDLE_TIMEOUT`]. The lesser of both sides' counts.
    pub max_idle_timeout: Duration,
    /// The bytes that the peer may send over all streams before a MAX_DATA.
    pub initial_max_data: u64,
    /// The bytes that the peer may send on one stream before a MAX_STREAM_DATA.
    pub initial_max_stream_data: u64,
    /// The streams that the peer may open before a MAX_STREAMS. A server's peer opens them all.
    pub initial_max_streams: u64,
    /// The largest UDP payload that is taken, in bytes: [`MIN_UDP_PAYLOAD`] to [`MAX_UDP_PAYLOAD`].
    pub max_udp_payload_size: u16,
    /// The longest that an acknowledgement is held back; whole milliseconds, at most
    /// [`MAX_MAX_ACK_DELAY`].
    pub max_ack_delay: Duration,
    /// What a stateless RESET for the client's connection id must carry. Only a client sends it
    /// here; a server has a field of the ACCEPT for it.
    pub reset_token: Option<Token>,
    /// The congestion control that the client wants the server to send with. A name that the server
    /// does not know is as none. Only a client sends it.
    pub congestion: Option<Text>,
    /// The client's name, for those who watch. Only a client sends it.
    pub name: Option<Text>,
}

impl Default for Parameters {
    /// 30 s idle, 1 MiB over all streams and on each, 100 streams, any payload size, 25 ms of
    /// acknowledgement delay.
    fn default() -> Self {
        Self {
            max_idle_timeout: Duration::from_secs(30),
            initial_max_data: 1 << 20,
            initial_max_stream_data: 1 << 20,
            initial_max_streams: 100,
            max_udp_payload_size: MAX_UDP_PAYLOAD,
            max_ack_delay: Duration::from_millis(25),
            reset_token: None,
            congestion: None,
            name: None,
        }
    }
}

impl Parameters {
    /// Appends them, lengths and all. Values out of range are written as the nearest that is
    /// allowed.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut number = |id, value| {
            varint::put(id, out);
            varint::put(varint::len(value) as u64, out);
            varint::put(value, out);
        };
        number(
            MAX_IDLE_TIMEOUT,
            millis(
                self.max_idle_timeout
                    .clamp(MIN_MAX_IDLE_TIMEOUT, MAX_MAX_IDLE_TIMEOUT),
            ),
        );
        number(INITIAL_MAX_DATA, self.initial_max_data.min(varint::MAX));
        number(
            INITIAL_MAX_STREAM_DATA,
            self.initial_max_stream_data.min(varint::MAX),
        );
        number(
            INITIAL_MAX_STREAMS,
            self.initial_max_streams.min(varint::MAX),
        );
        number(
            MAX_UDP_PAYLOAD_SIZE,
            self.max_udp_payload_size
                .clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD)
                .into(),
        );
        number(
            MAX_ACK_DELAY,
            millis(self.max_ack_delay.min(MAX_MAX_ACK_DELAY)),
        );
        let mut bytes = |id, value: &[u8]| {
            varint::put(id, out);
            varint::put(value.len() as u64, out);
            out.extend_from_slice(value);
        };
        if let Some(token) = self.reset_token {
            bytes(RESET_TOKEN, &token.to_bytes());
        }
        if let Some(congestion) = &self.congestion {
            bytes(CONGESTION, congestion.as_bytes());
        }
        if let Some(name) = &self.name {
            bytes(NAME, name.as_bytes());
        }
    }

    /// Reads a sequence that fills `encoded`. Unknown ids are skipped.
    pub fn decode(encoded: &[u8]) -> Result<Self, Malformed> {
        let mut parameters = Self::default();
        let mut reader = Reader::new(encoded);
        let mut seen = 0u32;
        while !reader.is_empty() {
            let id = reader.varint()?;
            let value = reader.counted()?;
            let wrong = Malformed::Parameter(id);
            if (MAX_IDLE_TIMEOUT..=NAME).contains(&id) {
                if seen & (1 << id) != 0 {
                    return Err(wrong);
                }
                seen |= 1 << id;
            }
            match id {
                MAX_IDLE_TIMEOUT => {
                    parameters.max_idle_timeout = duration(value)
                        .filter(|d| (MIN_MAX_IDLE_TIMEOUT..=MAX_MAX_IDLE_TIMEOUT).contains(d))
                        .ok_or(wrong)?;
                }
                INITIAL_MAX_DATA => parameters.initial_max_data = number(value).ok_or(wrong)?,
                INITIAL_MAX_STREAM_DATA => {
                    parameters.initial_max_stream_data = number(value).ok_or(wrong)?;
                }
                INITIAL_MAX_STREAMS => {
                    parameters.initial_max_streams = number(value).ok_or(wrong)?;
                }
                MAX_UDP_PAYLOAD_SIZE => {
                    parameters.max_udp_payload_size = number(value)
                        .and_then(|size| u16::try_from(size).ok())
                        .filter(|size| (MIN_UDP_PAYLOAD..=MAX_UDP_PAYLOAD).contains(size))
                        .ok_or(wrong)?;
                }
                MAX_ACK_DELAY => {
                    parameters.max_ack_delay = duration(value)
                        .filter(|delay| *delay <= MAX_MAX_ACK_DELAY)
                        .ok_or(wrong)?;
                }
                RESET_TOKEN => {
                    let token = value.try_into().map_err(|_| wrong)?;
                    parameters.reset_token = Some(Token::new(token));
                }
                CONGESTION => {
                    parameters.congestion = Some(Text::parse(value).map_err(|_| wrong)?);
                }
                NAME => parameters.name = Some(Text::parse(value).map_err(|_| wrong)?),
                _ => {}
            }
        }
        Ok(parameters)
    }
}

/// A value that is one varint and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(value);
    let number = reader.varint().ok()?;
    reader.is_empty().then_some(number)
}

fn duration(value: &[u8]) -> Option<Duration> {
    number(value).map(Duration::from_millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = Option<Text>> {
        proptest::option::of("[ -:<-~]{1,64}".prop_map(|text| Text::new(&text).unwrap()))
    }

    fn any_parameters() -> impl Strategy<Value = Parameters> {
        let numbers = (
            1_000..=86_400_000u64,
            0..=varint::MAX,
            0..=varint::MAX,
            0..=varint::MAX,
            MIN_UDP_PAYLOAD..=MAX_UDP_PAYLOAD,
            0..=16_383u64,
        );
        let token = proptest::option::of(any::<[u8; 16]>());
        (numbers, token, texts(), texts()).prop_map(|(numbers, token, congestion, name)| {
            Parameters {
                max_idle_timeout: Duration::from_millis(numbers.0),
                initial_max_data: numbers.1,
                initial_max_stream_data: numbers.2,
                initial_max_streams: numbers.3,
                max_udp_payload_size: numbers.4,
                max_ack_delay: Duration::from_millis(numbers.5),
                reset_token: token.map(Token::new),
                congestion,
                name,
            }
        })
    }

    fn encoded(parameters: &Parameters) -> Vec<u8> {
        let mut bytes = Vec::new();
        parameters.encode(&mut bytes);
        bytes
    }

    fn one(id: u64, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint::put(id, &mut bytes);
        varint::put(value.len() as u64, &mut bytes);
        bytes.extend_from_slice(value);
        bytes
    }

    proptest! {
        #[test]
        fn parameters_come_back_as_they_went(parameters in any_parameters()) {
            prop_assert_eq!(Parameters::decode(&encoded(&parameters)), Ok(parameters));
        }

        #[test]
        fn any_bytes_are_parameters_in_range_or_malformed(
            bytes in proptest::collection::vec(prop_oneof![0..12u8, any::<u8>()], 0..60),
        ) {
            if let Ok(parameters) = Parameters::decode(&bytes) {
                // What is in range is written unchanged.
                prop_assert_eq!(Parameters::decode(&encoded(&parameters)), Ok(parameters));
            }
        }
    }

    #[test]
    fn what_is_absent_has_its_default_and_what_is_unknown_is_skipped() {
        assert_eq!(Parameters::decode(b""), Ok(Parameters::default()));
        let mut bytes = one(0x1234, b"grease");
        bytes.extend(one(0x1234, b""));
        bytes.extend(one(0x04, &[5]));
        let expected = Parameters {
            initial_max_streams: 5,
            ..Parameters::default()
        };
        assert_eq!(Parameters::decode(&bytes), Ok(expected));
    }

    #[test]
    fn what_is_there_twice_or_wrong_is_malformed() {
        let long = [b'a'; 65];
        let wrong: [(u64, &[u8]); 16] = [
            (0x01, &[0x43, 0xe7]),             // 999 ms
            (0x01, &[0x85, 0x26, 0x5c, 0x01]), // a day and a millisecond
            (0x02, &[]),                       // no number
            (0x02, &[0x40]),                   // half a number
            (0x03, &[1, 1]),                   // two numbers
            (0x05, &[0x44, 0xaf]),             // 1199
            (0x05, &[0x80, 0x00, 0xff, 0xd0]), // 65,488
            (0x05, &[0x80, 0x01, 0x00, 0x01]), // beyond 16 bits
            (0x06, &[0x80, 0x00, 0x40, 0x00]), // 2^14 ms
            (0x07, &[1; 15]),                  // a short token
            (0x07, &[1; 17]),                  // a long one
            (0x08, b""),                       // no name
            (0x08, b"b;r"),                    // not of its alphabet
            (0x09, b"T\xc3\xa4l"),             // not ASCII
            (0x09, &long),                     // too long
            (0x09, b"a\n"),                    // not printable
        ];
        for (id, value) in wrong {
            assert_eq!(
                Parameters::decode(&one(id, value)),
                Err(Malformed::Parameter(id)),
                "{id} {value:?}"
            );
        }
        for id in MAX_IDLE_TIMEOUT..=MAX_ACK_DELAY {
            let value: &[u8] = &[0x80, 0, 0x10, 0];
            let twice = [one(id, value), one(id, value)].concat();
            assert!(Parameters::decode(&one(id, value)).is_ok());
            assert_eq!(Parameters::decode(&twice), Err(Malformed::Parameter(id)));
        }
    }

    #[test]
    fn parameters_cut_short_are_malformed() {
        let bytes = encoded(&Parameters {
            name: Some(Text::new("Tal").unwrap()),
            ..Parameters::default()
        });
        let whole: Vec<usize> = (0..bytes.len())
            .filter(|end| Parameters::decode(&bytes[..*end]).is_ok())
            .collect();
        // Only between two of them.
        assert_eq!(whole, [0, 6, 12, 18, 22, 28, 31]);
    }

    #[test]
    fn what_is_out_of_range_is_written_as_the_nearest_in_range() {
        let wild = Parameters {
            max_idle_timeout: Duration::MAX,
            initial_max_data: u64::MAX,
            max_udp_payload_size: 0,
            max_ack_delay: Duration::MAX,
            ..Parameters::default()
        };
        let read = Parameters::decode(&encoded(&wild)).unwrap();
        assert_eq!(read.max_idle_timeout, MAX_MAX_IDLE_TIMEOUT);
        assert_eq!(read.initial_max_data, varint::MAX);
        assert_eq!(read.max_udp_payload_size, MIN_UDP_PAYLOAD);
        assert_eq!(read.max_ack_delay, MAX_MAX_ACK_DELAY);
    }
}
