//! A ZIP archive of any size: stored text files of which every line says where it stands.

use std::sync::OnceLock;

use crc_fast::{CrcAlgorithm, Digest, crc32_iso_hdlc};

use super::{MODIFIED, copy};
use crate::origin::number::grouped;

/// An archive. Its layout: the read-me's header and text, then for each part its header and its
/// lines, then the central directory.
///
/// All headers of parts have the same length, and all parts but the last.
pub(super) struct Zip {
    name: String,
    size: u64,
    readme: Vec<u8>,
    part_length: u64,
    last_length: u64,
    /// One a part, known once it has been needed.
    crcs: Vec<OnceLock<u32>>,
    directory: OnceLock<Vec<u8>>,
}

/// About how long a part is: its CRC-32 comes before its first byte, and takes a pass over it.
const PART: u64 = 10_000_000;
/// Without ZIP64, sizes and offsets have 32 bits.
const MAX_SIZE: u64 = 4_000_000_000;
const README: &str = "README.txt";
const LOCAL_HEADER: usize = 30;
const DIRECTORY_ENTRY: usize = 46;
const DIRECTORY_END: usize = 22;

fn part_name(part: usize) -> String {
    format!("part-{part:03}.txt")
}

/// Length of a part's name: the largest archive has some 400 of them.
const PART_NAME: usize = "part-000.txt".len();
const PART_HEADER: u64 = (LOCAL_HEADER + PART_NAME) as u64;

impl Zip {
    /// The archive `name` of `size` bytes; `None` if it cannot be that small or that large.
    pub(super) fn new(name: &str, size: u64) -> Option<Self> {
        if size > MAX_SIZE {
            return None;
        }
        let text = readme(name, size);
        let head = Entry {
            name: README,
            crc: crc32_iso_hdlc(text.as_bytes()),
            length: text.len() as u64,
        };
        let readme = [&head.local_header(), text.as_bytes()].concat();
        let directory = DIRECTORY_ENTRY + README.len() + DIRECTORY_END;
        let room = size.checked_sub((readme.len() + directory) as u64)?;
        let around = PART_HEADER + (DIRECTORY_ENTRY + PART_NAME) as u64;
        let parts = room.div_ceil(PART + around).max(1);
        let data = room.checked_sub(parts * around).filter(|&data| data > 0)?;
        let part_length = data / parts / LINE as u64 * LINE as u64;
        Some(Self {
            name: name.to_owned(),
            size,
            readme,
            part_length,
            last_length: data - part_length * (parts - 1),
            crcs: (0..parts).map(|_| OnceLock::new()).collect(),
            directory: OnceLock::new(),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.size
    }

    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            let copied =
                self.read_piece(offset.saturating_add(filled as u64), &mut buffer[filled..]);
            if copied == 0 {
                break;
            }
            filled += copied;
        }
        filled
    }

    /// Reads to the end of the header, of the part or of whatever `offset` is in.
    fn read_piece(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let Some(offset) = offset.checked_sub(self.readme.len() as u64) else {
            return copy(&self.readme, offset, buffer);
        };
        let last = self.crcs.len() - 1;
        let stride = PART_HEADER + self.part_length;
        // A lone part may be shorter than a line.
        let part = usize::try_from(offset / stride).map_or(last, |part| part.min(last));
        let within = offset - part as u64 * stride;
        let Some(within) = within.checked_sub(PART_HEADER) else {
            return copy(
                &self.entry(part, &part_name(part + 1)).local_header(),
                within,
                buffer,
            );
        };
        let length = self.part_length(part);
        match within.checked_sub(length) {
            None => {
                let left = usize::try_from(length - within).unwrap_or(usize::MAX);
                let length = buffer.len().min(left);
                Lines::new(&self.name, part + 1).fill(within, &mut buffer[..length]);
                length
            }
            Some(behind) => copy(self.directory(), behind, buffer),
        }
    }

    fn part_length(&self, part: usize) -> u64 {
        if part + 1 == self.crcs.len() {
            self.last_length
        } else {
            self.part_length
        }
    }

