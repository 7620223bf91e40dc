//! The binary format of the RUDP transport, version 1.
//!
//! This page is the specification: a second implementation can be written from it alone. The words
//! MUST, SHOULD and MAY are those of RFC 2119. Where it names a section of an RFC, that section is
//! part of it. What streams carry is in [`exchange`](crate::rudp::exchange).
//!
//! # Conventions
//!
//! - One UDP datagram is one packet. A packet's first byte has its high bit set; the text
//!   protocol's ([`signal`](crate::rudp::signal)) never has: both share a port.
//! - Integers are unsigned and big-endian. A number in parentheses behind a field is its length in
//!   bytes.
//! - **varint**: RFC 9000 section 16: the two high bits of the first byte tell the length (1, 2, 4
//!   or 8), the others are the value, below 2^62. A reader takes longer forms than needed, too.
//! - **CID**: connection id, 8 random bytes. Each side chooses its own, and the other side writes
//!   it as destination into every packet. It stays when the address changes.
//! - **client**: who sends the first packet. **server**: who answers it.
//!
//! # Packets
//!
//! | first byte | name | direction | integrity |
//! |---|---|---|---|
//! | 0x80 | DATA | both | tag |
//! | 0xC0 | HELLO | client to server | tag |
//! | 0xC1 | COOKIE | server to client, stateless | tag |
//! | 0xC2 | VERSIONS | server to client, stateless | CRC32C in every mode |
//! | 0xC3 | RESET | both, stateless | its token |
//! | 0xC4 | ACCEPT | server to client | tag |
//!
//! All other first bytes from 0x80 on are malformed. A packet that is malformed, of a wrong tag, or
//! for an unknown connection is dropped; it changes nothing, it is at most counted. The one
//! exception: frames are looked at only in a packet whose tag is right, so malformed frames are the
//! peer's fault and close the connection.
//!
//! ```text
//! HELLO     0xC0 (1) | version (4) | client CID (8) | client nonce (16)
//!           | cookie length (1) | cookie | parameters length (2) | parameters
//!           | padding, zeros | tag
//!           padded so that the whole is at least 1200 bytes; a shorter one is malformed
//!
//! COOKIE    0xC1 (1) | version (4) | client CID (8) | client nonce (16)
//!           | cookie length (1), not 0 | cookie | tag
//!
//! ACCEPT    0xC4 (1) | version (4) | client CID (8) | server CID (8) | server nonce (16)
//!           | reset token (16) | parameters length (2) | parameters | tag
//!
//! VERSIONS  0xC2 (1) | client CID (8) | version (4), 1 to 16 of them
//!           | CRC32C (4) of everything before it, from the 0xC2 on
//!
//! RESET     0xC3 (1) | CID that is unknown (8) | token (16)                    25 bytes in all
//!
//! DATA      0x80 (1) | destination CID (8) | low 32 bits of the packet number (4)
//!           | frames, at least one | tag
//! ```
//!
//! Nothing may stand between the last field and the tag, but for a HELLO's padding, which is not
//! looked at. The first 13 bytes of a HELLO (0xC0, version, CID) and the layout of VERSIONS are the
//! same in all versions to come.
//!
//! # Handshake
//!
//! ```text
//! client                                                   server
//!   | HELLO, no cookie, 1200 bytes                            |
//!   |-------------------------------------------------------->| keeps nothing
//!   |                          COOKIE: client's nonce, cookie |
//!   |<--------------------------------------------------------|
//!   | HELLO, the same CID, nonce and parameters, the cookie   |
//!   |-------------------------------------------------------->| checks the cookie, makes the
//!   |                                                         | connection
//!   |     ACCEPT: server's CID, nonce, reset token, parameters|
//!   |<--------------------------------------------------------|
//!   | DATA                                                    |
//!   |-------------------------------------------------------->| the handshake is confirmed
//!   |                                                    DATA |
//!   |<------------------------------------------------------->|
//! ```
//!
//! 1. The client chooses a CID and a nonce, random, new for each connection, and sends HELLO. It
//!    repeats it while no answer comes, no sooner than after 300 ms, then after twice as long each
//!    time until it is 3 s, and SHOULD give up after 30 s.
//! 2. A server that does not speak the version answers VERSIONS (only to a packet of at least 1200
//!    bytes; it does not look at the tag, which may be another in that version).
//! 3. A server that finds no cookie, or one that is out of date, answers COOKIE. Until a good
//!    cookie comes it MUST keep nothing of the client. A cookie that is forged is dropped.
//! 4. The client takes a COOKIE only for its CID and its nonce, and sends HELLO again with the
//!    cookie in it. It MAY take another COOKIE, if the first went out of date or its address has
//!    changed; it SHOULD take no more than 8.
//! 5. With a good cookie the server chooses its CID and nonce, makes the connection and answers
//!    ACCEPT. A HELLO that comes again from the same address with the same client CID makes
//!    nothing; with the same nonce, too, it gets the same ACCEPT again until the connection is
//!    confirmed. A server that is full SHOULD answer ACCEPT and, at once, CLOSE with
//!    CONNECTION_REFUSED, keep nothing, and be limited in how often it does so.
//! 6. The client takes the first ACCEPT and ignores later ones. It sends DATA at once: at least one
//!    ack-eliciting packet (a PING if there is nothing else), so that the server knows. The round
//!    trip from the last HELLO to ACCEPT is the first sample of the round-trip time, if that HELLO
//!    was sent once only.
//! 7. Until it has opened a DATA packet of the client, the server SHOULD send no more DATA than a
//!    PING, whose acknowledgement is its first sample of the round-trip time, and the probes that
//!    repeat it. A client that has no ACCEPT yet drops DATA. The server SHOULD forget a connection
//!    that is not confirmed within 10 s.
//! 8. A client gives up on VERSIONS only if it came for its CID while it has no cookie, and its own
//!    version is not in the list; it MAY try a version that is. VERSIONS is not proven even under a
//!    secret: who is on the path can end an attempt with it, as it can by dropping packets.
//!
//! **Amplification.** A reply to an address that is not proven is never more than 3 times as long
//! as what it answers: COOKIE and VERSIONS are far below. The cookie proves the address of the
//! handshake. An address that a client moves to is proven by PATH_CHALLENGE; until then no more
//! than 3 times the bytes received from it may be sent to it.
//!
//! **Cookie.** Its content is the server's affair; 1 to 255 bytes. This server's: the low byte of
//! the epoch (the machine's time since its start in seconds / 60), then 16 bytes of HMAC-SHA256(epoch key, client's IPv6 or
//! IPv4-mapped address (16), port (2), CID (8), nonce (16)), where epoch key = HMAC-SHA256(cookie
//! key, epoch (8)). It is good in its epoch and the next. All shards of a server share the key. See
//! [`cookie`].
//!
//! # Transport parameters
//!
//! A sequence of { id (varint), length (varint), value }. Values are one varint that fills the
//! length, unless said otherwise. An unknown id is skipped, so that ids can be added, and a sender
//! MAY add unknown ones (greasing). A known id that is there twice, a value out of range or of the
//! wrong length: the packet is malformed.
//!
//! | id | name | value | default |
//! |---|---|---|---|
//! | 0x01 | max_idle_timeout | ms, 1000 to 86,400,000; the lesser of both sides' counts | 30,000 |
//! | 0x02 | initial_max_data | bytes that the receiver of this may send over all streams | 1,048,576 |
//! | 0x03 | initial_max_stream_data | bytes that it may send on each stream | 1,048,576 |
//! | 0x04 | initial_max_streams | streams that it may open; said by a client it means nothing | 100 |
//! | 0x05 | max_udp_payload_size | largest datagram the sender of this takes, 1200 to 65,487 | 65,487 |
//! | 0x06 | max_ack_delay | ms, at most 16,383 | 25 |
//! | 0x07 | reset_token | 16 bytes: what a RESET for the client's CID carries; client only | none |
//! | 0x08 | congestion | 1 to 64 bytes of printable ASCII without `;`: the congestion control that the server should send with; an unknown name is as none; client only | none |
//! | 0x09 | name | as 0x08: the client's name; client only | none |
//!
//! A server's parameters MUST NOT be used for anything that is the client's only; they are skipped.
//!
//! # DATA
//!
//! **Packet numbers.** Each side numbers its DATA packets from 0, each one higher than the one
//! before. A number is never used twice; what is lost is sent again in a new packet. A sender
//! SHOULD leave out a number now and then and close the connection (PROTOCOL_VIOLATION) if it is
//! acknowledged, as it must for any number that it has not sent yet. The last number is 2^62 - 1:
//! close before.
//!
//! The low 32 bits travel. The receiver takes the number with these low bits that is nearest to the
//! largest one opened so far plus one (RFC 9000 appendix A.3 with 32 bits): with `e` that expected
//! number, `c = (e and not 0xffffffff) or low`; if `c + 2^31 <= e`, add 2^32; if `c > e + 2^31` and
//! `c >= 2^32`, subtract 2^32.
//!
//! **Replay.** A receiver MUST NOT process a number twice. It keeps the numbers received as ranges,
//! or treats all below some number as received.
//!
//! **Size.** At most the receiver's max_udp_payload_size. Every path must carry 1200 bytes; a
//! sender goes beyond only after a probe (PING and PADDING of that size) was acknowledged, with the
//! don't-fragment bit set (RFC 8899), and goes back to 1200 if larger ones are lost and small ones
//! are not.
//!
//! # Frames
//!
//! A type (1), then fields that are varints unless a length is given.
//!
//! | type | name | fields |
//! |---|---|---|
//! | 0x00 | PADDING | |
//! | 0x01 | PING | |
//! | 0x02 | ACK | largest, delay in microseconds, count, first, then count times { gap, length } |
//! | 0x03 | ACK_ECN | those of ACK, then packets received with ECT(0), ECT(1), CE |
//! | 0x04 | RESET_STREAM | stream id, error code, final size |
//! | 0x05 | STOP_SENDING | stream id, error code |
//! | 0x08-0x0B | STREAM | stream id, offset, length if bit 0x02 of the type is set, data; bit 0x01: FIN |
//! | 0x10 | MAX_DATA | limit |
//! | 0x11 | MAX_STREAM_DATA | stream id, limit |
//! | 0x12 | MAX_STREAMS | limit |
//! | 0x14 | DATA_BLOCKED | limit |
//! | 0x15 | STREAM_DATA_BLOCKED | stream id, limit |
//! | 0x1A | PATH_CHALLENGE | data (8) |
//! | 0x1B | PATH_RESPONSE | data (8) |
//! | 0x1C | CLOSE | error code, length, reason in UTF-8 (at most 256 bytes are sent) |
//! | 0x1F | ACK_FREQUENCY | sequence, packets, longest delay in microseconds |
//!
//! A frame that is unknown or malformed closes the connection with FRAME_ENCODING_ERROR.
//!
//! - **Ack-eliciting**: all but PADDING, ACK, ACK_ECN and CLOSE. A packet with such a frame MUST be
//!   acknowledged.
//! - **ACK**: RFC 9000 section 19.3. The first range is largest - first ..= largest. Each further
//!   one: its largest is the smallest of the one before - gap - 2, its smallest is that - length. A
//!   number below 0 is malformed. The delay is how long the receiver held back the acknowledgement
//!   of `largest`; the sender of packets takes no more of it than the peer's max_ack_delay. A
//!   receiver acknowledges at once at least every second ack-eliciting packet, one out of order and
//!   one that is marked CE, and any other within its max_ack_delay, unless ACK_FREQUENCY asks
//!   otherwise; the first few of a connection it SHOULD acknowledge one by one. The counts of
//!   ACK_ECN are over all addresses, from the connection's start. A packet holds one ACK or ACK_ECN
//!   at most, or it is a PROTOCOL_VIOLATION: each costs its receiver a look at all that is under way.
//! - **ACK_FREQUENCY**: as in draft-ietf-quic-ack-frequency: acknowledge after `packets`
//!   ack-eliciting packets (taken as 1 to 1024), or after the delay, but not after the receiver's
//!   own max_ack_delay. One whose sequence is not above the highest seen is ignored.
//! - **Streams**: both directions, opened by the client only, ids 0, 1, 2 and so on. A server that
//!   opens one breaks the rules (STREAM_STATE_ERROR). Any frame of the client's about stream n, but
//!   for STREAM_DATA_BLOCKED, opens it and all streams below it. Offset + length is at most
//!   2^62 - 1 (FRAME_ENCODING_ERROR). FIN fixes the final size; data beyond it, or another one, is
//!   a FINAL_SIZE_ERROR. Without the length bit the data reach to the end of the packet.
//! - **RESET_STREAM** gives up the sender's half, **STOP_SENDING** asks the peer to give up its
//!   half; the peer answers with RESET_STREAM.
//! - **Flow control**: RFC 9000 section 4. Limits are absolute, from the connection's or the
//!   stream's start. A frame with a lower limit than one before is ignored. The bytes of a stream
//!   that was reset count with its final size. More than the limit: FLOW_CONTROL_ERROR,
//!   STREAM_LIMIT_ERROR. MAX_STREAMS is a count: 3 allows the ids 0, 1 and 2. A receiver MAY close
//!   with FLOW_CONTROL_ERROR, too, when a stream comes in so many separate pieces that it does not
//!   want to remember them all.
//! - **DATA_BLOCKED** and **STREAM_DATA_BLOCKED** are for those who watch: nothing follows from
//!   them.
//! - **PATH_CHALLENGE** is answered with PATH_RESPONSE of the same data, to the address that the
//!   challenge came from. One that came from elsewhere than where the peer is taken to be is
//!   ignored; of several, the newest alone is answered.
//!
//! # A new address
//!
//! The CID finds the connection whatever address a packet comes from. When a packet whose tag is
//! right and whose number is the largest so far comes from a new address, the server sends there
//! from now on (no more than 3 times what it received from there) and PATH_CHALLENGE with 8 random
//! bytes to it. The packet with it need not be padded: the shortest packet that can have come from
//! there allows it; what size gets through is found by probes. PATH_RESPONSE with these bytes from
//! that address proves it; without one after three challenges, 2 PTO for each, the server goes back
//! to the last proven address, and it does at once when the client writes from there. With a new IP
//! address, not with a new port alone, congestion control, round-trip time and datagram size start
//! over (RFC 9000 section 9.4). Clients do not follow a server to a new address.
//!
//! # The end
//!
//! - **CLOSE** ends the connection at once. It is not acknowledged. Who sent it answers DATA that
//!   still comes, looking no further than its CID, with the same CLOSE, at most one for each packet
//!   and ever more seldom, for 3 PTO; the limit of an unproven address holds for it, too. It
//!   ignores RESET. Who received CLOSE sends nothing more and MAY forget the connection at once:
//!   what still comes for it is for a CID that is not known.
//! - **Idle**: nothing that opens came for the lesser max_idle_timeout (counted also from the first
//!   ack-eliciting packet sent since something came; at least 3 PTO): the connection ends without a
//!   word. A PING keeps it: a keep-alive SHOULD come after half of the timeout.
//! - **RESET**: a DATA packet of more than 25 bytes for a CID that the receiver does not know, but
//!   could have chosen, MAY be answered with RESET: that CID, and token = the first 16 bytes of
//!   HMAC-SHA256(a static key of the receiver's, CID) or whatever else the receiver can tell again
//!   after it has lost its state. The sender of the DATA compares the token with the one that it
//!   got for its peer's CID (ACCEPT; parameter 0x07), in constant time, and if they are equal the
//!   connection is gone, without CLOSE. A RESET of a wrong token is dropped. RESET is shorter than
//!   what it answers, so that two endpoints never keep one another busy with it; it SHOULD be
//!   limited in rate. An endpoint MUST NOT answer so for a CID that may be in use, on another of
//!   its sockets for instance: it would tell the token of a living connection.
//!
//! # Timers
//!
//! RFC 9002 holds for round-trip times, loss and probe timeouts (PTO = smoothed + max(4 variance, 1
//! ms) + the peer's max_ack_delay, doubled at each expiry), with one packet number space. This
//! implementation departs from it in one thing: the doubling pauses at 1 s, or at four times the
//! first if the path is slower, and goes on after ten probes in vain. Before the first sample the
//! round-trip time is 333 ms. Some congestion control that is no more
//! aggressive than RFC 9002 section 7 at first (10 datagrams, at most 14,720 bytes) is needed; in this
//! implementation BBR departs from it, too: it paces 80 datagrams once it knows the round trip. What
//! is not an ACK alone, a probe of a timeout or a PATH_CHALLENGE, is paced.
//!
//! | what | how long |
//! |---|---|
//! | HELLO again | 300 ms, doubled each time to at most 3 s; give up after 30 s |
//! | cookie | good for 60 to 120 s |
//! | unconfirmed connection | 10 s |
//! | ACK held back | own max_ack_delay, 25 ms |
//! | PATH_CHALLENGE | again after 2 PTO, three in all |
//! | closing | 3 PTO |
//! | idle | the lesser max_idle_timeout, at least 3 PTO |
//!
//! # Integrity and secrecy
//!
//! Both sides are configured with the same mode; it is not negotiated. A packet in the other mode
//! is one with a wrong tag.
//!
//! **`checksum`**: the tag of HELLO, COOKIE and ACCEPT is the CRC32C (Castagnoli: reflected,
//! polynomial 0x1EDC6F41, initial value and final XOR 0xffffffff; "123456789" gives 0xe3069283) of
//! everything before it, 4 bytes. That of DATA is the CRC32C of client nonce | server nonce |
//! everything before it: DATA of another connection that the same HELLO has made has a wrong one. It
//! finds damage. It proves nothing: who sees the packets of the handshake can forge the others.
//!
//! **`psk`**: a passphrase of at least 16 characters that both sides know. The tag is 16 bytes.
//!
//! ```text
//! secret    = PBKDF2-HMAC-SHA256(passphrase in UTF-8, salt "labnet rudp 1 secret",
//!             100,000 rounds), 32 bytes
//!
//! handshake = HKDF-Extract(salt "labnet rudp 1", secret)
//! hello key = HKDF-Expand(handshake, "handshake"), 32 bytes
//! tag of HELLO, COOKIE, ACCEPT = first 16 bytes of HMAC-SHA256(hello key, everything before it)
//!
//! traffic   = HKDF-Extract(salt client nonce | server nonce, secret)
//! epoch     = packet number / 2^22, rounded down
//! key       = HKDF-Expand(traffic, side | " key" | client CID | server CID | epoch (8)), 16 bytes
//! iv        = HKDF-Expand(traffic, side | " iv"  | client CID | server CID | epoch (8)), 12 bytes
//!             side: "client" for the packets that the client sends, "server" for the server's
//! DATA      = 0x80 | CID | low 32 bits | AES-128-GCM(key, nonce, AAD, frames), tag included
//!             nonce: iv XOR (four zero bytes | the whole packet number (8))
//!             AAD: the 13 bytes before the frames
//! ```
//!
//! HKDF is with SHA-256 (RFC 5869). A direction's keys change with the epoch, after 2^22 packets
//! and without a word: that is below the 2^23 packets that RFC 9001 section 6.6 allows one key. A
//! receiver keeps the key of the epoch before for what was overtaken. It goes on to the next epoch
//! when a packet of it has a right tag, and refuses all others. After 2^52 packets of a wrong tag
//! the connection MUST close (AEAD_LIMIT_REACHED).
//!
//! What `psk` gives: only who knows the passphrase can make a connection, read it, change it, or
//! replay a packet of it: DATA is bound to the connection by its keys and to its number. What it
//! does not: there is no forward secrecy (who learns the passphrase later reads what was recorded),
//! a passphrase that can be guessed is one that can be found from a recorded HELLO, and all who
//! know it are alike. Lengths, times, numbers and CIDs stay readable, for those who learn. A HELLO
//! with its cookie can be replayed from the same address while the cookie is good: this makes a
//! connection that is never confirmed.
//!
//! # Error codes
//!
//! Below 0x100 as in RFC 9000 section 20.1, for CLOSE. From 0x100 on for CLOSE, RESET_STREAM and
//! STOP_SENDING alike. An unknown code is as INTERNAL_ERROR.
//!
//! | code | name | |
//! |---|---|---|
//! | 0x00 | NO_ERROR | all is done |
//! | 0x01 | INTERNAL_ERROR | the sender of it failed |
//! | 0x02 | CONNECTION_REFUSED | no more connections are taken |
//! | 0x03 | FLOW_CONTROL_ERROR | more data than MAX_DATA or MAX_STREAM_DATA allow |
//! | 0x04 | STREAM_LIMIT_ERROR | a stream beyond MAX_STREAMS |
//! | 0x05 | STREAM_STATE_ERROR | a frame for a stream that cannot have it |
//! | 0x06 | FINAL_SIZE_ERROR | a stream's end moved, or data lie beyond it |
//! | 0x07 | FRAME_ENCODING_ERROR | a frame that is malformed |
//! | 0x08 | TRANSPORT_PARAMETER_ERROR | parameters that cannot be worked with |
//! | 0x0A | PROTOCOL_VIOLATION | anything else |
//! | 0x0F | AEAD_LIMIT_REACHED | too many packets of a wrong tag |
//! | 0x100 | CANCELLED | the application wants no more of it |
//! | 0x101 | SHUTDOWN | the endpoint shuts down |
//! | 0x102 | SOURCE_FAILED | what a stream's data came from broke off |
//! | 0x103 | MALFORMED_QUESTION | the stream's question is none |
//! | 0x104 | TOO_SLOW | the peer takes too long: see the limits of [`exchange`](crate::rudp::exchange) |
//!
//! # Samples
//!
//! Client CID 0102030405060708, server CID 1112131415161718, nonces the ASCII texts `nonce of
//! client.` and `nonce of server.`, passphrase `correct horse battery`, whose secret is
//! f0f23e72bdfd049661076eca73f32b5807bc3d6419e5facb5f3d469788216ffc. HELLO without a cookie, with
//! the default parameters, reset token aa...aa, congestion `bbr`, name `Tal`; COOKIE with the cookie
//! `seventeen bytes..`; ACCEPT with the default parameters and reset token bb...bb; VERSIONS of a
//! server that speaks version 1 alone; RESET for the server's CID:
//!
//! ```text
//! HELLO     c00000000101020304050607086e6f6e6365206f6620636c69656e742e00003b
//!           0104800075300204801000000304801000000402406405048000ffcf06011907
//!           10aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0803626272090354616c, zeros, then
//! checksum  415dbf59 as bytes 1196 to 1199
//! psk       13e0ae41984869a26f19f8729473f150 as bytes 1184 to 1199
//!
//! COOKIE    c10000000101020304050607086e6f6e6365206f6620636c69656e742e117365
//!           76656e7465656e2062797465732e2e, then
//! checksum  895cb04b
//! psk       e2c49c39b0689fffa59dddaa007a2f65
//!
//! VERSIONS  c2010203040506070800000001f93e2860, in every mode
//!
//! RESET     c31112131415161718bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, in every mode
//!
//! ACCEPT    c400000001010203040506070811121314151617186e6f6e6365206f66207365
//!           727665722ebbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb001f010480007530020480
//!           1000000304801000000402406405048000ffcf060119, then
//! checksum  0c9ee636
//! psk       214ae0bd953b8b6ab4ce60da62e55ba8
//!
//! DATA      of the client, number 3: STREAM 0, offset 0, with length and FIN, "LIST\n"
//! checksum  801112131415161718000000030b0000054c4953540a9c1bf244
//! psk       8011121314151617180000000364b403f9f3d00ebd89a73cc416386076bbc0c7
//!           cd4fc2c59d6b
//!
//! DATA      of the server, number 4194304: ACK of 4 and of 0 to 1, delay 250 us; STREAM 0 without
//!           length and FIN, "OK 0 8 8 -\n"
//! checksum  80010203040506070800400000020440fa40010001010800004f4b2030203820
//!           38202d0a9f479dc5
//! psk       800102030405060708004000009afb2510658ac9c36b9ee326e9e75f945719bd
//!           f280efae75cf7a4de0deff5f80c9e9b0b3fdff04
//! ```

