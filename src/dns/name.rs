//! Domain names in wire form: labels, each after its length, up to the root's zero byte
//! (RFC 1035 section 3.1).

use std::{fmt, str::FromStr};

/// The longest name in wire form, the root's byte included (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;
/// The longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// A name of 255 bytes holds at most 127 labels besides the root.
const MAX_LABELS: usize = 127;

/// An absolute domain name in wire form, its case kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The root, `.`
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads a name in the notation of zone files (RFC 1035 section 5.1): `\.` and `\DDD` escapes,
    /// `@` for the origin, relative to `origin` unless it ends with a dot.
    ///
    /// # Errors
    /// Why it is no name.
    pub fn parse(text: &[u8], origin: &Self) -> Result<Self, NameError> {
        match text {
            b"@" => return Ok(origin.clone()),
            b"." => return Ok(Self::root()),
            b"" => return Err(NameError::EmptyLabel),
            _ => {}
        }
        let mut wire = Vec::with_capacity(text.len() + origin.0.len() + 1);
        let mut label = Vec::new();
        let mut rest = text;
        let mut absolute = false;
        while let [first, tail @ ..] = rest {
            rest = tail;
            absolute = false;
            match first {
                b'.' => {
                    push_label(&mut wire, &label)?;
                    label.clear();
                    absolute = true;
                }
                b'\\' => label.push(unescape(&mut rest).ok_or(NameError::Escape)?),
                byte => label.push(*byte),
            }
        }
        if absolute {
            wire.push(0);
        } else {
            push_label(&mut wire, &label)?;
            wire.extend_from_slice(&origin.0);
        }
        if wire.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        Ok(Self(wire.into_boxed_slice()))
    }

    /// The name in wire form, uncompressed.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The same name as a key for lookups.
    pub(super) fn to_lower(&self) -> LowerName {
        // A Name is valid by construction; the root stands in for the impossible.
        LowerName::read(&self.0).unwrap_or(LowerName::ROOT)
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads a name as an absolute one, with or without its final dot.
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text.as_bytes(), &Self::root())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Presentation(&self.0))
    }
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), NameError> {
    match u8::try_from(label.len()) {
        Ok(0) => Err(NameError::EmptyLabel),
        Ok(length) if label.len() <= MAX_LABEL => {
            wire.push(length);
            wire.extend_from_slice(label);
            Ok(())
        }
        _ => Err(NameError::LongLabel),
    }
}

/// Decodes what follows a backslash, `DDD` or any one character, and moves `rest` behind it.
pub(super) fn unescape(rest: &mut &[u8]) -> Option<u8> {
    match **rest {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            *rest = &rest[3..];
            let digit = |byte: u8| u16::from(byte - b'0');
            u8::try_from(digit(a) * 100 + digit(b) * 10 + digit(c)).ok()
        }
        [b'0'..=b'9', ..] | [] => None,
        [byte, ..] => {
            *rest = &rest[1..];
            Some(byte)
        }
    }
}

/// Why a text is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Two dots in a row, a leading dot, or nothing at all.
    #[error("a label is empty (two dots in a row?)")]
    EmptyLabel,
    /// RFC 1035 section 2.3.4.
    #[error("a label is longer than 63 bytes")]
    LongLabel,
    /// RFC 1035 section 2.3.4.
    #[error("the name is longer than 255 bytes")]
    TooLong,
    /// RFC 1035 section 5.1.
    #[error("a backslash needs three digits (at most 255) or one other character after it")]
    Escape,
}

/// Writes a valid uncompressed wire name in the notation of zone files.
pub(super) struct Presentation<'a>(pub(super) &'a [u8]);

impl fmt::Display for Presentation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if matches!(rest, [0, ..]) {
            return f.write_str(".");
        }
        while let [length, tail @ ..] = rest
            && *length > 0
        {
            let (label, after) = tail.split_at(tail.len().min(usize::from(*length)));
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(byte))?;
                    }
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
            rest = after;
        }
        Ok(())
    }
}

/// A name in lower case with its labels at hand: the key of every lookup. Lives on the stack.
#[derive(Clone)]
pub(super) struct LowerName {
    bytes: [u8; MAX_NAME],
    /// Where each label's length byte stands, the root's included.
    starts: [u8; MAX_LABELS + 1],
    labels: usize,
}

impl fmt::Debug for LowerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Presentation(self.suffix(0)))
    }
}

impl LowerName {
    const ROOT: Self = Self {
        bytes: [0; MAX_NAME],
        starts: [0; MAX_LABELS + 1],
        labels: 0,
    };

