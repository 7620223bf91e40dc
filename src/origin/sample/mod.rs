//! Sample files made up as they are read: no disk, the same bytes every time and everywhere.
//!
//! Each is really of the type and the size that its name says and opens in its viewer.

mod font;
mod pdf;
mod png;
mod zip;

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use ring::digest::{Context, SHA256};
use zip::Zip;

/// When every sample was "last modified": the moment of a datagram recorded from the first labnet,
/// 2023-04-28 08:59:02 UTC.
const MODIFIED: Duration = Duration::from_secs(1_682_672_342);

/// To be raised with each change of any sample's bytes: part of the entity tags, so that nobody
/// resumes a file that has become another.
const GENERATION: u32 = 1;

/// Longest name of a sample, in bytes.
const MAX_NAME: usize = 100;

/// A sample file.
pub struct Sample {
    name: String,
    form: Form,
    sha256: OnceLock<[u8; 32]>,
}

enum Form {
    /// A function of the offset.
    Zip(Zip),
    /// Small enough to be drawn at once and held.
    Whole(Vec<u8>),
}

/// The sample of this name, if there is one: `50MB.zip` is an archive of exactly 50,000,000 bytes
/// (`kB`, `MB` or `GB`, up to 4 GB), any `.png` a picture, any `.pdf` a page of text.
pub fn sample(name: &str) -> Option<Sample> {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if !plain || name.starts_with('.') || name.len() > MAX_NAME {
        return None;
    }
    let (stem, kind) = name.rsplit_once('.')?;
    let form = match kind {
        "zip" => Form::Zip(Zip::new(name, zip_size(stem)?)?),
        "png" => Form::Whole(png::draw(name)),
        "pdf" => Form::Whole(pdf::write(name)),
        _ => return None,
    };
    Some(Sample {
        name: name.to_owned(),
        form,
        sha256: OnceLock::new(),
    })
}

fn zip_size(stem: &str) -> Option<u64> {
    let unit = stem.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = stem.strip_suffix(unit)?.parse().ok()?;
    let scale = match unit {
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(scale)
}

impl Sample {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        match &self.form {
            Form::Zip(zip) => zip.len(),
            Form::Whole(bytes) => bytes.len() as u64,
        }
    }

    /// Always false: there is no empty sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `offset` on and tells how many there were: fewer than the
    /// buffer holds only at the end.
    ///
    /// Takes time in proportion to the buffer, wherever the offset is. The first read of an
    /// archive's headers also takes a pass over the parts that they describe, for their CRC-32.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        match &self.form {
            Form::Zip(zip) => zip.read_at(offset, buffer),
            Form::Whole(bytes) => copy(bytes, offset, buffer),
        }
    }

    /// Its SHA-256. The first call reads all of the sample.
    pub fn sha256(&self) -> [u8; 32] {
        *self.sha256.get_or_init(|| {
            let mut hash = Context::new(&SHA256);
            let mut buffer = vec![0; 64 * 1024];
            let mut offset = 0;
            loop {
                let read = self.read_at(offset, &mut buffer);
                if read == 0 {
                    return finished(hash);
                }
                hash.update(&buffer[..read]);
                offset += read as u64;
            }
        })
    }

    /// Its strong entity tag (RFC 9110 section 8.8.3), quotes included.
    pub fn etag(&self) -> String {
        format!("\"sample-{GENERATION}-{:x}\"", self.len())
    }

    /// When it was last modified: always the same.
    pub fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + MODIFIED
    }
}

/// The SHA-256 of all that `hash` was given.
pub(super) fn finished(hash: Context) -> [u8; 32] {
    let mut digest = [0; 32];
    // Both are 32 bytes: SHA-256 has no other length.
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

/// Copies what `bytes` has from `offset` on into `buffer`.
fn copy(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> usize {
    let from = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
    let length = buffer.len().min(bytes.len() - from);
    buffer[..length].copy_from_slice(&bytes[from..from + length]);
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn read(sample: &Sample) -> Vec<u8> {
        let mut bytes = vec![0; sample.len() as usize + 1];
        let length = sample.read_at(0, &mut bytes);
        assert_eq!(length as u64, sample.len());
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn names_say_kind_and_size() {
        for (name, size) in [
            ("1kB.zip", 1_000),
            ("1MB.zip", 1_000_000),
            ("50MB.zip", 50_000_000),
            ("500MB.zip", 500_000_000),
            ("4GB.zip", 4_000_000_000),
        ] {
            assert_eq!(sample(name).expect(name).len(), size, "{name}");
        }
        for name in [
            "",
            "zip",
            ".zip",
            "MB.zip",
            "0MB.zip",
            "5GB.zip",
            "5mb.zip",
            "5B.zip",
            "x5MB.zip",
            "-5MB.zip",
            "99999999999999999999GB.zip",
            "a/b.png",
            ".png",
            "a.jpg",
            "grün.png",
        ] {
            assert!(sample(name).is_none(), "{name}");
        }
    }

    /// If this fails, some sample's bytes have changed: raise GENERATION, then write the new sums
    /// here.
    #[test]
    fn the_bytes_are_the_same_on_every_machine() {
        assert_eq!(GENERATION, 1);
        let sums = ["1MB.zip", "image-site.png", "task2.pdf"].map(|name| {
            let sum = sample(name).expect(name).sha256();
            let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            (name, hex)
        });
        let expected = [
            (
                "1MB.zip",
                "3954d7aeadd8ef7744bc91e5edb411f32e4bf93473324aca9ef2c694cbcd4ca3",
            ),
            (
                "image-site.png",
                "7fcd5f799baa5d85090be1d7dbed44a166a6ee146b67629155bb48c548adf5f1",
            ),
            (
                "task2.pdf",
                "5bdd8fdfbc0a1db883eafd6d35f7678ae1a4e8ea652f641444ba07b0ecb9fa5e",
            ),
        ];
        assert_eq!(sums, expected.map(|(name, sum)| (name, sum.to_owned())));
    }

    #[test]
    fn nothing_is_behind_the_end() {
        for name in ["1kB.zip", "a.png", "a.pdf"] {
            let sample = sample(name).expect(name);
            let mut buffer = [7; 8];
            for offset in [sample.len(), sample.len() + 1, u64::MAX] {
                assert_eq!(sample.read_at(offset, &mut buffer), 0);
            }
            assert_eq!(sample.read_at(sample.len() - 3, &mut buffer), 3);
            assert_eq!(buffer[3..], [7; 5]);
        }
    }

    proptest! {
        #[test]
        fn a_read_anywhere_equals_the_read_of_all(
            name in prop_oneof![Just("1kB.zip"), Just("300kB.zip"), Just("a.png"), Just("a.pdf")],
            at in any::<prop::sample::Index>(),
            length in 0usize..2000,
        ) {
            let sample = sample(name).expect("a sample");
            let all = read(&sample);
            let offset = at.index(all.len());
            let mut part = vec![0; length];
            let length = sample.read_at(offset as u64, &mut part);
            prop_assert_eq!(&part[..length], &all[offset..all.len().min(offset + part.len())]);
        }
    }
}
