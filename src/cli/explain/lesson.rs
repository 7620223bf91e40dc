//! Why each message is sent, and what a NAT between client and servers would change.

use crate::watch::event::packet::{Protocol, Role};

/// What there is to learn from one kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lesson {
    /// Why it is sent.
    pub(super) why: &'static str,
    /// What changes behind a NAT.
    pub(super) nat: &'static str,
}

const INSIDE: &str =
    "nothing: DHCP stays in its own network, it is the NAT's inner side that has a DHCP server";
const OUTWARD: &str = "the NAT writes its own address and a port of its choice over the source, and notes the \
                       pair: the server sees those";
const BACK: &str = "it comes to the NAT's address and port; by its note the NAT writes the client's over the \
                    destination. Without a note, or too late for it, it is dropped";
const SERVERS: &str = "nothing: both are on the outer side";
const ORIGIN: &str = "to the proxy or the scraper nothing; to a client it comes to the NAT's address and port, and \
                      by its note the NAT writes the client's over the destination";

impl Lesson {
    /// Of a message by who sends it, if that is known, and its name; `None`: a file's bytes, and what nobody
    /// knows.
    pub(super) fn of(sender: Option<Role>, protocol: Protocol, name: &str) -> Option<Self> {
        let (why, nat) = match (protocol, name) {
            (Protocol::Dhcp, "DISCOVER") => (
                "a machine that is new has no address and knows no server: it calls to all (255.255.255.255) from \
                 0.0.0.0; or to a server that it was told of, as in a lab on one machine",
                INSIDE,
            ),
            (Protocol::Dhcp, "OFFER") => (
                "the server has a free address and holds it for a while; several servers may offer one",
                INSIDE,
            ),
            (Protocol::Dhcp, "REQUEST") => (
                "the client takes one offer and says whose, so that the other servers let theirs go",
                INSIDE,
            ),
            (Protocol::Dhcp, "ACK") => (
                "now the address is leased, and that is on the server's disk; with it come the mask, the \
                 router and the DNS server",
                INSIDE,
            ),
            (Protocol::Dhcp, "NAK") => ("the address is not to be had: begin anew", INSIDE),
            (Protocol::Dhcp, "RELEASE") => (
                "goodbye: the address is free for somebody else. Nobody answers it; if it gets lost, the \
                 lease ends by itself",
                INSIDE,
            ),
            (Protocol::Dns, "query") => (
                "people know names, packets need addresses. The identifier tells which answer belongs to \
                 which question. (On a LAN ARP asks the same of the next hop's hardware address, of all in \
                 the network instead of one server.)",
                OUTWARD,
            ),
            (Protocol::Dns, "answer") => (
                "the address, and how long it may be remembered (TTL); the question stands in it once more",
                BACK,
            ),
            (Protocol::Rudp, "SIGNEW") => (
                "opens a session. UDP has no connections: to the proxy the client is its address and port \
                 from here on. The letters of the name add up to the number before the first signal's",
                "the session is known by the NAT's address and port. Two clients behind one NAT differ by \
                 the port alone",
            ),
            (Protocol::Rudp, "SIGNACK") => (
                "the session is open; the first round trip is measured",
                BACK,
            ),
            (Protocol::Rudp, "SIGNECHO") => (
                "measures the round trip: the timestamp comes back as it was sent. Its number shows the \
                 proxy when one is missing",
                OUTWARD,
            ),
            (Protocol::Rudp, "ECHOREPLY") => (
                "the timestamp; what is later by now than it says is the round trip",
                BACK,
            ),
            (Protocol::Rudp, "SIGNSTAT") => (
                "asks what has come of the session's signals: the client can compare what it sent",
                OUTWARD,
            ),
            (Protocol::Rudp, "STATREPLY") => {
                ("signals received, gaps seen, time since SIGNEW", BACK)
            }
            (Protocol::Rudp, "SIGNGET") => (
                "asks for the list of files, or, with a name, where that file is",
                OUTWARD,
            ),
            (Protocol::Rudp, "ACKGET") => (
                "the list, each name with a semicolon behind it; or the file's URL: a redirect",
                "the NAT looks at headers only: an address in the text, as in a URL, stays as it is. That is \
                 why protocols that write addresses into their payload (FTP, SIP) have trouble with NATs",
            ),
            (Protocol::Rudp, "SIGNLOST") => (
                "a later number has come, this one has not: send it again. That is reliability over UDP, \
                 which gives none",
                BACK,
            ),
            (Protocol::Rudp, "SIGNFULL") => (
                "the proxy's window is full: wait, then send it again. That is flow control",
                BACK,
            ),
            (Protocol::Rudp, "SIGNREFUSED") => ("there is no answer, and why", BACK),
            (Protocol::Rudp, "SIGNEND") => (
                "goodbye: the proxy forgets the session",
                "the NAT sees no end in UDP: its note goes when nothing has passed for some time",
            ),
            (Protocol::Rudp, "ACKEND") => ("goodbye, too: all was answered", BACK),
            (Protocol::Rudp, "HELLO") => (
                "begins a connection of the binary transport; padded, so that nobody can have the proxy send a \
                 stranger more than was sent to it",
                OUTWARD,
            ),
            (Protocol::Rudp, "COOKIE") => (
                "the proxy keeps nothing yet: who can repeat the cookie really is at that address",
                BACK,
            ),
            (Protocol::Rudp, "ACCEPT") => (
                "the connection is there, and has a number of its own (CID)",
                "the CID names the connection, not address and port: when the NAT drops its note and takes \
                 another port, the transfer goes on",
            ),
            (Protocol::List, "SIGNGET") => (
                "the proxy asks the scraper for the list over TCP: the kernel does the numbering, the sending \
                 again and the window",
                SERVERS,
            ),
            (Protocol::List, "SIGNURL") => ("the proxy asks the scraper where a file is", SERVERS),
            (Protocol::List, "list" | "url" | "SIGNNONE") => (
                "the scraper's answer ends with the stream; it has read the page's links before",
                SERVERS,
            ),
            (Protocol::Http, "GET" | "HEAD") => (
                "asks the origin for a file, or for the page with the links. TCP's handshake came before it",
                "TCP shows the NAT where a connection begins and ends (SYN, FIN): it keeps its note so long",
            ),
            (Protocol::Http, "answer") => (
                "status, length, validator and digest, then the bytes: the client verifies them",
                BACK,
            ),
            _ => return None,
        };
        let nat = match (protocol, sender) {
            (Protocol::Http, Some(Role::Scrap | Role::Rudp)) => SERVERS,
            (Protocol::Http, Some(Role::Origin)) => ORIGIN,
            _ => nat,
        };
        Some(Self { why, nat })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_walk_has_its_lesson() {
        for (protocol, names) in [
            (
                Protocol::Dhcp,
                &["DISCOVER", "OFFER", "REQUEST", "ACK", "RELEASE"][..],
            ),
            (Protocol::Dns, &["query", "answer"]),
            (
                Protocol::Rudp,
                &[
                    "SIGNEW",
                    "SIGNACK",
                    "SIGNECHO",
                    "ECHOREPLY",
                    "SIGNSTAT",
                    "STATREPLY",
                    "SIGNGET",
                    "ACKGET",
                    "SIGNEND",
                    "ACKEND",
                    "SIGNLOST",
                    "SIGNFULL",
                    "HELLO",
                    "COOKIE",
                    "ACCEPT",
                ],
            ),
            (Protocol::Http, &["GET", "answer"]),
        ] {
            for name in names {
                assert!(Lesson::of(None, protocol, name).is_some(), "{name}");
            }
        }
        assert_eq!(Lesson::of(None, Protocol::Http, "data"), None);
        let nat = |sender| Lesson::of(Some(sender), Protocol::Http, "GET").map(|lesson| lesson.nat);
        assert_eq!(nat(Role::Scrap), Some(SERVERS));
        assert_ne!(nat(Role::Client), Some(SERVERS));
    }
}
