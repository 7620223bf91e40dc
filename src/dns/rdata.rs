//! Record types: their numbers, mnemonics, and the fields of their data.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hickory_proto::serialize::txt::parse_ttl;

use super::name::{Name, unescape};

/// A record type's number (RFC 1035 section 3.2.2 and the IANA registry).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

impl RecordType {
    /// IPv4 address.
    pub const A: Self = Self(1);
    /// Name server.
    pub const NS: Self = Self(2);
    /// Another name for this one.
    pub const CNAME: Self = Self(5);
    /// Start of a zone.
    pub const SOA: Self = Self(6);
    /// Pointer to a name.
    pub const PTR: Self = Self(12);
    /// Mail exchanger.
    pub const MX: Self = Self(15);
    /// Text.
    pub const TXT: Self = Self(16);
    /// IPv6 address (RFC 3596).
    pub const AAAA: Self = Self(28);
    /// Service location (RFC 2782).
    pub const SRV: Self = Self(33);
    /// Redirection of a subtree (RFC 6672).
    pub const DNAME: Self = Self(39);
    /// EDNS pseudo-record (RFC 6891).
    pub const OPT: Self = Self(41);
    /// Delegation signer (RFC 4034), the one type whose data is the parent's.
    pub const DS: Self = Self(43);
    /// Incremental zone transfer, a question only.
    pub const IXFR: Self = Self(251);
    /// Zone transfer, a question only.
    pub const AXFR: Self = Self(252);
    /// Everything there is, a question only.
    pub const ANY: Self = Self(255);