    fn entry<'a>(&self, part: usize, name: &'a str) -> Entry<'a> {
        let length = self.part_length(part);
        let crc = self.crcs[part].get_or_init(|| {
            let lines = Lines::new(&self.name, part + 1);
            let mut crc = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
            let mut buffer = [0; 16 * 1024];
            let mut at = 0;
            while at < length {
                let left = usize::try_from(length - at).unwrap_or(usize::MAX);
                let piece = buffer.len().min(left);
                lines.fill(at, &mut buffer[..piece]);
                crc.update(&buffer[..piece]);
                at += piece as u64;
            }
            // A CRC of 32 bits.
            crc.finalize() as u32
        });
        Entry {
            name,
            crc: *crc,
            length,
        }
    }

    fn directory(&self) -> &[u8] {
        self.directory.get_or_init(|| {
            let text = &self.readme[LOCAL_HEADER + README.len()..];
            let readme = Entry {
                name: README,
                crc: crc32_iso_hdlc(text),
                length: text.len() as u64,
            };
            let mut directory = readme.directory_entry(0);
            let mut offset = self.readme.len() as u64;
            for part in 0..self.crcs.len() {
                let name = part_name(part + 1);
                directory.extend(self.entry(part, &name).directory_entry(offset));
                offset += PART_HEADER + self.part_length(part);
            }
            directory_end(self.crcs.len() + 1, directory.len(), offset)
                .iter()
                .for_each(|&byte| directory.push(byte));
            directory
        })
    }
}

fn readme(name: &str, size: u64) -> String {
    format!(
        "{name}: {} bytes, made up by labnet as they are read,\n\
         the same on every machine.\n\n\
         Every line of the parts beside this file says which part and which line\n\
         it is and at which byte of the part it starts: a byte that got lost or\n\
         went astray is easily found. The last line of a part may be cut short.\n",
        grouped(size)
    )
}

/// What the headers say of a file. APPNOTE.TXT section 4.3 has their layout.
struct Entry<'a> {
    name: &'a str,
    crc: u32,
    length: u64,
}

impl Entry<'_> {
    fn local_header(&self) -> Vec<u8> {
        let mut header = b"PK\x03\x04".to_vec();
        self.common(&mut header);
        header.extend(self.name.as_bytes());
        header
    }

    fn directory_entry(&self, offset: u64) -> Vec<u8> {
        let mut entry = b"PK\x01\x02".to_vec();
        // Made by version 3.0 on Unix.
        push16(&mut entry, 3 << 8 | 30);
        self.common(&mut entry);
        // No comment, first disk, text, readable by all and writable by the owner.
        push16(&mut entry, 0);
        push16(&mut entry, 0);
        push16(&mut entry, 1);
        push32(&mut entry, 0o100_644 << 16);
        push32(&mut entry, offset);
        entry.extend(self.name.as_bytes());
        entry
    }

    /// What both kinds of header share, from the version needed to the length of the extra field.
    fn common(&self, header: &mut Vec<u8>) {
        // Version 1.0, no flags, stored.
        push16(header, 10);
        push16(header, 0);
        push16(header, 0);
        let (time, date) = dos_time();
        push16(header, time);
        push16(header, date);
        push32(header, u64::from(self.crc));
        push32(header, self.length);
        push32(header, self.length);
        push16(header, self.name.len() as u64);
        push16(header, 0);
    }
}

fn directory_end(entries: usize, length: usize, offset: u64) -> Vec<u8> {
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    push16(&mut end, entries as u64);
    push16(&mut end, entries as u64);
    push32(&mut end, length as u64);
    push32(&mut end, offset);
    push16(&mut end, 0);
    end
}

/// Every number here is below its field's limit because of MAX_SIZE.
fn push16(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(&number.to_le_bytes()[..2]);
}

fn push32(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(&number.to_le_bytes()[..4]);
}

