//! What students read.

use labnet::dns::{Transport, meaning};

use super::{question, raw, with_opt};

#[test]
fn an_answer_is_told_in_plain_words() {
    let told = |name: &str, rtype: u16| meaning(&raw(&question(name, rtype), Transport::Udp).1);
    assert_eq!(told("lab.test", 1), "answer: lab.test is at 192.0.2.1");
    assert_eq!(
        told("web.lab.test", 1),
        "answer: web.lab.test is at 192.0.2.80, 192.0.2.81"
    );
    assert_eq!(
        told("www.lab.test", 28),
        "answer: www.lab.test is at 2001:db8::80"
    );
    assert_eq!(
        told("www.lab.test", 5),
        "answer: www.lab.test is another name of web.lab.test"
    );
    assert_eq!(
        told("nullmx.lab.test", 15),
        "answer: nullmx.lab.test gets its mail at ."
    );
    assert_eq!(told("lab.test", 15), "answer: 3 records of lab.test");
    assert_eq!(
        told("text.lab.test", 1),
        "answer: text.lab.test has no A record"
    );
    assert_eq!(
        told("no.lab.test", 1),
        "answer: there is no name no.lab.test"
    );
    assert_eq!(
        told("x.sub.lab.test", 1),
        "referral: ask ns.sub.lab.test about x.sub.lab.test"
    );
    assert_eq!(
        told("example.org", 1),
        "refused: example.org is in none of my zones"
    );
    assert_eq!(
        told("big.lab.test", 16),
        "answer about big.lab.test is too long: ask again over TCP"
    );
    assert_eq!(
        told("dangling.lab.test", 1),
        "answer: dangling.lab.test leads to a name that is not there"
    );
    assert_eq!(
        told("lab.test", 1000),
        "answer: lab.test has no TYPE1000 record"
    );
    assert_eq!(told("lab.test", 252), "refused: I hand out no whole zones");
    let long = format!("{}.sub.lab.test", "x".repeat(60));
    assert_eq!(
        told(&long, 1),
        "referral: ask ns.sub.lab.test about xxxxxxxxxxxxxxxxxxxx..."
    );
    let newer = with_opt(question("lab.test", 1), 1232, 1, 0, &[]);
    assert_eq!(
        meaning(&raw(&newer, Transport::Udp).1),
        "refused: I do not speak this version of EDNS"
    );
    assert_eq!(
        meaning(&[0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        "refused: I cannot read the question"
    );
    assert_eq!(meaning(&[0]), "an answer that cannot be read");
}
