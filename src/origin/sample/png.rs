//! A picture: the data's way through the lab, under the file's name.

use crc_fast::crc32_iso_hdlc;

use super::font;

const WIDTH: usize = 960;
const HEIGHT: usize = 540;

type Colour = [u8; 3];

const WHITE: Colour = [245, 248, 250];
const PALE: Colour = [150, 190, 210];
const DARK: Colour = [16, 24, 40];

/// Draws the picture for the file `name` as a PNG (RFC 2083): 24-bit colour, not compressed.
pub(super) fn draw(name: &str) -> Vec<u8> {
    let mut picture = Picture::new();
    picture.text(48, 40, 8, "labnet", WHITE);
    // The name's letters are six dots wide: smaller ones for a long name.
    let scale = [4, 3, 2, 1]
        .into_iter()
        .find(|scale| 48 + name.len() * 6 * scale <= WIDTH - 48)
        .unwrap_or(1);
    picture.text(48, 116, scale, name, PALE);

    let boxes = [
        (70, 286, "client", [232, 163, 61]),
        (400, 176, "dhcp", [70, 160, 120]),
        (400, 266, "dns", [80, 140, 200]),
        (400, 356, "rudp", [190, 95, 120]),
        (730, 356, "scrap", [140, 110, 190]),
        (730, 446, "origin", [95, 130, 150]),
    ];
    // From the client to dhcp, dns, rudp; on to scrap and the page; and around for the file.
    picture.way(&[(230, 300), (320, 300), (320, 206), (392, 206)]);
    picture.way(&[(230, 316), (350, 316), (350, 296), (392, 296)]);
    picture.way(&[(230, 332), (320, 332), (320, 386), (392, 386)]);
    picture.way(&[(560, 386), (722, 386)]);
    picture.way(&[(810, 416), (810, 438)]);
    picture.way(&[(150, 346), (150, 476), (722, 476)]);
    for (x, y, label, colour) in boxes {
        picture.rectangle(x, y, 160, 60, colour);
        let width = label.len() * 6 * 3 - 3;
        picture.text(x + (160 - width) / 2, y + 20, 3, label, DARK);
    }
    picture.encode()
}

struct Picture(Vec<Colour>);

impl Picture {
    /// A night sky, brighter towards the horizon.
    fn new() -> Self {
        let mut dots = Vec::with_capacity(WIDTH * HEIGHT);
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let shade = |from: usize, to: usize, across: usize| {
                    let value = from + (to - from) * y / HEIGHT + across * x / WIDTH;
                    value.min(255) as u8
                };
                dots.push([shade(14, 30, 10), shade(22, 84, 16), shade(46, 120, 24)]);
            }
        }
        Self(dots)
    }

    fn rectangle(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Colour) {
        for row in self.0.chunks_mut(WIDTH).skip(y).take(height) {
            for dot in row.iter_mut().skip(x).take(width) {
                *dot = colour;
            }
        }
    }

    fn text(&mut self, x: usize, y: usize, scale: usize, text: &str, colour: Colour) {
        for (n, character) in text.bytes().enumerate() {
            for (column, dots) in font::columns(character).into_iter().enumerate() {
                for row in (0..font::HEIGHT).filter(|row| dots >> row & 1 == 1) {
                    let x = x + (n * (font::WIDTH + 1) + column) * scale;
                    self.rectangle(x, y + row * scale, scale, scale, colour);
                }
            }
        }
    }

    /// An arrow along `corners`, each straight below, above or beside the one before.
    fn way(&mut self, corners: &[(usize, usize)]) {
        for pair in corners.windows(2) {
            let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
            let (width, height) = (x1.abs_diff(x2) + 4, y1.abs_diff(y2) + 4);
            self.rectangle(x1.min(x2) - 2, y1.min(y2) - 2, width, height, PALE);
        }
        if let [.., (x1, _), (x2, y2)] = *corners {
            for step in 0..10 {
                if x1 == x2 {
                    self.rectangle(x2 - 9 + step, y2 - 8 + step, 19 - 2 * step, 1, PALE);
                } else {
                    self.rectangle(x2 - 8 + step, y2 - 9 + step, 1, 19 - 2 * step, PALE);
                }
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut rows = Vec::with_capacity((WIDTH * 3 + 1) * HEIGHT);
        for row in self.0.chunks(WIDTH) {
            // Filter 0: the bytes as they are.
            rows.push(0);
            rows.extend(row.as_flattened());
        }
        let mut header = Vec::new();
        header.extend((WIDTH as u32).to_be_bytes());
        header.extend((HEIGHT as u32).to_be_bytes());
        // 8 bits, RGB, deflate, adaptive filters, not interlaced.
        header.extend([8, 2, 0, 0, 0]);
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut png, b"IHDR", &header);
        chunk(&mut png, b"IDAT", &stored(&rows));
        chunk(&mut png, b"IEND", &[]);
        png
    }
}

fn chunk(png: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    png.extend((data.len() as u32).to_be_bytes());
    let start = png.len();
    png.extend(kind);
    png.extend(data);
    let crc = crc32_iso_hdlc(&png[start..]);
    png.extend(crc.to_be_bytes());
}

/// A zlib stream (RFC 1950) of stored blocks (RFC 1951 section 3.2.4).
fn stored(data: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 65_535;
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        stream.push(u8::from(blocks.peek().is_none()));
        let length = block.len() as u16;
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(adler32(data).to_be_bytes());
    stream
}

/// RFC 1950 section 8.2.
fn adler32(data: &[u8]) -> u32 {
    const BASE: u32 = 65_521;
    let (mut a, mut b) = (1, 0);
    // The most bytes that can be summed up before the sums have to be reduced.
    for piece in data.chunks(5_552) {
        for &byte in piece {
            a += u32::from(byte);
            b += a;
        }
        a %= BASE;
        b %= BASE;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standards() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(&[0xff; 100_000]), {
            let (mut a, mut b) = (1u64, 0u64);
            for _ in 0..100_000 {
                a = (a + 255) % 65_521;
                b = (b + a) % 65_521;
            }
            (b << 16 | a) as u32
        });
    }

    #[test]
    fn the_chunks_are_whole() {
        let png = draw("image-site.png");
        let mut rest = png.strip_prefix(b"\x89PNG\r\n\x1a\n").expect("a PNG");
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let (body, after) = rest[4..].split_at(4 + length);
            let crc = u32::from_be_bytes(after[..4].try_into().unwrap());
            assert_eq!(crc32_iso_hdlc(body), crc);
            kinds.push(&body[..4]);
            rest = &after[4..];
        }
        assert_eq!(kinds, [b"IHDR", b"IDAT", b"IEND"]);
        assert!(png.len() > WIDTH * HEIGHT * 3);
    }

    #[test]
    fn the_longest_name_fits() {
        draw(&"x".repeat(super::super::MAX_NAME));
    }
}