mod code;
pub mod cookie;
pub mod frame;
mod handshake;
mod header;
mod parameters;
pub mod protection;
mod text;
pub mod varint;

use std::fmt;

use subtle::ConstantTimeEq as _;

pub use self::{
    code::ErrorCode,
    frame::{Frame, Frames},
    handshake::{Accept, CookieReply, Hello, MAX_COOKIE, MAX_VERSIONS, Reset, Versions},
    header::{Header, Opened, PacketType, encode_data_header, expand, read_number},
    parameters::{
        MAX_MAX_ACK_DELAY, MAX_MAX_IDLE_TIMEOUT, MAX_UDP_PAYLOAD, MIN_MAX_IDLE_TIMEOUT,
        MIN_UDP_PAYLOAD, Parameters,
    },
    protection::{
        Agreement, Binding, HandshakeKey, Keys, MIN_PASSPHRASE, Protection, Secret,
        ShortPassphrase, Side,
    },
    text::Text,
};

/// The version of the format that this module speaks.
pub const VERSION: u32 = 1;
/// The bytes of UDP payload that a HELLO has at least.
pub const MIN_HELLO: usize = 1200;
/// How many times its request a reply to an unproven address may be.
pub const MAX_AMPLIFICATION: usize = 3;
/// The bytes before a DATA packet's frames: first byte, destination, packet number.
pub const DATA_HEADER: usize = 13;
/// The bytes of a RESET. Only a longer packet draws one.
pub const RESET_LEN: usize = 25;
/// The largest packet number, stream offset and stream id.
pub const MAX_NUMBER: u64 = varint::MAX;