/// MODIFIED as MS-DOS writes it.
fn dos_time() -> (u64, u64) {
    debug_assert_eq!(MODIFIED.as_secs(), 1_682_672_342);
    let (year, month, day) = (2023, 4, 28);
    let (hour, minute, second) = (8, 59, 2);
    (
        (hour << 11) | (minute << 5) | (second / 2),
        ((year - 1980) << 9) | (month << 5) | day,
    )
}

/// The lines of a part, 64 bytes each:
/// `50MB.zip part 001 line 0000001 byte 00000000 ` and the characters of RFC 864, one further with
/// each line.
struct Lines {
    template: [u8; LINE],
    number: usize,
    byte: usize,
    filler: usize,
}

const LINE: usize = 64;
const NUMBER_DIGITS: usize = 7;
const BYTE_DIGITS: usize = 8;
/// A longer name of the archive is cut in the lines.
const LINE_NAME: usize = 16;

/// The printable characters, twice: a line's filler is one slice of them.
const CHARACTERS: [u8; 2 * 95] = {
    let mut characters = [0; 2 * 95];
    let mut at = 0;
    while at < characters.len() {
        characters[at] = b' ' + (at % 95) as u8;
        at += 1;
    }
    characters
};

impl Lines {
    fn new(archive: &str, part: usize) -> Self {
        let archive = archive.get(..LINE_NAME).unwrap_or(archive);
        let before = format!("{archive} part {part:03} line ");
        let between = " byte ";
        let number = before.len();
        let byte = number + NUMBER_DIGITS + between.len();
        let filler = byte + BYTE_DIGITS + 1;
        let mut template = [b' '; LINE];
        template[..number].copy_from_slice(before.as_bytes());
        template[number + NUMBER_DIGITS..byte].copy_from_slice(between.as_bytes());
        template[LINE - 1] = b'\n';
        Self {
            template,
            number,
            byte,
            filler,
        }
    }

    /// Fills `buffer` with the part's bytes from `offset` on.
    fn fill(&self, offset: u64, buffer: &mut [u8]) {
        let mut line = offset / LINE as u64;
        let skipped = (offset % LINE as u64) as usize;
        let mut rest = buffer;
        if skipped > 0 {
            let mut whole = [0; LINE];
            self.write(line, &mut whole);
            let length = rest.len().min(LINE - skipped);
            rest[..length].copy_from_slice(&whole[skipped..skipped + length]);
            rest = &mut rest[length..];
            line += 1;
        }
        let (lines, end) = rest.as_chunks_mut::<LINE>();
        for buffer in lines {
            self.write(line, buffer);
            line += 1;
        }
        let mut whole = [0; LINE];
        self.write(line, &mut whole);
        let length = end.len();
        end.copy_from_slice(&whole[..length]);
    }

    fn write(&self, line: u64, buffer: &mut [u8; LINE]) {
        *buffer = self.template;
        let number: [u8; NUMBER_DIGITS] = digits(line + 1);
        buffer[self.number..][..NUMBER_DIGITS].copy_from_slice(&number);
        let byte: [u8; BYTE_DIGITS] = digits(line * LINE as u64);
        buffer[self.byte..][..BYTE_DIGITS].copy_from_slice(&byte);
        let filler = &mut buffer[self.filler..LINE - 1];
        let from = (line % 95) as usize;
        filler.copy_from_slice(&CHARACTERS[from..from + filler.len()]);
    }
}

