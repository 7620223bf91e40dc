//! The samples of the format's page, read by the dissector.

use labnet::rudp::packet::{Cid, Hello, Parameters, Protection, Text};

use super::capture::Captured;

fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.as_chunks::<2>().0.iter();
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The samples of the format's page, for a tag's length.
pub(super) fn samples(protection: &Protection) -> Vec<(bool, Vec<u8>)> {
    let mut hello = Vec::new();
    Hello {
        cid: Cid(0x0102_0304_0506_0708),
        nonce: *b"nonce of client.",
        cookie: b"",
        parameters: Parameters {
            reset_token: Some(labnet::rudp::packet::Token::new([0xaa; 16])),
            congestion: Some(Text::new("bbr").unwrap()),
            name: Some(Text::new("Tal").unwrap()),
            ..Parameters::default()
        },
    }
    .encode(&protection.handshake_key(), &mut hello);
    let accept = "c400000001010203040506070811121314151617186e6f6e6365206f66207365
        727665722ebbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb001f010480007530020480
        1000000304801000000402406405048000ffcf060119";
    let cookie = "c10000000101020304050607086e6f6e6365206f6620636c69656e742e117365
        76656e7465656e2062797465732e2e";
    let versions = "c2010203040506070800000001f93e2860";
    let reset = "c31112131415161718bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    let [cookie_tag, accept_tag, client, server] = match protection {
        Protection::Checksum => [
            "895cb04b",
            "0c9ee636",
            "801112131415161718000000030b0000054c4953540a9c1bf244",
            "80010203040506070800400000020440fa40010001010800004f4b203020382038202d0a9f479dc5",
        ],
        Protection::Psk(_) => [
            "e2c49c39b0689fffa59dddaa007a2f65",
            "214ae0bd953b8b6ab4ce60da62e55ba8",
            "8011121314151617180000000364b403f9f3d00ebd89a73cc416386076bbc0c7cd4fc2c59d6b",
            "800102030405060708004000009afb2510658ac9c36b9ee326e9e75f945719bd
             f280efae75cf7a4de0deff5f80c9e9b0b3fdff04",
        ],
    };
    vec![
        (false, hello),
        (true, unhex(&format!("{cookie}{cookie_tag}"))),
        (true, unhex(versions)),
        (true, unhex(&format!("{accept}{accept_tag}"))),
        (false, unhex(client)),
        (true, unhex(server)),
        (true, unhex(reset)),
    ]
}

#[test]
#[ignore = "needs tshark"]
fn the_samples_of_the_format_read_as_its_page_says() {
    let secret = labnet::rudp::packet::Secret::new("correct horse battery").expect("long enough");
    for protection in [Protection::Checksum, Protection::Psk(secret)] {
        let captured = Captured::of(&samples(&protection), usize::MAX - 28);
        captured.all_well(49152);
        let one = |filter: &str, field: &str| {
            let values: Vec<String> = captured.tally(filter, field).into_keys().collect();
            values.join(" ")
        };
        assert_eq!(one("labnet", "labnet.connection"), "0");
        assert_eq!(
            one("labnet", "labnet.mode").split(' ').next(),
            Some(protection.name())
        );
        let hello = "labnet.packet == 0xc0";
        assert_eq!(one(hello, "labnet.cid.client"), "0102030405060708");
        assert_eq!(one(hello, "labnet.parameter.name"), "Tal");
        assert_eq!(one(hello, "labnet.parameter.congestion"), "bbr");
        assert_eq!(one(hello, "labnet.parameter.reset_token"), "aa".repeat(16));
        assert_eq!(one(hello, "labnet.parameter.max_udp_payload_size"), "65487");
        assert_eq!(one(hello, "labnet.parameter.max_idle_timeout"), "30000");
        let cookie = "labnet.packet == 0xc1";
        assert_eq!(
            one(cookie, "labnet.cookie"),
            "736576656e7465656e2062797465732e2e"
        );
        assert_eq!(one("labnet.packet == 0xc2", "labnet.version"), "1");
        let accept = "labnet.packet == 0xc4";
        assert_eq!(one(accept, "labnet.cid.server"), "1112131415161718");
        assert_eq!(one(accept, "labnet.token"), "bb".repeat(16));
        let (client, server) = ("labnet.number == 3", "labnet.number == 4194304");
        assert_eq!(one(client, "labnet.direction"), "0");
        assert_eq!(one(server, "labnet.direction"), "1");
        assert_eq!(captured.tshark(&["-Y", "labnet.token.wrong"]), "");
        match protection {
            Protection::Checksum => {
                assert_eq!(one("labnet", "labnet.integrity"), "0");
                assert_eq!(one(client, "labnet.question"), "LIST");
                assert_eq!(one(client, "labnet.stream.fin"), "1");
                assert_eq!(one(server, "labnet.ack.range"), "0-1 4");
                assert_eq!(one(server, "labnet.ack.delay"), "250");
                assert_eq!(one(server, "labnet.answer.length"), "8");
                assert_eq!(one(server, "labnet.stream.length"), "11");
            }
            Protection::Psk(_) => {
                assert_eq!(one("labnet.packet != 0xc2", "labnet.integrity"), "2");
                assert_eq!(one(client, "labnet.protected"), "64b403f9f3d00ebd89");
                assert_eq!(one("labnet", "labnet.frame"), "");
            }
        }
    }
}
