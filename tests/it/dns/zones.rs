//! What a zone answers.

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType as T,
};
use labnet::dns::{Authority, Transport};

use super::{NX, OK, SOA, ZONE, ask, check, lines, question, tcp, udp, zone};

#[test]
fn records_are_answered_with_the_addresses_of_their_targets() {
    check(
        &ask("web.lab.test", T::A),
        true,
        OK,
        [
            &[
                "web.lab.test. 60 A 192.0.2.80",
                "web.lab.test. 60 A 192.0.2.81",
            ],
            &[],
            &[],
        ],
    );
    check(
        &ask("web.lab.test", T::AAAA),
        true,
        OK,
        [&["web.lab.test. 3600 AAAA 2001:db8::80"], &[], &[]],
    );
    check(
        &ask("1.lab.test", T::PTR),
        true,
        OK,
        [&["1.lab.test. 3600 PTR web.lab.test."], &[], &[]],
    );
    check(
        &ask("lab.test", T::MX),
        true,
        OK,
        [
            &[
                "lab.test. 3600 MX 10 mail.lab.test.",
                "lab.test. 3600 MX 20 mail2.lab.test.",
                "lab.test. 3600 MX 30 mx.elsewhere.test.",
            ],
            &[],
            &[
                "mail.lab.test. 3600 A 192.0.2.25",
                "mail2.lab.test. 600 A 192.0.2.26",
                "mail2.lab.test. 3600 AAAA 2001:db8::26",
            ],
        ],
    );
    check(
        &ask("lab.test", T::NS),
        true,
        OK,
        [
            &[
                "lab.test. 3600 NS ns1.lab.test.",
                "lab.test. 3600 NS ns2.elsewhere.test.",
            ],
            &[],
            &[
                "ns1.lab.test. 3600 A 192.0.2.53",
                "ns1.lab.test. 3600 AAAA 2001:db8::53",
            ],
        ],
    );
    // Two services on one host: its addresses once.
    let answer = ask("_sip._udp.lab.test", T::SRV);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 3));
    check(
        &ask("lab.test", T::SOA),
        true,
        OK,
        [
            &[&SOA.replace("lab.test. 300 SOA", "lab.test. 3600 SOA")],
            &[],
            &[],
        ],
    );
    let text = ask("lab.test", T::TXT);
    assert_eq!(
        lines(&text.answers),
        ["lab.test. 3600 TXT v=spf1 -allsecond; string"]
    );
    for rtype in [
        T::HINFO,
        T::NAPTR,
        T::SSHFP,
        T::TLSA,
        T::Unknown(17),
        T::Unknown(65280),
    ] {
        assert_eq!(ask("rare.lab.test", rtype).answers.len(), 1, "{rtype}");
    }
    assert_eq!(ask(r"esc\.aped.lab.test", T::A).answers.len(), 1);
    assert_eq!(ask("esc.aped.lab.test", T::A).metadata.response_code, NX);
    assert_eq!(ask(r"bin\000\255.lab.test", T::A).answers.len(), 1);
}

#[test]
fn null_targets_end_there() {
    check(
        &ask("nullmx.lab.test", T::MX),
        true,
        OK,
        [&["nullmx.lab.test. 3600 MX 0 ."], &[], &[]],
    );
    check(
        &ask("_none._tcp.lab.test", T::SRV),
        true,
        OK,
        [&["_none._tcp.lab.test. 3600 SRV 0 0 0 ."], &[], &[]],
    );
}