    /// Reads a mnemonic or `TYPE123` (RFC 3597 section 5), whatever its case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some((_, number, _)) = SHAPES
            .iter()
            .find(|(mnemonic, ..)| mnemonic.eq_ignore_ascii_case(text))
        {
            return Some(Self(*number));
        }
        let (prefix, number) = text.split_at_checked(4)?;
        prefix
            .eq_ignore_ascii_case("TYPE")
            .then(|| number.parse().ok().map(Self))?
    }

    /// Whether records of this type may stand in a zone file. Questions and pseudo-records may not
    /// (RFC 6895 section 3.1), nor may DNAME, which is more than data: it redirects.
    pub(super) fn is_data(self) -> bool {
        !matches!(self.0, 0 | 128..=255) && self != Self::OPT && self != Self::DNAME
    }

    fn shape(self) -> Option<&'static [Field]> {
        SHAPES
            .iter()
            .find(|(_, number, _)| *number == self.0)
            .map(|(_, _, fields)| *fields)
    }

    /// What stands before the names that may be compressed, and how many names there are: only the
    /// types of RFC 1035 may be compressed (RFC 3597 section 4).
    pub(super) fn compressible(self) -> Option<(usize, usize)> {
        match self {
            Self::NS | Self::CNAME | Self::PTR => Some((0, 1)),
            Self::MX => Some((2, 1)),
            Self::SOA => Some((0, 2)),
            _ => None,
        }
    }

    /// The name, in wire form, whose addresses the asker of this record will want next (RFC 1035
    /// section 3.3.9 and 3.3.11, RFC 2782).
    pub(super) fn target(self, rdata: &[u8]) -> Option<&[u8]> {
        rdata.get(match self {
            Self::NS => 0..,
            Self::MX => 2..,
            Self::SRV => 6..,
            _ => return None,
        })
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SHAPES.iter().find(|(_, number, _)| *number == self.0) {
            Some((mnemonic, ..)) => f.write_str(mnemonic),
            None => match *self {
                Self::ANY => f.write_str("ANY"),
                Self::AXFR => f.write_str("AXFR"),
                Self::IXFR => f.write_str("IXFR"),
                Self(number) => write!(f, "TYPE{number}"),
            },
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One field of a record's data in presentation form.
#[derive(Clone, Copy)]
enum Field {
    U8,
    U16,
    U32,
    /// A time in seconds, or with units: `1h30m`.
    Time,
    Ipv4,
    Ipv6,
    Name,
    /// One character-string with its length byte.
    Text,
    /// All that is left, one or more character-strings.
    Texts,
    /// One string without a length byte: it ends with the record.
    Bare,
    /// All that is left, in hexadecimal, spaces ignored.
    Hex,
    /// All that is left, in base64, spaces ignored.
    Base64,
}

/// The types that have a notation of their own here; all others are written as RFC 3597 says.
///
/// hickory-proto reads most of them too, but only as part of a whole file, and there it tells no
/// line, takes no `@` in data, splits quoted strings in parentheses, makes several bytes of one
/// `\DDD` and overlooks surplus fields.
#[rustfmt::skip]
const SHAPES: &[(&str, u16, &[Field])] = {
    use Field::{Bare, Base64, Hex, Ipv4, Ipv6, Name, Text, Texts, Time, U8, U16, U32};
    &[
        ("A", 1, &[Ipv4]),
        ("NS", 2, &[Name]),
        ("CNAME", 5, &[Name]),
        ("SOA", 6, &[Name, Name, U32, Time, Time, Time, Time]),
        ("PTR", 12, &[Name]),
        ("HINFO", 13, &[Text, Text]),
        ("MX", 15, &[U16, Name]),
        ("TXT", 16, &[Texts]),
        ("RP", 17, &[Name, Name]),
        ("AFSDB", 18, &[U16, Name]),
        ("AAAA", 28, &[Ipv6]),
        ("SRV", 33, &[U16, U16, U16, Name]),
        ("NAPTR", 35, &[U16, U16, Text, Text, Text, Name]),
        ("KX", 36, &[U16, Name]),
        ("DNAME", 39, &[Name]),
        ("DS", 43, &[U16, U8, U8, Hex]),
        ("SSHFP", 44, &[U8, U8, Hex]),
        ("TLSA", 52, &[U8, U8, U8, Hex]),
        ("SMIMEA", 53, &[U8, U8, U8, Hex]),
        ("OPENPGPKEY", 61, &[Base64]),
        ("SPF", 99, &[Texts]),
        ("URI", 256, &[U16, U16, Bare]),
        ("CAA", 257, &[U8, Text, Bare]),
    ]
};

/// A word or a quoted string of a zone file, its escapes not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: Vec<u8>,
    pub(super) quoted: bool,
}

impl Token {
    /// The token as a word: for everything but names and character-strings.
    pub(super) fn word(&self) -> Result<&str, String> {
        match str::from_utf8(&self.text) {
            Ok(word) if !self.quoted => Ok(word),
            _ => Err(format!("{self} cannot stand here")),
        }
    }

    /// The domain name that the token stands for.
    pub(super) fn name(&self, origin: &Name) -> Result<Name, String> {
        self.word()?;
        Name::parse(&self.text, origin)
            .map_err(|error| format!("{self} is no domain name: {error}"))
    }

    /// The token as a character-string, escapes decoded (RFC 1035 section 5.1).
    fn string(&self) -> Result<Vec<u8>, String> {
        let mut string = Vec::with_capacity(self.text.len());
        let mut rest = &self.text[..];
        while let [first, tail @ ..] = rest {
            rest = tail;
            string.push(match first {
                b'\\' => unescape(&mut rest).ok_or_else(|| {
                    format!("{self}: a backslash needs three digits (at most 255) or one other character after it")
                })?,
                byte => *byte,
            });
        }
        Ok(string)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.text);
        let short: String = text.chars().take(60).collect();
        let more = if short.len() < text.len() { "..." } else { "" };
        write!(f, "'{}{more}'", short.escape_debug())
    }
}

