//! Every parser takes every byte; what it takes, it writes again so that it reads the same.

#![no_main]

use labnet::rudp::{
    exchange::{Answer, LineReader, Question, Statistics, decode_list, encode_list},
    packet::{
        Accept, Binding, Cid, CookieReply, Frame, Frames, HandshakeKey, Header, Hello, Keys,
        MIN_HELLO, PacketType, Parameters, Reset, Versions, cookie::Secrets, expand,
        frame::MAX_REASON,
    },
    signal::{self, Signal},
};
use libfuzzer_sys::fuzz_target;

const KEY: HandshakeKey = HandshakeKey::Checksum;

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else {
        return;
    };
    match which % 10 {
        0 => frames(bytes),
        1 => hello(bytes),
        2 => around(bytes),
        3 => parameters(bytes),
        4 => cookies(bytes),
        5 => headers(bytes),
        6 => questions(bytes),
        7 => answers(bytes),
        8 => signals(bytes),
        _ => data(bytes),
    }
});

/// The packet with the tag that makes it whole.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut packet = bytes.to_vec();
    Keys::Checksum(Binding::default()).seal(&mut packet, 0, 0);
    packet
}

fn frames(payload: &[u8]) {
    let mut read = 0;
    for frame in Frames::new(payload) {
        let Ok(frame) = frame else {
            return;
        };
        read += 1;
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let again = Frames::new(&bytes).next();
        let Some(Ok(again)) = again else {
            panic!("{frame:?} is written as {again:?}");
        };
        match (frame, again) {
            // Its numbers may have been longer than they need.
            (Frame::Ack(one), Frame::Ack(other)) => {
                assert_eq!((one.largest, one.delay), (other.largest, other.delay));
                assert_eq!(one.ecn, other.ecn);
                assert!(one.ranges().eq(other.ranges()));
                let ranges: Vec<_> = one.ranges().collect();
                assert!(ranges.iter().all(|range| range.start() <= range.end()));
                let apart =
                    |pair: &[std::ops::RangeInclusive<u64>]| pair[1].end() + 1 < *pair[0].start();
                assert!(ranges.windows(2).all(apart));
            }
            (Frame::Close { reason, .. }, Frame::Close { reason: cut, .. }) => {
                assert!(reason.starts_with(cut) && cut.len() <= MAX_REASON);
                assert!(reason == cut || cut.len() + 4 > MAX_REASON);
            }
            (one, other) => assert_eq!(one, other),
        }
    }
    assert!(read <= payload.len());
}

fn hello(bytes: &[u8]) {
    let mut body = bytes.to_vec();
    body.resize(body.len().max(MIN_HELLO - 4), 0);
    let packet = sealed(&body);
    let Ok(hello) = Hello::open(&packet, &KEY) else {
        return;
    };
    let mut out = Vec::new();
    hello.encode(&KEY, &mut out);
    assert_eq!(Hello::open(&out, &KEY), Ok(hello));
}

fn around(bytes: &[u8]) {
    let packet = sealed(bytes);
    let mut out = Vec::new();
    if let Ok(reply) = CookieReply::open(&packet, &KEY) {
        reply.encode(&KEY, &mut out);
        assert_eq!(out, packet);
    } else if let Ok(accept) = Accept::open(&packet, &KEY) {
        accept.encode(&KEY, &mut out);
        assert_eq!(Accept::open(&out, &KEY), Ok(accept));
    } else if let Ok(versions) = Versions::open(&packet) {
        let list: Vec<u32> = versions.iter().collect();
        Versions::encode(versions.destination, &list, &mut out);
        assert_eq!(out, packet);
    }
    if let Ok(reset) = Reset::parse(bytes) {
        out.clear();
        reset.encode(&mut out);
        assert_eq!(out, bytes);
    }
}

