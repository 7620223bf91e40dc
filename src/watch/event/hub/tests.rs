use super::{
    super::packet::{Again, Label},
    *,
};

/// The hub is the process's: each test has a port of its own.
fn place(port: u16, protocol: Protocol) -> Place {
    Place {
        label: Label::new(Role::Rudp, protocol),
        carrier: Carrier::Udp,
        local: ([127, 0, 0, 1], port).into(),
        remote: ([127, 0, 0, 2], port).into(),
    }
}

fn wants(place: &Place) -> Wants {
    Wants {
        peers: BTreeSet::from([place.remote]),
        ..Wants::default()
    }
}

fn read(subscription: &Subscription) -> Vec<(Fate, Vec<u8>, usize)> {
    let mut batch = Batch::default();
    subscription.read(&mut batch, Duration::ZERO);
    let packets = batch.packets();
    packets
        .map(|packet| (packet.fate, packet.payload.to_vec(), packet.length))
        .collect()
}

#[test]
fn all_observers_see_what_passed_in_the_order_of_causes_and_nothing_else() {
    let place = place(1, Protocol::Rudp);
    let (one, two) = (subscribe(wants(&place)), subscribe(wants(&place)));
    assert!(watched());
    let question = announce(&place, Fate::Sent, b"onetwo!", 3).expect("watched");
    // The answer is there before the sender's system call returns.
    raise(&place, Fate::Received, b"");
    question.passed();
    drop(announce(&place, Fate::Sent, b"refused by the kernel", 99));
    let again = Fate::SentAgain(Again::Unanswered);
    let partly = announce(&place, again, b"partly", 99).expect("watched");
    partly.passed_partly(4);
    for observer in [one, two] {
        assert_eq!(
            read(&observer),
            [
                (Fate::Sent, b"one".to_vec(), 3),
                (Fate::Sent, b"two".to_vec(), 3),
                (Fate::Sent, b"!".to_vec(), 1),
                (Fate::Received, Vec::new(), 0),
                (again, b"part".to_vec(), 4),
            ]
        );
        assert_eq!(observer.lost(), Lost::default());
    }
}

#[test]
fn a_batch_waits_for_what_is_announced_in_it_and_not_for_what_comes_after() {
    let place = place(2, Protocol::Rudp);
    let observer = subscribe(wants(&place));
    let announced = announce(&place, Fate::Sent, b"slow", 9).expect("watched");
    let (read, later) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut batch = Batch::default();
            assert!(observer.read(&mut batch, Duration::from_secs(60)));
            batch
                .packets()
                .map(|p| p.payload.to_vec())
                .collect::<Vec<_>>()
        });
        while observer.batches() == 0 {
            std::thread::yield_now();
        }
        let later = announce(&place, Fate::Sent, b"later", 9).expect("watched");
        announced.passed();
        (reader.join().expect("read"), later)
    });
    assert_eq!(read, [b"slow"]);
    later.passed();
    assert_eq!(self::read(&observer), [(Fate::Sent, b"later".to_vec(), 5)]);
}

#[test]
fn a_slow_observer_loses_events_and_counts_them() {
    let place = place(3, Protocol::Dns);
    let observer = subscribe(Wants {
        queue_bytes: 10_000,
        ..wants(&place)
    });
    for _ in 0..100 {
        raise(&place, Fate::Received, &[7; 1000]);
    }
    let kept = read(&observer).len() as u64;
    assert!((5..10).contains(&kept), "{kept}");
    assert_eq!(observer.lost().packets, 100 - kept);
    assert_eq!(observer.lost().sum(), 100 - kept);
    // There is room again.
    raise(&place, Fate::Received, b"now");
    assert_eq!(read(&observer).len(), 1);
}

#[test]
fn data_is_cut_and_messages_are_kept() {
    let (rudp, http) = (place(4, Protocol::Rudp), place(4, Protocol::Http));
    let observer = subscribe(Wants {
        data_bytes: 4,
        message_bytes: 100,
        ..wants(&rudp)
    });
    raise(&rudp, Fate::Received, b"SIGNECHO:290;0");
    raise(&rudp, Fate::Received, &[0x80; 1200]);
    raise(&http, Fate::Received, b"PK\x03\x04 a file");
    let head: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    let parts = [IoSlice::new(head), IoSlice::new(&[7; 900])];
    announce_write(&http, &parts).expect("watched").passed();
    let kept: Vec<(usize, usize)> = read(&observer)
        .into_iter()
        .map(|(_, payload, length)| (payload.len(), length))
        .collect();
    assert_eq!(kept, [(14, 14), (4, 1200), (4, 11), (100, 919)]);
}

#[test]
fn who_closes_reads_what_is_there_and_hears_no_more() {
    let place = place(5, Protocol::Rudp);
    let observer = subscribe(wants(&place));
    raise(&place, Fate::Received, b"before");
    observer.closer().close();
    raise(&place, Fate::Received, b"after");
    assert_eq!(read(&observer), [(Fate::Received, b"before".to_vec(), 6)]);
    assert!(observer.is_closed());
    assert!(!observer.read(&mut Batch::default(), Duration::from_secs(60)));
}

#[test]
fn an_observer_has_only_the_roles_that_it_wants() {
    let place = place(6, Protocol::Rudp);
    let of = |role| {
        subscribe(Wants {
            roles: BTreeSet::from([role]),
            ..wants(&place)
        })
    };
    let (rudp, dhcp) = (of(Role::Rudp), of(Role::Dhcp));
    raise(&place, Fate::Received, b"hello");
    assert_eq!((read(&rudp).len(), read(&dhcp).len()), (1, 0));
}