/// Reads a record's data into wire form, uncompressed.
///
/// Errors say in words what is wrong.
pub(super) fn read(
    rtype: RecordType,
    tokens: &[Token],
    origin: &Name,
) -> Result<Box<[u8]>, String> {
    let mut wire = Vec::new();
    if let [first, rest @ ..] = tokens
        && first.text == br"\#"
        && !first.quoted
    {
        generic(rest, &mut wire)?;
        check_generic(rtype, &wire)?;
    } else {
        let fields = rtype.shape().ok_or_else(|| {
            format!(
                "{rtype} data can only be written as \\# LENGTH HEX (RFC 3597), not in its own notation"
            )
        })?;
        let mut tokens = tokens;
        for field in fields {
            read_field(*field, rtype, &mut tokens, origin, &mut wire)?;
        }
        if let [surplus, ..] = tokens {
            return Err(format!(
                "{rtype} takes no more than that: {surplus} is too much"
            ));
        }
    }
    if wire.len() > usize::from(u16::MAX) {
        return Err(format!(
            "{rtype} data of {} bytes: 65535 is the limit",
            wire.len()
        ));
    }
    Ok(wire.into_boxed_slice())
}

fn read_field(
    field: Field,
    rtype: RecordType,
    tokens: &mut &[Token],
    origin: &Name,
    wire: &mut Vec<u8>,
) -> Result<(), String> {
    let [token, rest @ ..] = *tokens else {
        return Err(format!("{rtype} misses {}", field.describe()));
    };
    let wrong = |problem: &str| format!("{token} is not {}{problem}", field.describe());
    fn number<T: FromStr>(token: &Token) -> Option<T> {
        token.word().ok()?.parse().ok()
    }
    match field {
        Field::U8 => wire.push(number(token).ok_or_else(|| wrong(""))?),
        Field::U16 => {
            wire.extend(number::<u16>(token).ok_or_else(|| wrong(""))?.to_be_bytes());
        }
        Field::U32 => {
            wire.extend(number::<u32>(token).ok_or_else(|| wrong(""))?.to_be_bytes());
        }
        Field::Time => {
            let time = token.word().ok().and_then(|word| parse_ttl(word).ok());
            wire.extend(time.ok_or_else(|| wrong(""))?.to_be_bytes());
        }
        Field::Ipv4 => {
            let address = number::<Ipv4Addr>(token).ok_or_else(|| wrong(""))?;
            wire.extend(address.octets());
        }
        Field::Ipv6 => {
            let address = number::<Ipv6Addr>(token).ok_or_else(|| wrong(""))?;
            wire.extend(address.octets());
        }
        Field::Name => wire.extend_from_slice(token.name(origin)?.as_wire()),
        Field::Text => push_string(token, wire)?,
        Field::Texts => {
            for token in *tokens {
                push_string(token, wire)?;
            }
            *tokens = &[];
            return Ok(());
        }
        Field::Bare => wire.extend(token.string()?),
        Field::Hex => {
            let digits = rest_joined(tokens)?;
            let bytes = hex(&digits).ok_or_else(|| wrong(""))?;
            wire.extend(bytes);
            return Ok(());
        }
        Field::Base64 => {
            let digits = rest_joined(tokens)?;
            let bytes = BASE64_STANDARD.decode(digits);
            wire.extend(bytes.map_err(|error| wrong(&format!(": {error}")))?);
            return Ok(());
        }
    }
    *tokens = rest;
    Ok(())
}

impl Field {
    fn describe(self) -> &'static str {
        match self {
            Self::U8 => "a number from 0 to 255",
            Self::U16 => "a number from 0 to 65535",
            Self::U32 => "a number from 0 to 4294967295",
            Self::Time => "a time (3600 or 1h)",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Name => "a domain name",
            Self::Text | Self::Texts | Self::Bare => "a text",
            Self::Hex => "hexadecimal digits in pairs",
            Self::Base64 => "base64",
        }
    }
}

fn push_string(token: &Token, wire: &mut Vec<u8>) -> Result<(), String> {
    let string = token.string()?;
    let length = u8::try_from(string.len()).map_err(|_| {
        format!("{token} is longer than 255 bytes: split it into several quoted strings")
    })?;
    wire.push(length);
    wire.extend(string);
    Ok(())
}