fn parameters(bytes: &[u8]) {
    if let Ok(parameters) = Parameters::decode(bytes) {
        let mut out = Vec::new();
        parameters.encode(&mut out);
        assert_eq!(Parameters::decode(&out), Ok(parameters));
    }
}

fn cookies(bytes: &[u8]) {
    let mut secrets = Secrets::new(&[1; 32]);
    let (address, cid, nonce) = (([192, 0, 2, 1], 4000).into(), Cid(7), [9; 16]);
    let minted = secrets.mint(6000, address, cid, &nonce);
    assert_eq!(secrets.verify(&minted, 6000, address, cid, &nonce), Ok(()));
    let verified = secrets.verify(bytes, 6000, address, cid, &nonce);
    assert_eq!(verified.is_ok(), bytes == minted);
}

fn headers(bytes: &[u8]) {
    if let Ok(header) = Header::parse(bytes) {
        assert_eq!(PacketType::of(bytes), Ok(header.packet));
        assert!(signal::is_binary(bytes));
    }
    if let Some((expected, rest)) = bytes.split_first_chunk::<8>()
        && let Some(low) = rest.first_chunk::<4>()
    {
        let (expected, low) = (u64::from_be_bytes(*expected) >> 2, u32::from_be_bytes(*low));
        let number = expand(expected, low);
        assert_eq!(number as u32, low);
        assert!(number.abs_diff(expected) <= 1 << 32);
    }
}

fn questions(bytes: &[u8]) {
    let mut reader = LineReader::new();
    // In two pieces, as a stream may bring it.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut taken = 0;
    for piece in [first, second] {
        match reader.feed(piece) {
            Ok(Some(length)) => {
                assert!(length <= piece.len());
                taken += length;
                break;
            }
            Ok(None) => taken += piece.len(),
            Err(_) => return,
        }
    }
    assert!(taken <= bytes.len());
    let Ok(line) = reader.line() else {
        return;
    };
    if let Ok(question) = Question::parse(line) {
        let out = question.encode().expect("what was read can be written");
        assert_eq!(Question::parse(out.trim_end_matches('\n')), Ok(question));
    }
}

fn answers(bytes: &[u8]) {
    if let Ok(line) = str::from_utf8(bytes)
        && let Ok(answer) = Answer::parse(line)
        && let Ok(out) = answer.encode()
    {
        let again = Answer::parse(out.trim_end_matches('\n'));
        match (&answer, &again) {
            // A long text is cut.
            (Answer::Error { code, .. }, Ok(Answer::Error { code: other, .. })) => {
                assert_eq!(code, other);
            }
            _ => assert_eq!(again.as_ref(), Ok(&answer)),
        }
    }
    if let Ok(names) = decode_list(bytes) {
        let out = encode_list(names.iter().copied());
        assert_eq!(decode_list(out.as_bytes()), Ok(names));
    }
    if let Ok(statistics) = Statistics::decode(bytes) {
        let out = statistics.encode();
        let again = Statistics::decode(out.as_bytes()).expect("what was read can be written");
        assert!(again.iter().eq(statistics.iter()));
    }
}

fn signals(bytes: &[u8]) {
    if let Ok(signal) = Signal::parse(bytes) {
        let mut out = Vec::new();
        signal.encode(&mut out);
        assert_eq!(Signal::parse(&out), Ok(signal));
    }
    if let Ok(answer) = signal::Answer::parse(bytes) {
        let mut out = Vec::new();
        answer.encode(&mut out);
        assert_eq!(signal::Answer::parse(&out), Ok(answer));
    }
}

fn data(bytes: &[u8]) {
    let mut packet = sealed(bytes);
    let Some((expected, _)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let expected = u64::from_be_bytes(*expected) >> 2;
    if let Ok(opened) = Keys::Checksum(Binding::default()).open(&mut packet, expected) {
        assert!(!opened.payload.is_empty() && opened.payload.end + 4 == packet.len());
        frames(&packet[opened.payload]);
    }
}
