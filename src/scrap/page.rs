//! From an HTML page to the files that it links to.

use std::cell::{Cell, RefCell};

use html5ever::{
    tendril::StrTendril,
    tokenizer::{
        BufferQueue, ParseError, StartTag, Tag, TagToken, Token, TokenSink, TokenSinkResult,
        Tokenizer, TokenizerOpts, states::RawKind,
    },
};
use percent_encoding::percent_decode_str;
use url::Url;

use super::catalog::{Catalog, File, MAX_FILES};

/// Longest link that is looked at, in bytes: what servers take as a request's target.
const MAX_LINK: usize = 8 * 1024;
/// Most links that are kept: a page may link to each file more than once (name, icon).
const MAX_LINKS: usize = 4 * MAX_FILES;
/// A token longer than this is skipped, up to the next `>`. The tokenizer compares each attribute
/// with all earlier ones of its tag: without a bound, a page that is one tag would take hours.
const MAX_TOKEN: usize = 16 * 1024;
/// How much is fed to the tokenizer before a token's length is looked at again.
const PIECE: usize = 4 * 1024;

/// The files that the page `html`, found at `page`, links to.
///
/// A file is an `<a href>` of the page's own scheme, host and port whose path has a last segment: no
/// folder (a trailing slash), not the page itself (fragments, links that sort it). Its fragment and
/// its credentials are dropped, its query stays; its name is the last segment of the path, decoded.
/// `<base href>` is honoured. See [`Catalog::new`] for what is left out beyond that.
pub fn files(html: &[u8], page: &Url) -> Catalog {
    let Links { base, hrefs, .. } = links(&String::from_utf8_lossy(html));
    let base = base
        .and_then(|href| page.join(&href).ok())
        .unwrap_or_else(|| page.clone());
    Catalog::new(hrefs.iter().filter_map(|href| file(href, &base, page)))
}

fn file(href: &str, base: &Url, page: &Url) -> Option<File> {
    let mut url = base.join(href).ok()?;
    if url.origin() != page.origin() || url.path() == page.path() {
        return None;
    }
    let name = url.path_segments()?.next_back()?;
    // Empty: a folder. Bytes that are no UTF-8 become U+FFFD: the file can still be fetched.
    let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
    url.set_fragment(None);
    // An http URL can have both: these cannot fail.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(File { name, url })
}

/// What the tokenizer found, in the page's order.
#[derive(Default)]
struct Links {
    base: Option<String>,
    hrefs: Vec<String>,
}

fn links(html: &str) -> Links {
    let found = RefCell::default();
    let mut rest = html;
    while !rest.is_empty() {
        rest = tokenize(rest, &found);
    }
    found.into_inner()
}

/// Tokenizes `html` and gives back what is left of it after a token that was too long.
fn tokenize<'a>(html: &'a str, found: &RefCell<Links>) -> &'a str {
    let tokenizer = Tokenizer::new(
        Sink {
            found,
            emitted: Cell::new(false),
        },
        TokenizerOpts::default(),
    );
    let input = BufferQueue::default();
    let mut rest = html;
    let mut unfinished = 0;
    while !rest.is_empty() {
        let end = (PIECE..rest.len()).find(|&end| rest.is_char_boundary(end));
        let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        input.push_back(StrTendril::from(piece));
        // The sink neither runs scripts nor changes the encoding: the input is always used up.
        let _ = tokenizer.feed(&input);
        unfinished = if tokenizer.sink.emitted.take() {
            0
        } else {
            unfinished + piece.len()
        };
        if unfinished > MAX_TOKEN {
            let end = rest.find('>').map_or(rest.len(), |end| end + 1);
            return &rest[end..];
        }
    }
    tokenizer.end();
    rest
}

struct Sink<'a> {
    found: &'a RefCell<Links>,
    emitted: Cell<bool>,
}

impl TokenSink for Sink<'_> {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        // A tag under way may have any number of errors.
        if !matches!(token, ParseError(_)) {
            self.emitted.set(true);
        }
        let TagToken(tag) = token else {
            return TokenSinkResult::Continue;
        };
        if tag.kind != StartTag {
            return TokenSinkResult::Continue;
        }
        match &*tag.name {
            "a" => {
                let mut found = self.found.borrow_mut();
                if found.hrefs.len() < MAX_LINKS {
                    found.hrefs.extend(href(&tag));
                }
            }
            "base" => {
                let mut found = self.found.borrow_mut();
                if found.base.is_none() {
                    found.base = href(&tag);
                }
            }
            // What looks like a tag inside of these is text (the HTML standard, section 13.2.5).
            "script" => return TokenSinkResult::RawData(RawKind::ScriptData),
            "style" | "xmp" | "iframe" | "noembed" | "noframes" => {
                return TokenSinkResult::RawData(RawKind::Rawtext);
            }
            "title" | "textarea" => return TokenSinkResult::RawData(RawKind::Rcdata),
            "plaintext" => return TokenSinkResult::Plaintext,
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

fn href(tag: &Tag) -> Option<String> {
    let href = tag.attrs.iter().find(|attr| &*attr.name.local == "href")?;
    (href.value.len() <= MAX_LINK).then(|| href.value.to_string())
}
