use std::{ops::RangeInclusive, time::Duration};

use proptest::prelude::*;

use super::*;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, 0..70_000u64, 0..=varint::MAX]
}

fn code() -> impl Strategy<Value = ErrorCode> {
    number().prop_map(ErrorCode)
}

fn duration() -> impl Strategy<Value = Duration> {
    number().prop_map(Duration::from_micros)
}

/// Descending ranges that do not touch: from lengths and gaps.
fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
    let steps = proptest::collection::vec((0..5000u64, 0..5000u64), 1..80);
    (steps, 0..=varint::MAX).prop_map(|(steps, largest)| {
        let mut next = Some(largest);
        let mut ranges = Vec::new();
        for (length, gap) in steps {
            let Some(high) = next else { break };
            let low = high.saturating_sub(length);
            ranges.push(low..=high);
            next = low.checked_sub(gap + 2);
        }
        ranges
    })
}

/// A frame without borrowed data.
fn plain_frame() -> impl Strategy<Value = Frame<'static>> {
    prop_oneof![
        (1..50usize).prop_map(Frame::Padding),
        Just(Frame::Ping),
        (number(), code(), number()).prop_map(|(id, code, final_size)| Frame::ResetStream {
            id,
            code,
            final_size
        }),
        (number(), code()).prop_map(|(id, code)| Frame::StopSending { id, code }),
        number().prop_map(Frame::MaxData),
        (number(), number()).prop_map(|(id, max)| Frame::MaxStreamData { id, max }),
        number().prop_map(Frame::MaxStreams),
        number().prop_map(Frame::DataBlocked),
        (number(), number()).prop_map(|(id, limit)| Frame::StreamDataBlocked { id, limit }),
        any::<[u8; 8]>().prop_map(Frame::PathChallenge),
        any::<[u8; 8]>().prop_map(Frame::PathResponse),
        (number(), number(), duration()).prop_map(|(sequence, packets, max_delay)| {
            Frame::AckFrequency {
                sequence,
                packets,
                max_delay,
            }
        }),
    ]
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

fn only(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let mut frames = Frames::new(bytes);
    let frame = frames.next().expect("a frame");
    assert_eq!(frames.next(), None);
    frame
}

fn ack(ranges: &[RangeInclusive<u64>], ecn: Option<EcnCounts>, budget: usize) -> (usize, Vec<u8>) {
    let mut bytes = Vec::new();
    let delay = Duration::from_micros(1234);
    let count = encode_ack(ranges.iter().cloned(), delay, ecn, budget, &mut bytes);
    (count, bytes)
}