/// Joins the tokens that are left: long hexadecimal and base64 data is written in pieces.
fn rest_joined(tokens: &mut &[Token]) -> Result<String, String> {
    std::mem::take(tokens).iter().map(Token::word).collect()
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect::<Option<Vec<u8>>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// RFC 3597 section 5: `\# LENGTH HEX`.
fn generic(tokens: &[Token], wire: &mut Vec<u8>) -> Result<(), String> {
    let [length, digits @ ..] = tokens else {
        return Err("\\# misses the length".to_owned());
    };
    let length: usize = length
        .word()?
        .parse()
        .map_err(|_| format!("{length} is not a length"))?;
    let mut digits = digits;
    let bytes = hex(&rest_joined(&mut digits)?)
        .ok_or_else(|| "what follows \\# LENGTH is not hexadecimal digits in pairs".to_owned())?;
    if bytes.len() != length {
        return Err(format!(
            "\\# says {length} bytes, but {} follow",
            bytes.len()
        ));
    }
    wire.extend(bytes);
    Ok(())
}

/// Data in generic notation of a type whose fields the server works with has to have these fields:
/// an A record of five bytes would be a broken answer.
fn check_generic(rtype: RecordType, wire: &[u8]) -> Result<(), String> {
    let Some(fields) = rtype.shape() else {
        return Ok(());
    };
    let mut rest = Some(wire);
    for field in fields {
        rest = rest.and_then(|rest| match field {
            Field::U8 => rest.get(1..),
            Field::U16 => rest.get(2..),
            Field::U32 | Field::Time | Field::Ipv4 => rest.get(4..),
            Field::Ipv6 => rest.get(16..),
            Field::Name => rest.get(super::name::LowerName::read(rest)?.wire_len()..),
            Field::Text => rest.get(1 + usize::from(*rest.first()?)..),
            Field::Texts => {
                let mut rest = rest.get(1 + usize::from(*rest.first()?)..)?;
                while let [length, tail @ ..] = rest {
                    rest = tail.get(usize::from(*length)..)?;
                }
                Some(rest)
            }
            Field::Bare | Field::Hex | Field::Base64 => Some(&[]),
        });
    }
    match rest {
        Some([]) => Ok(()),
        _ => Err(format!("these bytes are no {rtype} data")),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr;
    use hickory_proto::serialize::binary::{BinDecoder, Restrict};

    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        // Enough of a lexer for these tests: quotes hold no spaces.
        text.split(' ')
            .map(|word| Token {
                text: word.trim_matches('"').as_bytes().to_vec(),
                quoted: word.starts_with('"'),
            })
            .collect()
    }

    fn wire(rtype: &str, text: &str) -> Result<Box<[u8]>, String> {
        let origin: Name = "example.com.".parse().expect("valid");
        read(
            RecordType::parse(rtype).expect("known"),
            &tokens(text),
            &origin,
        )
    }

    /// What another implementation understands of our wire form.
    fn seen_by_hickory(rtype: &str, text: &str) -> String {
        let wire = wire(rtype, text).expect(text);
        let number = RecordType::parse(rtype).expect("known").0;
        let length = Restrict::new(u16::try_from(wire.len()).expect("short"));
        rr::RData::read(&mut BinDecoder::new(&wire), number.into(), length)
            .expect("decodes")
            .to_string()
    }

    #[test]
    fn every_notation_makes_the_wire_form_that_hickory_reads() {
        for (rtype, text, seen) in [
            ("A", "192.0.2.1", "192.0.2.1"),
            ("AAAA", "2001:db8::1", "2001:db8::1"),
            ("NS", "ns1", "ns1.example.com."),
            ("CNAME", "@", "example.com."),
            ("PTR", "Host.", "Host."),
            ("MX", "10 mail", "10 mail.example.com."),
            ("SRV", "1 2 80 .", "1 2 80 ."),
            (
                "SOA",
                "ns1 admin 7 1h 10m 1w 300",
                "ns1.example.com. admin.example.com. 7 3600 600 604800 300",
            ),
            ("TXT", r#""a" b\;c \065"#, "ab;cA"),
            ("HINFO", "\"PC\" Linux", "PC Linux"),
            ("CAA", "0 issue \"ca.test\"", "0 issue \"ca.test\""),
            ("SSHFP", "1 1 abCD 12", "1 1 abcd12"),
            ("TLSA", "3 1 1 ab cd", "3 1 1 abcd"),
            (
                "NAPTR",
                "1 2 u \"E2U+sip\" \"!.*!x!\" .",
                "1 2 u E2U+sip !.*!x! .",
            ),
            ("OPENPGPKEY", "AQ ID", "AQID"),
            ("A", r"\# 4 C0 000201", "192.0.2.1"),
        ] {
            let seen_now = seen_by_hickory(rtype, text);
            assert_eq!(
                seen_now.replace('"', ""),
                seen.replace('"', ""),
                "{rtype} {text}"
            );
        }
        assert_eq!(
            &*wire("TYPE65280", r"\# 2 beef").expect("generic"),
            [0xbe, 0xef]
        );
        assert!(wire("TYPE65280", r"\# 0").expect("generic").is_empty());
        assert_eq!(&*wire("TXT", r"\255\000").expect("any byte"), [2, 255, 0]);
        assert_eq!(&*wire("DS", "1 8 2 ab").expect("DS"), [0, 1, 8, 2, 0xab]);
    }

    #[test]
    fn a_mistake_is_named() {
        for (rtype, text, reason) in [
            ("A", "192.0.2", "'192.0.2' is not an IPv4 address"),
            (
                "A",
                "192.0.2.1 192.0.2.2",
                "A takes no more than that: '192.0.2.2' is too much",
            ),
            ("AAAA", "192.0.2.1", "'192.0.2.1' is not an IPv6 address"),
            ("MX", "mail", "'mail' is not a number from 0 to 65535"),
            ("MX", "10", "MX misses a domain name"),
            (
                "MX",
                "10 a..b",
                "'a..b' is no domain name: a label is empty (two dots in a row?)",
            ),
            ("NS", "\"ns1\"", "'ns1' cannot stand here"),
            ("SOA", "ns1 admin 7 1x", "'1x' is not a time (3600 or 1h)"),
            (
                "SSHFP",
                "1 1 abc",
                "'abc' is not hexadecimal digits in pairs",
            ),
            ("SSHFP", "1 1 zz", "'zz' is not hexadecimal digits in pairs"),
            (
                "TYPE65280",
                "x",
                "TYPE65280 data can only be written as \\# LENGTH HEX (RFC 3597), not in its own notation",
            ),
            ("A", r"\# 5 C000020100", "these bytes are no A data"),
            ("MX", r"\# 3 0001c0", "these bytes are no MX data"),
            ("TXT", r"\# 2 0541", "these bytes are no TXT data"),
            ("A", r"\# 4 C0", "\\# says 4 bytes, but 1 follow"),
        ] {
            assert_eq!(wire(rtype, text).expect_err(text), reason);
        }
        let long = "x".repeat(256);
        assert!(
            wire("TXT", &long)
                .expect_err("too long")
                .contains("255 bytes")
        );
    }

    #[test]
    fn mnemonics_are_read_and_written() {
        assert_eq!(RecordType::parse("aaaa"), Some(RecordType::AAAA));
        assert_eq!(RecordType::parse("Type28"), Some(RecordType::AAAA));
        assert_eq!(RecordType::parse("TYPE65536"), None);
        assert_eq!(RecordType::parse("TYPO"), None);
        assert_eq!(RecordType::parse("äää"), None);
        assert_eq!(RecordType(1000).to_string(), "TYPE1000");
        assert!(!RecordType::OPT.is_data() && !RecordType(250).is_data());
    }
}