const HELLO: u8 = 0xc0;
const COOKIE: u8 = 0xc1;
const VERSIONS: u8 = 0xc2;
const RESET: u8 = 0xc3;
const ACCEPT: u8 = 0xc4;
const DATA: u8 = 0x80;

/// Bytes that do not follow the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end too early.
    #[error("it ends too early")]
    Truncated,
    /// No packet begins with this byte.
    #[error("no packet begins with the byte {0:#04x}")]
    PacketType(u8),
    /// No frame begins with this byte.
    #[error("no frame begins with the byte {0:#04x}")]
    FrameType(u8),
    /// A packet of another version: its layout is not known here.
    #[error("version {0} is not spoken here")]
    Version(u32),
    /// A DATA packet without a frame, a VERSIONS without a version.
    #[error("it holds nothing")]
    Empty,
    /// Something is left over behind the packet's last field.
    #[error("something is left over at its end")]
    Leftover,
    /// The ranges of an ACK reach below packet 0, or there are fewer than it says.
    #[error("its ranges of packets are impossible")]
    Ranges,
    /// A stream's data would end beyond offset 2^62 - 1.
    #[error("a stream would be longer than 2^62 - 1 bytes")]
    StreamTooLong,
    /// A text is not UTF-8, or a name not printable ASCII of its length.
    #[error("a text is not of its alphabet or length")]
    Text,
    /// This transport parameter is out of its range, of the wrong length, or there twice.
    #[error("the transport parameter {0:#04x} is wrong or there twice")]
    Parameter(u64),
}

/// Why a packet could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its integrity tag is wrong: damaged on the way, forged, or protected in another mode.
    #[error("its integrity tag is wrong")]
    Integrity,
    /// The packet does not follow the format.
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    /// So many packets failed that the key must not be tried on more of them: close the connection
    /// (RFC 9001 section 6.6).
    #[error("too many packets failed the integrity check")]
    Exhausted,
}

/// A connection id: what tells the connections of an endpoint apart. Random, eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid(pub u64);

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

/// The random bytes that make a handshake, and its keys, unlike any other.
pub type Nonce = [u8; 16];

/// A stateless reset token. Comparing two takes the same time wherever they differ.
#[derive(Clone, Copy, Eq)]
pub struct Token([u8; 16]);

impl Token {
    /// The token of these bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be written down.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests;
