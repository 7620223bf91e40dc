//! Files that rotate: `capture.pcapng` is the newest, `capture.1.pcapng` the one before.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    mem,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::Output;
use crate::{
    config,
    watch::{event::packet::Packet, fates::Fate, pcapng::Writer},
};

type FileWriter = Writer<BufWriter<File>>;

/// The files of one capture. Until [`Files::begin`] the first has a name of its own, and is gone with
/// these: what was there before stays.
pub(super) struct Files {
    file: PathBuf,
    size: u64,
    count: usize,
    writer: FileWriter,
    /// The first, which has not got its name yet.
    unnamed: Option<PathBuf>,
    /// Packets that are missing, as far as files tell of them.
    told: u64,
}

impl Files {
    /// Does all that can fail: makes the folder, and in it the first file.
    ///
    /// # Errors
    /// There can be no such file.
    pub(super) fn prepare(file: &Path, config: &config::Capture) -> io::Result<Self> {
        static PREPARED: AtomicU64 = AtomicU64::new(0);
        if fs::metadata(file).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other(
                "is no ordinary file; a capture's files get other names as they rotate",
            ));
        }
        let folder = file.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let number = PREPARED.fetch_add(1, Ordering::Relaxed);
        let unnamed = folder.join(format!(".capture-{}-{number}", std::process::id()));
        let mut files = Self {
            writer: writer(&unnamed)?,
            file: file.to_owned(),
            size: config.max_size,
            count: config.max_files,
            unnamed: Some(unnamed),
            told: 0,
        };
        files.writer.flush()?;
        Ok(files)
    }

    /// Gives the first file its name.
    ///
    /// # Errors
    /// Files can't be renamed.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if let Some(unnamed) = &self.unnamed {
            self.shift()?;
            fs::rename(unnamed, &self.file)?;
            self.unnamed = None;
        }
        Ok(())
    }

    /// Makes room for the newest: each gets the next one's name, and the oldest is gone.
    fn shift(&self) -> io::Result<()> {
        for number in (1..self.count).rev() {
            let newer = match number {
                1 => self.file.clone(),
                _ => self.numbered(number - 1),
            };
            if newer.exists() {
                fs::rename(newer, self.numbered(number))?;
            }
        }
        Ok(())
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        self.file.with_file_name(format!("{stem}.{number}.pcapng"))
    }

    fn finish(&mut self, lost: u64) -> io::Result<()> {
        let before = mem::replace(&mut self.told, lost);
        self.writer.statistics(lost - before)
    }
}

fn writer(path: &Path) -> io::Result<FileWriter> {
    Writer::new(BufWriter::new(File::create(path)?))
}

impl Output for Files {
    fn packet(&mut self, packet: &Packet<'_>, link: Option<&Fate>, lost: u64) -> io::Result<()> {
        self.writer.packet(packet, link)?;
        if self.writer.bytes() >= self.size {
            self.finish(lost)?;
            self.shift()?;
            self.writer = writer(&self.file)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn end(&mut self, lost: u64) -> io::Result<()> {
        self.finish(lost)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(unnamed) = &self.unnamed {
            // Whether it can be removed or not: nobody reads it.
            let _ = fs::remove_file(unnamed);
        }
    }
}
