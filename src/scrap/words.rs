//! The scraper's list in plain words.

use super::request::{NONE, Parsed, Request, parse};
use crate::{
    text::{SHORT, printable},
    watch::{
        event::packet::{Direction, Packet, Role},
        words::{Read, Reading},
    },
};

/// A reader of the questions for the list, and of what answers them.
pub fn reader() -> Box<dyn Read> {
    Box::new(Reader)
}

struct Reader;

impl Read for Reader {
    fn read(&mut self, packet: &Packet<'_>) -> Reading {
        let by_scraper = packet.place.label.role == Role::Scrap;
        let is_sent = packet.fate.direction() == Direction::Sent;
        if by_scraper == is_sent {
            answer(packet.payload)
        } else {
            question(packet.payload)
        }
    }
}

fn question(bytes: &[u8]) -> Reading {
    match parse(bytes, true) {
        Parsed::Request(Request::List) => Reading::message("SIGNGET", "which files are there?"),
        Parsed::Request(Request::Url(name)) => {
            let name = printable(&name, SHORT);
            Reading::message("SIGNURL", format!("where is {name}?")).with("file", name)
        }
        Parsed::Incomplete | Parsed::Invalid => Reading::unreadable("no question for the list"),
    }
}

fn answer(bytes: &[u8]) -> Reading {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    if text == NONE.trim_end() {
        return Reading::message("SIGNNONE", "the page links to no file of this name");
    }
    if text.contains("://") {
        let url = printable(text, SHORT);
        return Reading::message("url", format!("the file is at {url}")).with("url", url);
    }
    let files = text.split(';').filter(|name| !name.is_empty()).count();
    let plural = if files == 1 { "" } else { "s" };
    Reading::message(
        "list",
        format!("list: the page links to {files} file{plural}"),
    )
    .with("files", files)
}
