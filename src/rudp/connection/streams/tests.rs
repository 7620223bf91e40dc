use proptest::prelude::*;

use super::*;

const LIMITS: FlowLimits = FlowLimits {
    connection: 4000,
    stream: 2500,
    streams: 8,
};

/// A server's streams, `count` of them open.
fn opened(count: u64) -> Streams {
    let mut streams = Streams::new(false, LIMITS, LIMITS);
    for id in 0..count {
        assert_eq!(streams.on_stream(id, 0, false, b""), Ok(()));
    }
    streams
}

fn told(streams: &mut Streams, wanted: fn(&StreamEvent) -> bool) -> usize {
    let events = std::mem::take(&mut streams.events);
    events.iter().filter(|event| wanted(event)).count()
}

#[test]
fn delivery_is_told_once_however_often_the_last_piece_arrives() {
    let mut streams = opened(1);
    let id = StreamId(0);
    assert_eq!(streams.write(id, Bytes::from_static(b"hello")), Ok(()));
    assert_eq!(streams.finish(id), Ok(()));
    let piece = streams.next_piece(|_, _| 100);
    assert!(piece.is_some_and(|piece| piece.length == 5 && piece.fin));
    for _ in 0..3 {
        streams.on_acked(0, 0, 5, true);
    }
    let delivered = |event: &StreamEvent| matches!(event, StreamEvent::Delivered(_));
    assert_eq!(told(&mut streams, delivered), 1);
}

#[test]
fn readable_is_told_again_only_after_a_read_was_blocked() {
    let mut streams = opened(1);
    let readable = |event: &StreamEvent| matches!(event, StreamEvent::Readable(_));
    for (at, blocked, wanted) in [(0, false, 1), (1, false, 0), (2, true, 0), (3, false, 1)] {
        assert_eq!(streams.on_stream(0, at, false, b"x"), Ok(()));
        assert_eq!(told(&mut streams, readable), wanted, "{at}");
        while blocked && streams.read(StreamId(0), 9) != Ok(Read::Blocked) {}
    }
}

#[test]
fn control_frames_wait_once_for_each_open_stream() {
    let mut streams = opened(LIMITS.streams);
    for _ in 0..3 {
        for id in 0..LIMITS.streams + 3 {
            streams.push_control(Control::MaxStreamData(id));
            streams.push_control(Control::Stop(id));
        }
    }
    assert_eq!(streams.control.len() as u64, 2 * LIMITS.streams);
    // What is over is not spoken of.
    assert_eq!(streams.on_reset(0, 1, 0), Ok(()));
    assert_eq!(streams.read(StreamId(0), 9), Ok(Read::Reset(1)));
    assert_eq!(streams.reset(StreamId(0), 1), Ok(()));
    streams.on_reset_acked(0);
    assert_eq!(streams.control.len() as u64, 2 * (LIMITS.streams - 1));
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, usize),
    Finish(u64),
    Reset(u64),
    Send(usize),
    Tail(usize),
    Ack(usize),
    Lose(usize),
    Limit(u64, u64),
    AllLimit(u64),
    End(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0..4_u64;
    prop_oneof![
        4 => (id(), 0..900_usize).prop_map(|(id, length)| Step::Write(id, length)),
        2 => id().prop_map(Step::Finish),
        1 => id().prop_map(Step::Reset),
        6 => (1..500_usize).prop_map(Step::Send),
        2 => (1..500_usize).prop_map(Step::Tail),
        4 => any::<usize>().prop_map(Step::Ack),
        3 => any::<usize>().prop_map(Step::Lose),
        1 => (id(), 0..9000_u64).prop_map(|(id, limit)| Step::Limit(id, limit)),
        1 => (0..20_000_u64).prop_map(Step::AllLimit),
        1 => id().prop_map(Step::End),
    ]
}

proptest! {
    #[test]
    fn the_totals_are_those_of_the_streams(steps in prop::collection::vec(step(), 0..200)) {
        let mut streams = opened(4);
        let mut pieces: Vec<Piece> = Vec::new();
        for step in steps {
            match step {
                Step::Write(id, length) => {
                    let _ = streams.write(StreamId(id), Bytes::from(vec![1; length]));
                }
                Step::Finish(id) => {
                    let _ = streams.finish(StreamId(id));
                }
                Step::Reset(id) => {
                    let _ = streams.reset(StreamId(id), 1);
                    streams.on_reset_acked(id);
                }
                Step::Send(most) => {
                    let could = streams.can_send();
                    let piece = streams.next_piece(|_, _| most);
                    prop_assert_eq!(piece.is_some(), could);
                    pieces.extend(piece);
                }
                Step::Tail(most) => pieces.extend(streams.tail_piece(most, 1000, 2)),
                Step::Ack(pick) if !pieces.is_empty() => {
                    let piece = pieces[pick % pieces.len()];
                    streams.on_acked(piece.id, piece.offset, piece.length as u64, piece.fin);
                }
                Step::Lose(pick) if !pieces.is_empty() => {
                    let piece = pieces[pick % pieces.len()];
                    streams.on_lost(piece.id, piece.offset, piece.length as u64, piece.fin, Why::Lost);
                }
                Step::Limit(id, limit) => {
                    let _ = streams.on_max_stream_data(id, limit);
                }
                Step::AllLimit(limit) => streams.on_max_data(limit),
                Step::End(id) => {
                    let _ = streams.on_reset(id, 1, 0);
                    let _ = streams.read(StreamId(id), 1);
                }
                Step::Ack(_) | Step::Lose(_) => {}
            }
            let loads = || streams.open.values().map(|stream| stream.sending.load());
            prop_assert_eq!(streams.held_by_all(), loads().map(|load| load.held).sum::<u64>());
            prop_assert_eq!(streams.totals.urgent, loads().filter(|load| load.urgent).count());
            prop_assert_eq!(streams.totals.fresh, loads().filter(|load| load.fresh).count());
            prop_assert_eq!(streams.totals.tails, loads().filter(|load| load.tail).count());
            prop_assert!(streams.sent <= streams.send_limit);
        }
    }
}
