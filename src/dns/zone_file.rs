//! Zone files (RFC 1035 section 5): text into records, each with the line it stands in.

use std::{
    io,
    path::{Path, PathBuf},
};

use hickory_proto::serialize::txt::parse_ttl;

use super::{
    name::Name,
    rdata::{self, RecordType, Token},
};

/// How deep files may include each other.
const MAX_DEPTH: usize = 8;
/// How many `$INCLUDE`s one zone may run through, so that files which include each other many times
/// over cannot keep the loader busy for ever.
const MAX_INCLUDES: usize = 1000;
/// RFC 2181 section 8.
const MAX_TTL: u32 = i32::MAX as u32;

/// Gives a file's bytes. What reads is the caller's, so that a core does no IO.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// What is wrong with a zone, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ZoneError {
    /// The zone file, or one that it includes.
    pub file: PathBuf,
    /// The line, from 1; `None` if it is the file as a whole.
    pub line: Option<usize>,
    /// What is wrong, in words.
    pub reason: String,
}

/// One resource record of a zone file.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) owner: Name,
    pub(super) rtype: RecordType,
    pub(super) ttl: u32,
    pub(super) rdata: Box<[u8]>,
}

/// Reads the zone file at `path` with `origin` as its first origin and gives every record to
/// `accept`. Stops at the first problem; one that `accept` finds gets the record's line.
pub(super) fn read(
    path: &Path,
    origin: &Name,
    read_file: ReadFile<'_>,
    accept: &mut dyn FnMut(Record) -> Result<(), String>,
) -> Result<(), ZoneError> {
    let mut reader = Reader {
        read_file,
        accept,
        open: Vec::new(),
        includes: 0,
        owner: None,
        default_ttl: None,
        last_ttl: None,
    };
    let text = read_file(path).map_err(|error| ZoneError {
        file: path.to_owned(),
        line: None,
        reason: format!("cannot be read: {error}"),
    })?;
    reader.file(path, &text, origin.clone())
}

struct Reader<'a> {
    read_file: ReadFile<'a>,
    accept: &'a mut dyn FnMut(Record) -> Result<(), String>,
    /// The files being read, each included by the one before.
    open: Vec<PathBuf>,
    includes: usize,
    owner: Option<Name>,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, text: &[u8], mut origin: Name) -> Result<(), ZoneError> {
        self.open.push(path.to_owned());
        let mut entries = Entries::new(text);
        while let Some(entry) = entries.next_entry().map_err(at(path))? {
            let line = entry.line;
            let fail = |reason| at(path)((line, reason));
            match entry.directive() {
                Some(directive) => match &directive.to_ascii_uppercase()[..] {
                    b"$ORIGIN" => {
                        let [_, name] = &entry.tokens[..] else {
                            return Err(fail("$ORIGIN takes one domain name".to_owned()));
                        };
                        origin = name.name(&origin).map_err(fail)?;
                    }
                    b"$TTL" => {
                        let [_, ttl] = &entry.tokens[..] else {
                            return Err(fail("$TTL takes one time (3600 or 1h)".to_owned()));
                        };
                        let ttl = ttl.word().and_then(|word| {
                            ttl_of(word)?.ok_or_else(|| format!("{ttl} is not a time (3600 or 1h)"))
                        });
                        self.default_ttl = Some(ttl.map_err(fail)?);
                    }
                    b"$INCLUDE" => {
                        let (file, inner) = match &entry.tokens[..] {
                            [_, file] => (file, origin.clone()),
                            [_, file, name] => (file, name.name(&origin).map_err(fail)?),
                            _ => {
                                let reason = "$INCLUDE takes a file and perhaps a domain name";
                                return Err(fail(reason.to_owned()));
                            }
                        };
                        let (file, text) = self.open_include(path, file).map_err(fail)?;
                        // The owner that an included file ends with is not the outer file's.
                        let owner = self.owner.clone();
                        self.file(&file, &text, inner)?;
                        self.owner = owner;
                    }
                    _ => return Err(fail(format!("{} is not supported", entry.tokens[0]))),
                },
                None => {
                    let record = self.record(&entry, &origin).map_err(fail)?;
                    (self.accept)(record).map_err(fail)?;
                }
            }
        }
        self.open.pop();
        Ok(())
    }

    fn open_include(&mut self, outer: &Path, file: &Token) -> Result<(PathBuf, Vec<u8>), String> {
        let name = str::from_utf8(&file.text).map_err(|_| format!("{file} is not UTF-8"))?;
        // Relative paths are relative to the file that includes.
        let path = outer.parent().unwrap_or(Path::new("")).join(name);
        if self.open.contains(&path) {
            return Err(format!("{file} includes itself"));
        }
        self.includes += 1;
        if self.open.len() >= MAX_DEPTH || self.includes > MAX_INCLUDES {
            return Err(format!(
                "too many $INCLUDEs: {MAX_DEPTH} deep and {MAX_INCLUDES} in all are the limit"
            ));
        }
        match (self.read_file)(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        }
    }

    /// `[name] [ttl] [class] type data`, TTL and class in either order.
    fn record(&mut self, entry: &Entry, origin: &Name) -> Result<Record, String> {
        let mut tokens = &entry.tokens[..];
        let owner = if entry.indented {
            self.owner
                .clone()
                .ok_or("the first record needs a name at the start of its line")?
        } else {
            let [name, rest @ ..] = tokens else {
                return Err("an empty entry".to_owned());
            };
            tokens = rest;
            name.name(origin)?
        };
        let mut ttl = None;
        let mut class = false;
        let rtype = loop {
            let [token, rest @ ..] = tokens else {
                return Err("a record needs a type and data".to_owned());
            };
            tokens = rest;
            let word = token.word()?;
            if ttl.is_none()
                && let Some(seconds) = ttl_of(word)?
            {
                ttl = Some(seconds);
            } else if !class && word.eq_ignore_ascii_case("IN") {
                class = true;
            } else if ["CH", "HS", "CS"]
                .iter()
                .any(|c| word.eq_ignore_ascii_case(c))
            {
                return Err(format!("class {word} is not supported, only IN"));
            } else {
                break RecordType::parse(word)
                    .ok_or_else(|| format!("{token} is no record type known here"))?;
            }
        };
        if !rtype.is_data() {
            return Err(format!("{rtype} records are not supported in a zone file"));
        }
        let rdata = rdata::read(rtype, tokens, origin)?;
        let ttl = match (ttl, self.default_ttl, self.last_ttl) {
            (Some(ttl), ..) => {
                self.last_ttl = Some(ttl);
                ttl
            }
            (None, Some(ttl), _) | (None, None, Some(ttl)) => ttl,
            (None, None, None) => {
                return Err(
                    "no TTL is known: write '$TTL 1h' at the top, or a TTL in this line".to_owned(),
                );
            }
        };
        self.owner = Some(owner.clone());
        Ok(Record {
            owner,
            rtype,
            ttl,
            rdata,
        })
    }
}

