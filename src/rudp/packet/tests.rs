use std::{sync::LazyLock, time::Duration};

use proptest::prelude::*;

use super::{
    frame::{Stream, encode_ack, encode_stream_header},
    protection::{EPOCH_PACKETS, crc32c},
    *,
};

const CLIENT: Cid = Cid(0x0102_0304_0506_0708);
const SERVER: Cid = Cid(0x1112_1314_1516_1718);
const CLIENT_NONCE: Nonce = *b"nonce of client.";
const SERVER_NONCE: Nonce = *b"nonce of server.";

static SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("correct horse battery").expect("long enough"));

fn protections() -> [Protection; 2] {
    [Protection::Checksum, Protection::Psk(SECRET.clone())]
}

fn agreement() -> Agreement {
    Agreement {
        client: CLIENT,
        server: SERVER,
        client_nonce: CLIENT_NONCE,
        server_nonce: SERVER_NONCE,
    }
}

fn both(protection: &Protection) -> (Keys, Keys) {
    (
        protection.keys(Side::Client, &agreement()),
        protection.keys(Side::Server, &agreement()),
    )
}

fn hello() -> Hello<'static> {
    Hello {
        cid: CLIENT,
        nonce: CLIENT_NONCE,
        cookie: b"",
        parameters: Parameters {
            reset_token: Some(Token::new([0xaa; 16])),
            congestion: Some(Text::new("bbr").unwrap()),
            name: Some(Text::new("Tal").unwrap()),
            ..Parameters::default()
        },
    }
}

fn accept() -> Accept {
    Accept {
        destination: CLIENT,
        cid: SERVER,
        nonce: SERVER_NONCE,
        reset_token: Token::new([0xbb; 16]),
        parameters: Parameters::default(),
    }
}

fn reply() -> CookieReply<'static> {
    CookieReply {
        destination: CLIENT,
        nonce: CLIENT_NONCE,
        cookie: b"seventeen bytes..",
    }
}

fn bytes(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

fn data(keys: &mut Keys, destination: Cid, number: u64, frames: &[u8]) -> Vec<u8> {
    bytes(|out| {
        encode_data_header(destination, number, out);
        out.extend_from_slice(frames);
        keys.seal(out, 0, number);
    })
}

fn question() -> Vec<u8> {
    bytes(|out| {
        Frame::Stream(Stream {
            id: 0,
            offset: 0,
            fin: true,
            data: b"LIST\n",
        })
        .encode(out);
    })
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (16 * pair[0] + pair[1]) as u8)
        .collect()
}

/// Whatever `datagram` is, as many readers as there are take it for what it is, or refuse it.
fn open_as_all(datagram: &[u8], protection: &Protection) -> Vec<Result<(), OpenError>> {
    let key = protection.handshake_key();
    let (_, mut server) = both(protection);
    vec![
        Hello::open(datagram, &key).map(|_| ()),
        CookieReply::open(datagram, &key).map(|_| ()),
        Accept::open(datagram, &key).map(|_| ()),
        Versions::open(datagram).map(|_| ()),
        server.open(&mut datagram.to_vec(), 0).map(|_| ()),
    ]
}

/// One of each type that has a tag.
fn one_of_each(protection: &Protection) -> Vec<Vec<u8>> {
    let key = protection.handshake_key();
    let (mut client, _) = both(protection);
    vec![
        bytes(|out| hello().encode(&key, out)),
        bytes(|out| reply().encode(&key, out)),
        bytes(|out| accept().encode(&key, out)),
        bytes(|out| Versions::encode(CLIENT, &[VERSION, 7], out)),
        data(&mut client, SERVER, 3, &question()),
    ]
}

#[test]
fn every_packet_is_taken_for_what_it_is_and_nothing_else() {
    for protection in protections() {
        for (index, packet) in one_of_each(&protection).iter().enumerate() {
            for (reader, opened) in open_as_all(packet, &protection).iter().enumerate() {
                assert_eq!(opened.is_ok(), reader == index, "{index} {opened:?}");
            }
        }
    }
}

#[test]
fn headers_tell_type_and_connection_id() {
    let expected = [
        (PacketType::Hello, CLIENT, Some(1)),
        (PacketType::Cookie, CLIENT, Some(1)),
        (PacketType::Accept, CLIENT, Some(1)),
        (PacketType::Versions, CLIENT, None),
        (PacketType::Data, SERVER, None),
    ];
    for protection in protections() {
        for (datagram, (packet, cid, version)) in one_of_each(&protection).iter().zip(expected) {
            let header = Header {
                packet,
                cid,
                version,
            };
            assert_eq!(Header::parse(datagram), Ok(header));
        }
    }
}