/// The last digits of what counts lines and bytes of a part: less than 2^32, which is faster to
/// divide than 64 bits.
fn digits<const N: usize>(number: u64) -> [u8; N] {
    let mut number = number as u32;
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::sample::{Sample, sample, tests::read};

    fn number(bytes: &[u8], at: usize, length: usize) -> usize {
        let field = bytes[at..at + length].iter().rev();
        field.fold(0, |number, &byte| number << 8 | usize::from(byte))
    }

    /// Reads an archive as an unpacker does, from its end: (name, contents) of each entry.
    fn unpack(archive: &[u8]) -> Vec<(String, &[u8])> {
        let end = archive.len() - DIRECTORY_END;
        assert_eq!(archive[end..end + 4], *b"PK\x05\x06");
        let entries = number(archive, end + 10, 2);
        let mut at = number(archive, end + 16, 4);
        assert_eq!(at + number(archive, end + 12, 4), end);
        let mut unpacked = Vec::new();
        let mut expected_offset = 0;
        for _ in 0..entries {
            assert_eq!(archive[at..at + 4], *b"PK\x01\x02");
            let name = &archive[at + 46..at + 46 + number(archive, at + 28, 2)];
            let (crc, length) = (number(archive, at + 16, 4), number(archive, at + 24, 4));
            let local = number(archive, at + 42, 4);
            assert_eq!(local, expected_offset);
            assert_eq!(archive[local..local + 4], *b"PK\x03\x04");
            assert_eq!(archive[local + 4..local + 30], archive[at + 6..at + 32]);
            assert_eq!(archive[local + 30..local + 30 + name.len()], *name);
            let start = local + 30 + name.len();
            let contents = &archive[start..start + length];
            assert_eq!(crc32_iso_hdlc(contents) as usize, crc);
            expected_offset = start + length;
            at += 46 + name.len();
            unpacked.push((String::from_utf8(name.to_vec()).unwrap(), contents));
        }
        assert_eq!(at, end);
        unpacked
    }

    #[test]
    fn the_archive_is_whole() {
        for (name, entries) in [
            ("1kB.zip", 2),
            ("2kB.zip", 2),
            ("1MB.zip", 2),
            ("10MB.zip", 2),
            ("20MB.zip", 3),
            ("21MB.zip", 4),
        ] {
            let archive = read(&sample(name).expect(name));
            let unpacked = unpack(&archive);
            assert_eq!(unpacked.len(), entries, "{name}");
            assert_eq!(unpacked[0].0, "README.txt");
            assert_eq!(unpacked[1].0, "part-001.txt");
            assert!(str::from_utf8(unpacked[0].1).unwrap().starts_with(name));
        }
    }

    #[test]
    fn every_size_has_its_archive() {
        // Around the sizes at which one more part is needed.
        let edge = PART + 200;
        for size in (900..1500).chain(edge - 300..edge + 700).step_by(7) {
            match Zip::new("x.zip", size) {
                Some(zip) => {
                    let parts = zip.crcs.len() as u64;
                    let directory = DIRECTORY_END
                        + DIRECTORY_ENTRY
                        + README.len()
                        + zip.crcs.len() * (DIRECTORY_ENTRY + PART_NAME);
                    let sum = zip.readme.len() as u64
                        + parts * PART_HEADER
                        + (parts - 1) * zip.part_length
                        + zip.last_length
                        + directory as u64;
                    assert_eq!(sum, size);
                    assert!(zip.last_length > 0);
                }
                None => assert!(size < 1000),
            }
        }
    }

    #[test]
    fn lines_say_where_they_stand() {
        let archive = read(&sample("20MB.zip").expect("a sample"));
        let unpacked = unpack(&archive);
        let lines = str::from_utf8(unpacked[2].1).unwrap().split_inclusive('\n');
        let mut at = 0;
        for (n, line) in lines.enumerate().step_by(997) {
            at = n * LINE;
            let place = format!("20MB.zip part 002 line {:07} byte {at:08} ", n + 1);
            assert!(line.starts_with(&place), "{line:?}");
        }
        assert!(at > 9_000_000);
    }

    #[test]
    fn a_read_across_headers_and_parts_equals_the_read_of_all() {
        let name = "21MB.zip";
        let archive = read(&sample(name).expect("a sample"));
        let starts = archive
            .windows(2)
            .enumerate()
            .filter(|(_, two)| two == b"PK");
        for (at, _) in starts {
            // A fresh one: no CRC known yet.
            let sample: Sample = sample(name).expect("a sample");
            let from = at.saturating_sub(100);
            let mut part = vec![0; 250.min(archive.len() - from)];
            assert_eq!(sample.read_at(from as u64, &mut part), part.len());
            assert_eq!(part, archive[from..from + part.len()]);
        }
    }
}