proptest! {
    #[test]
    fn frames_come_back_as_they_went(frames in proptest::collection::vec(plain_frame(), 1..20)) {
        let mut bytes = Vec::new();
        for frame in &frames {
            bytes.extend(encoded(frame));
        }
        // Padding beside padding is read as one.
        let mut joined: Vec<Frame<'_>> = Vec::new();
        for frame in frames {
            match (joined.last_mut(), frame) {
                (Some(Frame::Padding(before)), Frame::Padding(more)) => *before += more,
                _ => joined.push(frame),
            }
        }
        let read: Result<Vec<_>, _> = Frames::new(&bytes).collect();
        prop_assert_eq!(read, Ok(joined));
    }

    #[test]
    fn stream_data_comes_back_with_and_without_its_length(
        id in number(),
        offset in 0..varint::MAX - 100,
        fin: bool,
        data in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let stream = Frame::Stream(Stream { id, offset, fin, data: &data });
        let mut bytes = encoded(&stream);
        prop_assert_eq!(only(&bytes), Ok(stream));
        bytes.push(PING);
        prop_assert_eq!(Frames::new(&bytes).count(), 2);

        bytes.clear();
        encode_stream_header(id, offset, None, fin, &mut bytes);
        prop_assert_eq!(bytes.len(), stream_header_len(id, offset, None));
        bytes.extend(&data);
        prop_assert_eq!(only(&bytes), Ok(stream));
    }

    #[test]
    fn a_stream_frame_fills_the_room_and_never_more(
        id in number(),
        offset in number(),
        available in 0..3000usize,
        room in 0..2000usize,
    ) {
        let header = stream_header_len(id, offset, None);
        match fit_stream(id, offset, available, room) {
            None => prop_assert!(room < header + usize::from(available > 0)),
            Some((data, len)) => {
                let whole = stream_header_len(id, offset, len) + data;
                prop_assert!(whole <= room && data <= available);
                prop_assert!(len.is_none_or(|len| len == data));
                // All there was, or not a byte more would have fit.
                prop_assert!(data == available || whole == room);
            }
        }
    }

    #[test]
    fn acks_come_back_as_they_went(
        ranges in ranges(),
        ecn in proptest::option::of((number(), number(), number())),
    ) {
        let ecn = ecn.map(|(ect0, ect1, ce)| EcnCounts { ect0, ect1, ce });
        let (count, bytes) = ack(&ranges, ecn, usize::MAX);
        prop_assert_eq!(count, ranges.len());
        let frame = only(&bytes).unwrap();
        prop_assert_eq!(encoded(&frame), bytes.clone());
        let Frame::Ack(read) = frame else { panic!("an ACK") };
        prop_assert_eq!(read.largest, *ranges[0].end());
        prop_assert_eq!(read.delay, Duration::from_micros(1234));
        prop_assert_eq!(read.ecn, ecn);
        prop_assert_eq!(read.ranges().collect::<Vec<_>>(), ranges);
        for end in 0..bytes.len() {
            let cut = Frames::new(&bytes[..end]).next();
            prop_assert!(!matches!(cut, Some(Ok(_))), "cut at {}", end);
        }
    }

    #[test]
    fn an_ack_keeps_to_its_budget_and_tells_of_the_newest(ranges in ranges(), budget in 0..200usize) {
        let (count, bytes) = ack(&ranges, Some(EcnCounts::default()), budget);
        prop_assert!(bytes.len() <= budget);
        prop_assert_eq!(count == 0, bytes.is_empty());
        if count > 0 {
            let Ok(Frame::Ack(read)) = only(&bytes) else { panic!("an ACK") };
            prop_assert_eq!(read.ranges().collect::<Vec<_>>(), &ranges[..count]);
        }
        if count < ranges.len() {
            // The next one would not have fit: it takes at most 8 bytes twice, the fixed part 40.
            prop_assert!(bytes.len() + 40 > budget);
        }
    }

    #[test]
    fn any_bytes_are_frames_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut taken = 0;
        for frame in Frames::new(&bytes).flatten() {
            taken += 1;
            if let Frame::Ack(ack) = frame {
                let ranges: Vec<_> = ack.ranges().collect();
                prop_assert!(ranges.iter().all(|range| range.start() <= range.end()));
                prop_assert!(ranges.windows(2).all(|pair| pair[0].start() - pair[1].end() > 1));
            }
        }
        prop_assert!(taken <= bytes.len());
    }

    /// As above, but every sample is an ACK at least at its beginning.
    #[test]
    fn any_ranges_are_sound_or_malformed(
        numbers in proptest::collection::vec(number(), 3..40),
        count in 0..20u64,
    ) {
        let mut bytes = vec![ACK];
        varint::put(numbers[0], &mut bytes);
        varint::put(numbers[1], &mut bytes);
        varint::put(count, &mut bytes);
        numbers[2..].iter().for_each(|number| varint::put(*number, &mut bytes));
        if let Some(Ok(Frame::Ack(ack))) = Frames::new(&bytes).next() {
            let ranges: Vec<_> = ack.ranges().collect();
            prop_assert_eq!(ranges.len() as u64, 1 + count);
            prop_assert!(ranges.iter().all(|range| range.start() <= range.end()));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].start() - pair[1].end() > 1));
        }
    }
}

#[test]
fn acks_below_packet_zero_are_malformed() {
    let malformed: [&[u8]; 4] = [
        // Largest 2, and three more below it.
        &[ACK, 2, 0, 0, 3],
        // 10 alone, then a gap that leaves nothing.
        &[ACK, 10, 0, 1, 0, 9, 0],
        // 10 alone, then 8 and nine more below it.
        &[ACK, 10, 0, 1, 0, 0, 9],
        // Largest 2^62 - 1, one range whose gap wraps around.
        &[
            ACK, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0,
        ],
    ];
    for bytes in malformed {
        assert_eq!(
            Frames::new(bytes).next(),
            Some(Err(Malformed::Ranges)),
            "{bytes:?}"
        );
    }
    let Ok(Frame::Ack(ack)) = only(&[ACK, 10, 0, 1, 0, 0, 8]) else {
        panic!("an ACK");
    };
    assert_eq!(ack.ranges().collect::<Vec<_>>(), [10..=10, 0..=8]);
}