/// The word as a TTL: `None` if it is no time at all.
fn ttl_of(word: &str) -> Result<Option<u32>, String> {
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(None);
    }
    match parse_ttl(word) {
        Ok(ttl) if ttl <= MAX_TTL => Ok(Some(ttl)),
        Ok(_) => Err(format!("a TTL of {word} is more than {MAX_TTL} seconds")),
        Err(_) => Err(format!("'{word}' is not a time (3600 or 1h)")),
    }
}

fn at(file: &Path) -> impl Fn((usize, String)) -> ZoneError {
    move |(line, reason)| ZoneError {
        file: file.to_owned(),
        line: Some(line),
        reason,
    }
}

/// One entry: a line, or several that parentheses join.
struct Entry {
    line: usize,
    /// Whether it starts with white space: the owner is the last one's.
    indented: bool,
    tokens: Vec<Token>,
}

impl Entry {
    fn directive(&self) -> Option<&[u8]> {
        let first = self.tokens.first()?;
        (!self.indented && !first.quoted && first.text.starts_with(b"$")).then_some(&first.text[..])
    }
}

/// Cuts a zone file's text into entries.
struct Entries<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Entries<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            // Editors of Windows put a byte order mark in front.
            rest: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text),
            line: 1,
        }
    }

    /// The next entry that holds something, or the line of a mistake and the reason.
    fn next_entry(&mut self) -> Result<Option<Entry>, (usize, String)> {
        while !self.rest.is_empty() {
            let entry = self.entry()?;
            if !entry.tokens.is_empty() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn entry(&mut self) -> Result<Entry, (usize, String)> {
        let mut entry = Entry {
            line: self.line,
            indented: matches!(self.rest, [b' ' | b'\t', ..]),
            tokens: Vec::new(),
        };
        let mut opened = None;
        while let [first, tail @ ..] = self.rest {
            match first {
                b'\n' => {
                    self.rest = tail;
                    self.line += 1;
                    if opened.is_none() {
                        return Ok(entry);
                    }
                }
                b' ' | b'\t' | b'\r' => self.rest = tail,
                b';' => {
                    let end = tail.iter().position(|&byte| byte == b'\n');
                    self.rest = &tail[end.unwrap_or(tail.len())..];
                }
                b'(' if opened.is_none() => {
                    opened = Some(self.line);
                    self.rest = tail;
                }
                b')' if opened.is_some() => {
                    opened = None;
                    self.rest = tail;
                }
                b'(' => return Err((self.line, "a '(' inside of parentheses".to_owned())),
                b')' => return Err((self.line, "a ')' without its '('".to_owned())),
                b'"' => {
                    self.rest = tail;
                    let text = self.take_until(|byte| byte == b'"')?;
                    let [b'"', tail @ ..] = self.rest else {
                        return Err((self.line, "a quoted string without its end".to_owned()));
                    };
                    self.rest = tail;
                    entry.tokens.push(Token { text, quoted: true });
                }
                _ => {
                    let text = self.take_until(|byte| {
                        matches!(byte, b' ' | b'\t' | b'\r' | b';' | b'(' | b')' | b'"')
                    })?;
                    entry.tokens.push(Token {
                        text,
                        quoted: false,
                    });
                }
            }
        }
        match opened {
            Some(line) => Err((line, "a '(' without its ')'".to_owned())),
            None => Ok(entry),
        }
    }

    /// Takes what comes before a byte that ends the token, a newline or the file's end.
    fn take_until(&mut self, ends: impl Fn(u8) -> bool) -> Result<Vec<u8>, (usize, String)> {
        let mut length = 0;
        while let Some(&byte) = self.rest.get(length) {
            match byte {
                b'\\' => match self.rest.get(length + 1) {
                    None | Some(b'\n' | b'\r') => {
                        let reason = "a backslash at the end of the line";
                        return Err((self.line, reason.to_owned()));
                    }
                    Some(_) => length += 2,
                },
                b'\n' => break,
                byte if ends(byte) => break,
                _ => length += 1,
            }
        }
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(text.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut records = Vec::new();
        let read_file = |path: &Path| {
            files
                .iter()
                .find(|(name, _)| Path::new("/z").join(name) == path)
                .map(|(_, text)| text.as_bytes().to_vec())
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        let origin: Name = "example.com.".parse().expect("valid");
        let result = read(Path::new("/z/main"), &origin, &read_file, &mut |record| {
            let Record {
                owner,
                rtype,
                ttl,
                rdata,
            } = record;
            records.push(format!("{owner} {ttl} {rtype} {}", rdata.len()));
            Ok(())
        });
        result.map(|()| records).map_err(|error| error.to_string())
    }

    fn one(text: &str) -> Result<Vec<String>, String> {
        load(&[("main", text)])
    }

    #[test]
    fn the_notation_of_rfc_1035_is_read() {
        let zone = "\u{feff}$TTL 1h ; default\r\n\
            @ IN SOA ns1 host\\.master (\n  7 ; serial\n  1d 2h ; refresh (retry)\n  1w 5m )\n\
            \tNS ns1\n\
            \n  ; nothing here\n\
            www 60 IN A 192.0.2.1\n\
            \tIN 61 AAAA 2001:db8::1\n\
            \tA 192.0.2.2\n\
            $origin sub\n\
            a TXT \"semi;colon (paren)\" ( \"two\"\n\"three\" )\n\
            absolute.example.com. MX 10 @";
        assert_eq!(
            one(zone).expect("reads"),
            [
                "example.com. 3600 SOA 62",
                "example.com. 3600 NS 17",
                "www.example.com. 60 A 4",
                "www.example.com. 61 AAAA 16",
                "www.example.com. 3600 A 4",
                "a.sub.example.com. 3600 TXT 29",
                "absolute.example.com. 3600 MX 19",
            ]
        );
    }

    #[test]
    fn without_a_default_the_last_ttl_holds() {
        let zone = "a 60 A 192.0.2.1\nb A 192.0.2.2";
        assert_eq!(one(zone).expect("reads")[1], "b.example.com. 60 A 4");
        assert!(
            one("a A 192.0.2.1")
                .expect_err("no TTL")
                .contains("/z/main:1: no TTL is known")
        );
    }

    #[test]
    fn files_include_files() {
        let files = [
            (
                "main",
                "$TTL 9\na A 192.0.2.1\n$INCLUDE sub/one inner\n A 192.0.2.2",
            ),
            ("sub/one", "b A 192.0.2.3\n$ORIGIN x.\n$INCLUDE two"),
            ("sub/two", "c A 192.0.2.4"),
        ];
        let owners: Vec<_> = load(&files).expect("reads");
        assert_eq!(
            owners,
            [
                "a.example.com. 9 A 4",
                "b.inner.example.com. 9 A 4",
                "c.x. 9 A 4",
                "a.example.com. 9 A 4"
            ]
        );
        let problem = load(&[("main", "\n$INCLUDE one"), ("one", "$INCLUDE one")]);
        assert_eq!(
            problem.expect_err("loop"),
            "/z/one:1: 'one' includes itself"
        );
        let problem = load(&[("main", "\n$INCLUDE gone")]).expect_err("absent");
        assert!(
            problem.starts_with("/z/main:2: /z/gone cannot be read: "),
            "{problem}"
        );
        assert!(
            load(&[])
                .expect_err("absent")
                .starts_with("/z/main: cannot be read")
        );
    }

    #[test]
    fn a_mistake_has_its_line_and_its_reason() {
        for (text, problem) in [
            (
                "$TTL 1h\nwww A 192.0.2",
                "2: '192.0.2' is not an IPv4 address",
            ),
            (
                "$TTL 1h\n\n\nwww AA 192.0.2.1",
                "4: 'AA' is no record type known here",
            ),
            ("www 1h A", "1: A misses an IPv4 address"),
            ("www 1h", "1: a record needs a type and data"),
            (
                " 1h A 192.0.2.1",
                "1: the first record needs a name at the start of its line",
            ),
            (
                "www 1h CH A 192.0.2.1",
                "1: class CH is not supported, only IN",
            ),
            (
                "www 99999999999 A 192.0.2.1",
                "1: '99999999999' is not a time (3600 or 1h)",
            ),
            (
                "www 3000000000 A 192.0.2.1",
                "1: a TTL of 3000000000 is more than 2147483647 seconds",
            ),
            (
                "www 1h TYPE41 \\# 0",
                "1: TYPE41 records are not supported in a zone file",
            ),
            (
                "www 1h DNAME x.",
                "1: DNAME records are not supported in a zone file",
            ),
            (
                "$GENERATE 1-9 a A 192.0.2.$",
                "1: '$GENERATE' is not supported",
            ),
            ("$TTL", "1: $TTL takes one time (3600 or 1h)"),
            ("$TTL x", "1: 'x' is not a time (3600 or 1h)"),
            ("$ORIGIN", "1: $ORIGIN takes one domain name"),
            (
                "$ORIGIN a..b",
                "1: 'a..b' is no domain name: a label is empty (two dots in a row?)",
            ),
            ("a 1 A (\n192.0.2.1\n\n", "1: a '(' without its ')'"),
            ("a 1 A 192.0.2.1 )", "1: a ')' without its '('"),
            ("a 1 A ((", "1: a '(' inside of parentheses"),
            (
                "\na 1 TXT \"abc\nb 1 TXT d\"",
                "2: a quoted string without its end",
            ),
            (
                "a 1 TXT abc\\\nb 1 TXT d",
                "1: a backslash at the end of the line",
            ),
            (
                "a 1 SOA ns1 h (\n1 2\n3 x 5 )",
                "1: 'x' is not a time (3600 or 1h)",
            ),
        ] {
            assert_eq!(one(text).expect_err(text), format!("/z/main:{problem}"));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let origin = Name::root();
            let _ = read(Path::new("x"), &origin, &|_| Ok(text.clone()), &mut |_| Ok(()));
        }

        #[test]
        fn no_mutation_of_a_zone_makes_it_panic(
            at in 0_usize..200,
            with in proptest::collection::vec(proptest::sample::select(
                b"\\\"();@$ \n.*0129azIN\xff\x00".to_vec()), 0..6),
        ) {
            let mut text = b"$TTL 1h\n@ IN SOA ns1 admin ( 7 1d 2h 1w 5m )\n NS ns1\n\
                $ORIGIN sub\nwww 60 IN CAA 0 issue \"ca;test\"\n x TYPE9 \\# 2 beef\n\
                y SSHFP 1 1 abcd\nz NAPTR 1 2 u \"E2U\" \"!\" .\n".to_vec();
            let at = at.min(text.len());
            text.splice(at..(at + 1).min(text.len()), with);
            let _ = read(Path::new("x"), &Name::root(), &|_| Ok(text.clone()), &mut |_| Ok(()));
        }
    }
}