    /// Reads the uncompressed name at the start of `wire`. `None`: it is cut off, too long, or has
    /// a length byte that is no length (compression pointers and the types 0x40, 0x80).
    pub(super) fn read(wire: &[u8]) -> Option<Self> {
        let mut name = Self::ROOT;
        let mut at = 0;
        loop {
            let length = usize::from(*wire.get(at)?);
            let end = at + 1 + length;
            // The root's byte has to fit too.
            if length > MAX_LABEL || end > MAX_NAME || (length > 0 && end == MAX_NAME) {
                return None;
            }
            // Fits: 127 labels of two bytes and the root make 255.
            name.starts[name.labels] = u8::try_from(at).ok()?;
            let label = wire.get(at..end)?;
            name.bytes[at..end].copy_from_slice(label);
            if length == 0 {
                name.bytes[..end].make_ascii_lowercase();
                return Some(name);
            }
            name.labels += 1;
            at = end;
        }
    }

    /// How many labels it has, the root not counted.
    pub(super) fn labels(&self) -> usize {
        self.labels
    }

    /// Its length in wire form.
    pub(super) fn wire_len(&self) -> usize {
        usize::from(self.starts[self.labels]) + 1
    }

    /// The label at `index`, the leftmost is 0, without its length byte.
    pub(super) fn label(&self, index: usize) -> &[u8] {
        let start = usize::from(self.starts[index]);
        &self.bytes[start + 1..start + 1 + usize::from(self.bytes[start])]
    }

    /// The name that is left without the `skip` leftmost labels, in wire form.
    pub(super) fn suffix(&self, skip: usize) -> &[u8] {
        &self.bytes[usize::from(self.starts[skip])..self.wire_len()]
    }

    /// The number of labels that are left of `apex`; `None` if the name is not at or below it.
    pub(super) fn labels_below(&self, apex: &Self) -> Option<usize> {
        let below = self.labels.checked_sub(apex.labels)?;
        (self.suffix(below) == apex.suffix(0)).then_some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, NameError> {
        let origin = Name::from_str("example.com.").expect("valid");
        Name::parse(text.as_bytes(), &origin).map(|name| name.to_string())
    }

    #[test]
    fn names_are_read_as_zone_files_write_them() {
        assert_eq!(parse("www").as_deref(), Ok("www.example.com."));
        assert_eq!(parse("WWW.a.").as_deref(), Ok("WWW.a."));
        assert_eq!(parse("@").as_deref(), Ok("example.com."));
        assert_eq!(parse(".").as_deref(), Ok("."));
        assert_eq!(parse(r"a\.b.").as_deref(), Ok(r"a\.b."));
        assert_eq!(parse(r"a\046b\000.").as_deref(), Ok(r"a\.b\000."));
        assert_eq!(parse("*.w").as_deref(), Ok("*.w.example.com."));
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_reason() {
        assert_eq!(parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(parse(".a"), Err(NameError::EmptyLabel));
        assert_eq!(parse(""), Err(NameError::EmptyLabel));
        assert_eq!(parse(r"a\"), Err(NameError::Escape));
        assert_eq!(parse(r"a\25"), Err(NameError::Escape));
        assert_eq!(parse(r"a\256"), Err(NameError::Escape));
        assert_eq!(parse(&"a".repeat(64)), Err(NameError::LongLabel));
        assert_eq!(
            parse(&format!("{}.", "a".repeat(63))).map(|n| n.len()),
            Ok(64)
        );
        // 124 labels of two bytes and example.com. make 261.
        assert_eq!(parse(&"a.".repeat(128)), Err(NameError::TooLong));
        assert_eq!(parse(&"a.".repeat(127)).map(|n| n.len()), Ok(254));
    }

    #[test]
    fn a_wire_name_is_read_within_its_limits() {
        let longest = [&[1, b'A'][..]; 127].concat();
        let longest = [&longest[..], &[0]].concat();
        let name = LowerName::read(&longest).expect("255 bytes");
        assert_eq!((name.labels(), name.wire_len()), (127, 255));
        assert_eq!(name.label(126), b"a");
        assert!(LowerName::read(&[&[1, b'a'][..], &longest].concat()).is_none());
        for bad in [
            &[][..],
            &[1],
            &[1, b'a'],
            &[0xc0, 0],
            &[0x40, 0],
            &[0x80, 0],
            &[64; 70],
        ] {
            assert!(LowerName::read(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_knows_whether_it_is_below_another() {
        let lower = |text: &str| Name::from_str(text).expect("valid").to_lower();
        let apex = lower("Example.com.");
        assert_eq!(lower("a.b.eXample.com.").labels_below(&apex), Some(2));
        assert_eq!(lower("example.com.").labels_below(&apex), Some(0));
        assert_eq!(lower("com.").labels_below(&apex), None);
        assert_eq!(lower("notexample.com.").labels_below(&apex), None);
        assert_eq!(lower("a.").labels_below(&Name::root().to_lower()), Some(1));
    }
}