#[test]
fn an_ack_that_promises_more_ranges_than_it_has_is_malformed() {
    let mut bytes = vec![ACK, 10, 0];
    varint::put(varint::MAX, &mut bytes);
    bytes.extend([0, 0, 0]);
    assert_eq!(Frames::new(&bytes).next(), Some(Err(Malformed::Truncated)));
}

#[test]
fn ranges_that_touch_or_rise_end_the_list() {
    for wrong in [8..=9, 9..=9, 4..=10, 20..=30] {
        let (count, bytes) = ack(&[10..=12, wrong.clone(), 1..=2], None, usize::MAX);
        let Ok(Frame::Ack(read)) = only(&bytes) else {
            panic!("an ACK");
        };
        assert_eq!(count, 1, "{wrong:?}");
        assert_eq!(read.ranges().collect::<Vec<_>>(), [10..=12]);
    }
    assert_eq!(ack(&[], None, usize::MAX), (0, Vec::new()));
}

#[test]
fn every_frame_cut_short_is_malformed() {
    let frames = [
        Frame::ResetStream {
            id: 1,
            code: ErrorCode::CANCELLED,
            final_size: 1 << 20,
        },
        Frame::StopSending {
            id: 700,
            code: ErrorCode::CANCELLED,
        },
        Frame::Stream(Stream {
            id: 3,
            offset: 1 << 20,
            fin: true,
            data: b"some data",
        }),
        Frame::MaxData(1 << 40),
        Frame::MaxStreamData {
            id: 1,
            max: 1 << 20,
        },
        Frame::MaxStreams(100),
        Frame::DataBlocked(1 << 20),
        Frame::StreamDataBlocked {
            id: 1,
            limit: 1 << 20,
        },
        Frame::PathChallenge(*b"12345678"),
        Frame::PathResponse(*b"12345678"),
        Frame::Close {
            code: ErrorCode::SHUTDOWN,
            reason: "good night",
        },
        Frame::AckFrequency {
            sequence: 1,
            packets: 10,
            max_delay: Duration::from_millis(25),
        },
    ];
    for frame in frames {
        let bytes = encoded(&frame);
        assert_eq!(only(&bytes), Ok(frame));
        for end in 1..bytes.len() {
            assert_eq!(
                only(&bytes[..end]),
                Err(Malformed::Truncated),
                "{frame:?} cut at {end}"
            );
        }
    }
}

#[test]
fn unknown_frames_are_malformed_and_end_the_packet() {
    let known = [
        0x00..=0x05u8,
        0x08..=0x0b,
        0x10..=0x12,
        0x14..=0x15,
        0x1a..=0x1c,
        0x1f..=0x1f,
    ];
    for first in 0..=u8::MAX {
        let unknown = !known.iter().any(|range| range.contains(&first));
        let bytes = [PING, first, PING];
        let mut frames = Frames::new(&bytes).skip(1);
        assert_eq!(
            frames.next() == Some(Err(Malformed::FrameType(first))),
            unknown,
            "{first:#x}"
        );
        assert!(!unknown || frames.next().is_none());
    }
}

#[test]
fn a_stream_ends_within_its_numbers() {
    let mut bytes = Vec::new();
    encode_stream_header(0, varint::MAX - 3, None, false, &mut bytes);
    bytes.extend(b"abc");
    assert!(only(&bytes).is_ok());
    bytes.push(b'd');
    assert_eq!(only(&bytes), Err(Malformed::StreamTooLong));
}

#[test]
fn a_reason_is_cut_between_characters_and_must_be_utf_8() {
    let long = "ä".repeat(MAX_REASON) + "x";
    let bytes = encoded(&Frame::Close {
        code: ErrorCode::NO_ERROR,
        reason: &long[..],
    });
    let Ok(Frame::Close { reason, .. }) = only(&bytes) else {
        panic!("a CLOSE");
    };
    assert_eq!(reason, "ä".repeat(MAX_REASON / 2));
    assert_eq!(only(&[CLOSE, 0, 1, 0xff]), Err(Malformed::Text));
}

#[test]
fn what_must_be_acknowledged_is_known() {
    let (_, bytes) = ack(&[0..=3], None, usize::MAX);
    let close = Frame::Close {
        code: ErrorCode::NO_ERROR,
        reason: "",
    };
    for frame in [only(&bytes).unwrap(), Frame::Padding(3), close] {
        assert!(!frame.is_ack_eliciting(), "{frame:?}");
    }
    for frame in [Frame::Ping, Frame::MaxData(1), Frame::PathChallenge([0; 8])] {
        assert!(frame.is_ack_eliciting(), "{frame:?}");
    }
}