#[test]
fn handshake_packets_come_back_as_they_went() {
    for protection in protections() {
        let key = protection.handshake_key();
        let packets = one_of_each(&protection);
        assert_eq!(packets[0].len(), MIN_HELLO);
        assert_eq!(Hello::open(&packets[0], &key), Ok(hello()));
        assert_eq!(CookieReply::open(&packets[1], &key), Ok(reply()));
        assert_eq!(Accept::open(&packets[2], &key), Ok(accept()));
        let versions = Versions::open(&packets[3]).unwrap();
        assert_eq!(versions.destination, CLIENT);
        assert_eq!(versions.iter().collect::<Vec<_>>(), [VERSION, 7]);
    }
}

#[test]
fn every_packet_cut_short_is_refused() {
    for protection in protections() {
        for packet in one_of_each(&protection) {
            for end in 0..packet.len() {
                let opened = open_as_all(&packet[..end], &protection);
                assert!(opened.iter().all(Result::is_err), "{end} of {packet:?}");
            }
        }
    }
    let reset = bytes(|out| {
        Reset {
            unknown: CLIENT,
            token: Token::new([1; 16]),
        }
        .encode(out);
    });
    for end in 0..reset.len() {
        assert!(Reset::parse(&reset[..end]).is_err());
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for protection in protections() {
        for mut packet in one_of_each(&protection) {
            for bit in 0..8 * packet.len() {
                packet[bit / 8] ^= 1 << (bit % 8);
                let opened = open_as_all(&packet, &protection);
                assert!(opened.iter().all(Result::is_err), "bit {bit}");
                packet[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn the_checksum_is_the_one_defined_at_any_length_and_in_any_parts() {
    let defined = |bytes: &[u8]| {
        !bytes.iter().fold(!0_u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
            })
        })
    };
    assert_eq!(defined(b"123456789"), 0xe306_9283);
    let bytes: Vec<u8> = (0..3000_u32).map(|n| (n * n / 7) as u8).collect();
    for length in (0..600).chain([1200, 1447, 1448, 1452, 2999]) {
        let (first, second) = bytes[..length].split_at(length / 3);
        assert_eq!(crc32c(0, &bytes[..length]), defined(&bytes[..length]));
        assert_eq!(crc32c(crc32c(0, first), second), defined(&bytes[..length]));
    }
}

#[test]
fn what_follows_the_last_field_is_refused_even_with_a_right_tag() {
    for protection in protections() {
        let key = protection.handshake_key();
        for mut packet in one_of_each(&protection).drain(1..3) {
            packet.truncate(packet.len() - key.tag_len());
            packet.push(0);
            key.seal(&mut packet, 0);
            let opened = open_as_all(&packet, &protection);
            assert!(
                opened.contains(&Err(OpenError::Malformed(Malformed::Leftover))),
                "{opened:?}"
            );
        }
    }
}

#[test]
fn the_modes_do_not_understand_each_other() {
    let [checksum, psk] = protections();
    let other = Protection::Psk(Secret::new("another passphrase").unwrap());
    for (ours, theirs) in [(&checksum, &psk), (&psk, &checksum), (&psk, &other)] {
        for (index, packet) in one_of_each(ours).iter().enumerate() {
            let opened = open_as_all(packet, theirs);
            // A VERSIONS has a checksum in every mode.
            assert_eq!(opened.iter().any(Result::is_ok), index == 3);
        }
    }
}

#[test]
fn another_version_is_told_before_its_tag_is_looked_at() {
    let mut packet = bytes(|out| hello().encode(&HandshakeKey::Checksum, out));
    packet[4] = 2;
    assert_eq!(Header::parse(&packet).unwrap().version, Some(2));
    assert_eq!(
        Hello::open(&packet, &HandshakeKey::Checksum),
        Err(OpenError::Malformed(Malformed::Version(2)))
    );
}

#[test]
fn only_these_bytes_begin_a_packet() {
    for first in 0..=u8::MAX {
        let mut datagram = [0; 32];
        datagram[0] = first;
        let known = matches!(first, 0x80 | 0xc0..=0xc4);
        assert_eq!(Header::parse(&datagram).is_ok(), known, "{first:#x}");
    }
}

#[test]
fn replies_to_an_unproven_address_are_small() {
    for protection in protections() {
        let key = protection.handshake_key();
        let longest = CookieReply {
            cookie: &[7; MAX_COOKIE],
            ..reply()
        };
        let cookie = bytes(|out| longest.encode(&key, out));
        let versions = bytes(|out| Versions::encode(CLIENT, &[1; 100], out));
        assert_eq!(
            Versions::open(&versions).unwrap().iter().count(),
            MAX_VERSIONS
        );
        for reply in [cookie, versions] {
            assert!(reply.len() <= MAX_AMPLIFICATION * MIN_HELLO);
        }
    }
}

#[test]
fn a_reset_carries_its_token() {
    let reset = Reset {
        unknown: SERVER,
        token: Token::new(*b"sixteen bytes..."),
    };
    let mut packet = bytes(|out| reset.encode(out));
    assert_eq!(packet.len(), RESET_LEN);
    assert_eq!(Reset::parse(&packet), Ok(reset));
    for bit in 8 * 9..8 * packet.len() {
        packet[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(Reset::parse(&packet).unwrap().token, reset.token);
        packet[bit / 8] ^= 1 << (bit % 8);
    }
    packet.push(0);
    assert_eq!(Reset::parse(&packet), Err(Malformed::Leftover));
}

#[test]
fn data_is_sealed_where_it_lies_in_a_train_of_packets() {
    for protection in protections() {
        let (mut client, mut server) = both(&protection);
        let frames = question();
        let mut train = Vec::new();
        let mut ends = Vec::new();
        for number in 0..3 {
            let start = train.len();
            encode_data_header(SERVER, number, &mut train);
            train.extend_from_slice(&frames);
            client.seal(&mut train, start, number);
            ends.push(train.len());
        }
        let len = ends[0];
        assert_eq!(len, DATA_HEADER + frames.len() + protection.tag_len());
        for (number, packet) in train.chunks_mut(len).enumerate() {
            let opened = server.open(packet, number as u64).unwrap();
            assert_eq!(opened.number, number as u64);
            assert_eq!(packet[opened.payload], frames);
        }
    }
}

#[test]
fn data_without_a_frame_is_refused() {
    for protection in protections() {
        let (mut client, mut server) = both(&protection);
        let mut packet = data(&mut client, SERVER, 0, b"");
        assert_eq!(
            server.open(&mut packet, 0),
            Err(OpenError::Malformed(Malformed::Empty))
        );
    }
}

#[test]
fn the_secret_hides_what_the_checksum_shows() {
    let [checksum, psk] = protections();
    let shows = |protection: &Protection| {
        let packet = data(&mut both(protection).0, SERVER, 0, &question());
        packet.windows(5).any(|window| window == b"LIST\n")
    };
    assert!(shows(&checksum) && !shows(&psk));
}

#[test]
fn each_direction_and_each_connection_has_its_own_keys() {
    let psk = Protection::Psk(SECRET.clone());
    let (mut client, mut server) = both(&psk);
    let packet = data(&mut client, SERVER, 0, &question());
    // Sent back to its sender, it is not taken.
    assert_eq!(
        client.open(&mut packet.clone(), 0),
        Err(OpenError::Integrity)
    );
    assert_eq!(client.failures(), 1);
    assert!(server.open(&mut packet.clone(), 0).is_ok());

    let base = agreement();
    let others = [
        Agreement {
            client: Cid(1),
            ..base
        },
        Agreement {
            server: Cid(1),
            ..base
        },
        Agreement {
            client_nonce: [0; 16],
            ..base
        },
        Agreement {
            server_nonce: [0; 16],
            ..base
        },
    ];
    for other in others {
        let mut keys = psk.keys(Side::Server, &other);
        assert_eq!(keys.open(&mut packet.clone(), 0), Err(OpenError::Integrity));
    }
}

#[test]
fn the_whole_packet_number_is_part_of_what_is_proven() {
    let (mut client, mut server) = both(&Protection::Psk(SECRET.clone()));
    let packet = data(&mut client, SERVER, 5, &question());
    // The same low bits, but expanded to a number that another packet has.
    assert_eq!(
        server.open(&mut packet.clone(), 1 << 32),
        Err(OpenError::Integrity)
    );
    assert_eq!(server.open(&mut packet.clone(), 0).unwrap().number, 5);
}

#[test]
fn keys_change_with_the_epoch_and_the_one_before_stays_good() {
    let (mut client, mut server) = both(&Protection::Psk(SECRET.clone()));
    let frames = question();
    let mut packet = |number| data(&mut client, SERVER, number, &frames);
    let early = packet(EPOCH_PACKETS - 2);
    let last = packet(EPOCH_PACKETS - 1);
    let first = packet(EPOCH_PACKETS);
    let mut forged = packet(EPOCH_PACKETS + 1);
    let next = packet(2 * EPOCH_PACKETS);
    assert_ne!(last[DATA_HEADER..], first[DATA_HEADER..]);

    let mut open = |packet: &[u8], expected| {
        let opened = server.open(&mut packet.to_vec(), expected);
        opened.map(|opened| opened.number)
    };
    // A forged packet of the next epoch does not begin it.
    forged[20] ^= 1;
    assert_eq!(open(&forged, EPOCH_PACKETS), Err(OpenError::Integrity));
    assert_eq!(open(&last, 0), Ok(EPOCH_PACKETS - 1));
    assert_eq!(open(&first, EPOCH_PACKETS), Ok(EPOCH_PACKETS));
    // One that was overtaken.
    assert_eq!(open(&early, EPOCH_PACKETS + 1), Ok(EPOCH_PACKETS - 2));
    assert_eq!(open(&next, EPOCH_PACKETS + 1), Ok(2 * EPOCH_PACKETS));
    // Two epochs back: its key is gone.
    assert_eq!(
        open(&early, 2 * EPOCH_PACKETS + 1),
        Err(OpenError::Integrity)
    );
    assert_eq!(open(&first, 2 * EPOCH_PACKETS + 1), Ok(EPOCH_PACKETS));
}

#[test]
fn a_short_passphrase_is_refused_and_a_secret_is_not_shown() {
    assert!(Secret::new("fifteen letters").is_err());
    assert!(Secret::new("sixteen letters!").is_ok());
    let shown = format!("{:?} {:?}", *SECRET, Protection::Psk(SECRET.clone()));
    assert_eq!(shown, "Secret(..) Psk(Secret(..))");
}

proptest! {
    #[test]
    fn packet_numbers_are_found_again_within_half_the_window(
        expected in 0..MAX_NUMBER / 2,
        distance in -0x7fff_ffff..=0x7fff_ffffi64,
    ) {
        if let Some(number) = expected.checked_add_signed(distance) {
            prop_assert_eq!(expand(expected, number as u32), number);
        }
    }

    #[test]
    fn any_numbers_expand_to_one_with_these_low_bits(expected: u64, truncated: u32) {
        prop_assert_eq!(expand(expected, truncated) as u32, truncated);
    }

    #[test]
    fn any_bytes_are_refused(
        first in prop_oneof![Just(0x80u8), 0xc0..=0xc4u8],
        rest in proptest::collection::vec(any::<u8>(), 0..1400),
    ) {
        let datagram = [&[first], &rest[..]].concat();
        for protection in protections() {
            prop_assert!(open_as_all(&datagram, &protection).iter().all(Result::is_err));
        }
        let _ = (Header::parse(&datagram), Reset::parse(&datagram));
    }

    /// With a right tag every byte behind it is read.
    #[test]
    fn any_fields_under_a_right_tag_are_read_or_malformed(
        first in 0xc0..=0xc4u8,
        rest in proptest::collection::vec(any::<u8>(), 0..100),
        fill in 0..=u8::MAX,
    ) {
        let mut datagram = vec![first, 0, 0, 0, 1];
        datagram.extend(rest);
        if first == HELLO {
            datagram.resize(MIN_HELLO, fill);
        }
        HandshakeKey::Checksum.seal(&mut datagram, 0);
        for opened in open_as_all(&datagram, &Protection::Checksum) {
            prop_assert_ne!(opened, Err(OpenError::Integrity));
        }
    }

    #[test]
    fn data_comes_back_as_it_went(
        number in 0..MAX_NUMBER / 2,
        frames in proptest::collection::vec(any::<u8>(), 1..1500),
    ) {
        for protection in protections() {
            let (mut client, mut server) = both(&protection);
            // To be in the epoch that the receiver is in.
            let psk = protection != Protection::Checksum;
            let number = if psk { number % EPOCH_PACKETS } else { number };
            let mut packet = data(&mut client, SERVER, number, &frames);
            let opened = server.open(&mut packet, number).unwrap();
            prop_assert_eq!(opened.number, number);
            prop_assert_eq!(&packet[opened.payload], &frames[..]);
        }
    }
}

/// The packets that the module's documentation shows.
mod vectors {
    use super::*;

    fn shown(protection: &Protection) -> Vec<Vec<u8>> {
        let key = protection.handshake_key();
        let (mut client, mut server) = both(protection);
        let answer = bytes(|out| {
            encode_ack([4..=4, 0..=1], Duration::from_micros(250), None, 100, out);
            encode_stream_header(0, 0, None, false, out);
            out.extend_from_slice(b"OK 0 8 8 -\n");
        });
        vec![
            bytes(|out| hello().encode(&key, out)),
            bytes(|out| accept().encode(&key, out)),
            data(&mut client, SERVER, 3, &question()),
            data(&mut server, CLIENT, EPOCH_PACKETS, &answer),
        ]
    }

    /// That `packet` is `before`, perhaps zeros, `tag`.
    fn check(packet: &[u8], before: &str, tag: &str) {
        let (before, tag) = (hex(before), hex(tag));
        let zeros = packet.len() - before.len() - tag.len();
        assert_eq!(packet[..before.len()], before);
        assert_eq!(packet[before.len()..][..zeros], vec![0; zeros]);
        assert_eq!(packet[packet.len() - tag.len()..], tag);
    }

    const HELLO: &str = "
        c00000000101020304050607086e6f6e6365206f6620636c69656e742e00003b
        0104800075300204801000000304801000000402406405048000ffcf06011907
        10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0803626272090354616c";
    const ACCEPT: &str = "
        c400000001010203040506070811121314151617186e6f6e6365206f66207365
        727665722ebbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb001f010480007530020480
        1000000304801000000402406405048000ffcf060119";

    const COOKIE: &str = "
        c10000000101020304050607086e6f6e6365206f6620636c69656e742e117365
        76656e7465656e2062797465732e2e";

    #[test]
    fn stateless_packets_are_as_shown() {
        let tags = ["895cb04b", "e2c49c39b0689fffa59dddaa007a2f65"];
        for (protection, tag) in protections().iter().zip(tags) {
            let key = protection.handshake_key();
            check(&bytes(|out| reply().encode(&key, out)), COOKIE, tag);
        }
        let versions = bytes(|out| Versions::encode(CLIENT, &[VERSION], out));
        check(&versions, "c2010203040506070800000001", "f93e2860");
        let (unknown, token) = (SERVER, Token::new([0xbb; 16]));
        let reset = bytes(|out| Reset { unknown, token }.encode(out));
        check(&reset, "c31112131415161718", &"bb".repeat(16));
    }

    #[test]
    fn packets_under_the_checksum_are_as_shown() {
        let packets = shown(&Protection::Checksum);
        check(&packets[0], HELLO, "415dbf59");
        check(&packets[1], ACCEPT, "0c9ee636");
        check(
            &packets[2],
            "801112131415161718000000030b0000054c4953540a",
            "9c1bf244",
        );
        let answer = "
            80010203040506070800400000020440fa40010001010800004f4b2030203820
            38202d0a";
        check(&packets[3], answer, "9f479dc5");
    }

    #[test]
    fn packets_under_the_secret_are_as_shown() {
        let secret = "f0f23e72bdfd049661076eca73f32b5807bc3d6419e5facb5f3d469788216ffc";
        assert_eq!(SECRET.0[..], hex(secret));
        let packets = shown(&Protection::Psk(SECRET.clone()));
        check(&packets[0], HELLO, "13e0ae41984869a26f19f8729473f150");
        check(&packets[1], ACCEPT, "214ae0bd953b8b6ab4ce60da62e55ba8");
        let question = "
            8011121314151617180000000364b403f9f3d00ebd89a73cc416386076bbc0c7
            cd4fc2c59d6b";
        check(&packets[2], question, "");
        let answer = "
            800102030405060708004000009afb2510658ac9c36b9ee326e9e75f945719bd
            f280efae75cf7a4de0deff5f80c9e9b0b3fdff04";
        check(&packets[3], answer, "");
    }
}