#[test]
fn what_is_not_there_is_denied_with_the_negative_ttl() {
    check(&ask("nothing.lab.test", T::A), true, NX, [&[], &[SOA], &[]]);
    check(
        &ask("a.b.c.web.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    check(&ask("text.lab.test", T::A), true, OK, [&[], &[SOA], &[]]);
    check(
        &ask("text.lab.test", T::Unknown(1000)),
        true,
        OK,
        [&[], &[SOA], &[]],
    );
    // The SOA record's own TTL, where it is less than MINIMUM.
    let short: Authority = [zone("short.", "@ 7 SOA a b 1 2 3 4 5m\n@ NS a")]
        .into_iter()
        .collect();
    let mut out = Vec::new();
    short.answer(&question("x.short", 1), Transport::Udp, &mut out);
    assert_eq!(
        Message::from_vec(&out).expect("reads").authorities[0].ttl,
        7
    );
}

#[test]
fn outside_of_the_zones_is_refused() {
    for name in [
        ".",
        "test",
        "example.org",
        "notlab.test",
        "lab.test.example",
    ] {
        check(&ask(name, T::A), false, ResponseCode::Refused, [&[]; 3]);
    }
    let mut out = Vec::new();
    Authority::default().answer(&question("lab.test", 1), Transport::Udp, &mut out);
    assert_eq!(out[3], 5, "no zones at all");
}

#[test]
fn an_empty_non_terminal_exists() {
    for name in [
        "b.ent.lab.test",
        "ent.lab.test",
        "_udp.lab.test",
        "star.lab.test",
    ] {
        check(&ask(name, T::A), true, OK, [&[], &[SOA], &[]]);
    }
    check(&ask("c.ent.lab.test", T::A), true, NX, [&[], &[SOA], &[]]);
}

#[test]
fn wildcards_stand_in_for_names_that_do_not_exist() {
    let wild = |name: &str| format!("{name}. 3600 A 192.0.2.42");
    for name in [
        "x.wild.lab.test",
        "x.y.wild.lab.test",
        "*.wild.lab.test",
        "x.*.y.wild.lab.test",
    ] {
        check(&ask(name, T::A), true, OK, [&[&wild(name)], &[], &[]]);
    }
    // NODATA of a wildcard.
    check(
        &ask("x.wild.lab.test", T::TXT),
        true,
        OK,
        [&[], &[SOA], &[]],
    );
    // The wildcard's own parent.
    check(&ask("wild.lab.test", T::A), true, OK, [&[], &[SOA], &[]]);
    // Blocked by a name that exists, whatever its types; by an empty non-terminal; below both.
    check(
        &ask("exists.wild.lab.test", T::A),
        true,
        OK,
        [&[], &[SOA], &[]],
    );
    check(
        &ask("x.exists.wild.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    check(
        &ask("node.wild.lab.test", T::A),
        true,
        OK,
        [&[], &[SOA], &[]],
    );
    check(
        &ask("x.node.wild.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    // Below the wildcard itself, no wildcard applies.
    check(
        &ask("x.*.wild.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    // An interior asterisk is a label like any other, and an empty wildcard at the end.
    check(
        &ask("foo.*.star.lab.test", T::A),
        true,
        OK,
        [&["foo.*.star.lab.test. 3600 A 192.0.2.44"], &[], &[]],
    );
    check(
        &ask("bar.*.star.lab.test", T::A),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
    check(&ask("x.star.lab.test", T::A), true, OK, [&[], &[SOA], &[]]);
    let mail = ask("x.wild.lab.test", T::MX);
    assert_eq!(
        lines(&mail.additionals),
        ["mail.lab.test. 3600 A 192.0.2.25"]
    );
}

#[test]
fn aliases_are_followed_in_the_zone() {
    let web = [
        "web.lab.test. 60 A 192.0.2.80",
        "web.lab.test. 60 A 192.0.2.81",
    ];
    check(
        &ask("www.lab.test", T::A),
        true,
        OK,
        [
            &["www.lab.test. 3600 CNAME web.lab.test.", web[0], web[1]],
            &[],
            &[],
        ],
    );
    check(
        &ask("www.lab.test", T::CNAME),
        true,
        OK,
        [&["www.lab.test. 3600 CNAME web.lab.test."], &[], &[]],
    );
    // In the order of the chain, with nothing of it in the additional section.
    check(
        &ask("chain1.lab.test", T::A),
        true,
        OK,
        [
            &[
                "chain1.lab.test. 3600 CNAME chain2.lab.test.",
                "chain2.lab.test. 3600 CNAME Chain3.lab.test.",
                "Chain3.lab.test. 3600 CNAME web.lab.test.",
                web[0],
                web[1],
            ],
            &[],
            &[],
        ],
    );
    check(
        &ask("x.cwild.lab.test", T::A),
        true,
        OK,
        [
            &["x.cwild.lab.test. 3600 CNAME web.lab.test.", web[0], web[1]],
            &[],
            &[],
        ],
    );
    check(
        &ask("into-wild.lab.test", T::A),
        true,
        OK,
        [
            &[
                "into-wild.lab.test. 3600 CNAME anything.wild.lab.test.",
                "anything.wild.lab.test. 3600 A 192.0.2.42",
            ],
            &[],
            &[],
        ],
    );
    check(
        &ask("outside.lab.test", T::A),
        true,
        OK,
        [&["outside.lab.test. 3600 CNAME www.example.org."], &[], &[]],
    );
    // RFC 6604: the code is the last name's.
    check(
        &ask("dangling.lab.test", T::A),
        true,
        NX,
        [
            &["dangling.lab.test. 3600 CNAME not.there.lab.test."],
            &[SOA],
            &[],
        ],
    );
    check(
        &ask("alias-nodata.lab.test", T::A),
        true,
        OK,
        [
            &["alias-nodata.lab.test. 3600 CNAME text.lab.test."],
            &[SOA],
            &[],
        ],
    );
    // AA is about the first name, the referral about the last.
    let answer = ask("into-sub.lab.test", T::A);
    assert!(answer.metadata.authoritative);
    assert_eq!(
        lines(&answer.answers),
        ["into-sub.lab.test. 3600 CNAME host.sub.lab.test."]
    );
    assert_eq!(answer.authorities.len(), 4);
}

#[test]
fn loops_of_aliases_end() {
    check(
        &ask("loop1.lab.test", T::A),
        true,
        OK,
        [
            &[
                "loop1.lab.test. 3600 CNAME loop2.lab.test.",
                "loop2.lab.test. 3600 CNAME loop1.lab.test.",
            ],
            &[],
            &[],
        ],
    );
    check(
        &ask("self.lab.test", T::A),
        true,
        OK,
        [&["self.lab.test. 3600 CNAME self.lab.test."], &[], &[]],
    );
    check(
        &ask("y.loopwild.lab.test", T::A),
        true,
        OK,
        [
            &[
                "y.loopwild.lab.test. 3600 CNAME x.loopwild.lab.test.",
                "x.loopwild.lab.test. 3600 CNAME x.loopwild.lab.test.",
            ],
            &[],
            &[],
        ],
    );
    // A chain without a loop ends too.
    let mut text = "$TTL 1\n@ SOA a b 1 2 3 4 5\n@ NS a\n".to_owned();
    for n in 0..100 {
        text += &format!("c{n} CNAME c{}\n", n + 1);
    }
    let authority: Authority = [zone("long.", &text)].into_iter().collect();
    let mut out = Vec::new();
    authority.answer(&question("c0.long", 1), Transport::Tcp, &mut out);
    assert_eq!(Message::from_vec(&out).expect("reads").answers.len(), 16);
}

#[test]
fn a_child_zone_is_referred_to_with_its_glue() {
    let servers: [&str; 4] = [
        "sub.lab.test. 3600 NS ns.sub.lab.test.",
        "sub.lab.test. 3600 NS ns.sub2.lab.test.",
        "sub.lab.test. 3600 NS ns1.lab.test.",
        "sub.lab.test. 3600 NS ns.elsewhere.test.",
    ];
    // Addresses below the cut first: nobody can go on without them.
    let glue = [
        "ns.sub.lab.test. 3600 A 192.0.2.60",
        "ns.sub.lab.test. 3600 AAAA 2001:db8::60",
        "ns.sub2.lab.test. 3600 A 192.0.2.61",
        "ns1.lab.test. 3600 A 192.0.2.53",
        "ns1.lab.test. 3600 AAAA 2001:db8::53",
    ];
    for (name, rtype) in [
        ("sub.lab.test", T::A),
        ("sub.lab.test", T::NS),
        ("sub.lab.test", T::ANY),
        ("host.sub.lab.test", T::A),
        ("ns.sub.lab.test", T::A),
        ("x.y.sub.lab.test", T::DS),
    ] {
        check(&ask(name, rtype), false, OK, [&[], &servers, &glue]);
    }
    check(
        &ask("x.lame.lab.test", T::A),
        false,
        OK,
        [&[], &["lame.lab.test. 3600 NS ns.lame.lab.test."], &[]],
    );
    // DS belongs to the parent.
    let answer = ask("sub.lab.test", T::DS);
    assert!(answer.metadata.authoritative);
    assert_eq!((answer.answers.len(), answer.authorities.len()), (1, 0));
    check(&ask("sub2.lab.test", T::DS), true, OK, [&[], &[SOA], &[]]);
}

#[test]
fn between_parent_and_child_the_closer_zone_answers_except_for_ds() {
    let child = "$TTL 5\n@ SOA a b 1 2 3 4 5\n@ NS a\na A 192.0.2.7\n";
    let both: Authority = [zone("lab.test.", ZONE), zone("sub.lab.test.", child)]
        .into_iter()
        .collect();
    let ask = |name, rtype: T| {
        let mut out = Vec::new();
        both.answer(&question(name, rtype.into()), Transport::Udp, &mut out);
        Message::from_vec(&out).expect("reads")
    };
    assert_eq!(
        lines(&ask("a.sub.lab.test", T::A).answers),
        ["a.sub.lab.test. 5 A 192.0.2.7"]
    );
    assert_eq!(ask("sub.lab.test", T::DS).answers.len(), 1, "the parent's");
    assert_eq!(ask("sub.lab.test", T::SOA).answers[0].ttl, 5, "the child's");
    // Its parent is not ours: the zone itself denies.
    let answer = ask("lab.test", T::DS);
    assert_eq!(lines(&answer.authorities), [SOA]);
}

#[test]
fn any_is_answered_with_one_set_over_udp_and_all_over_tcp() {
    let any = question("lab.test", T::ANY.into());
    assert_eq!(lines(&udp(&any).answers), ["lab.test. 3600 A 192.0.2.1"]);
    assert_eq!(tcp(&any).answers.len(), 10);
    let alias = ask("www.lab.test", T::ANY);
    assert_eq!(
        lines(&alias.answers),
        ["www.lab.test. 3600 CNAME web.lab.test."]
    );
    check(&ask("ent.lab.test", T::ANY), true, OK, [&[], &[SOA], &[]]);
    check(
        &ask("nothing.lab.test", T::ANY),
        true,
        NX,
        [&[], &[SOA], &[]],
    );
}
