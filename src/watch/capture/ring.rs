//! The ring: the last packets, to be written out when something happens.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{LOOK, count_lost};
use crate::watch::{
    crossings::Crossings,
    event::hub::{Batch, Subscription},
    pcapng::Writer,
};

/// After a crash so much more is awaited: what came of it belongs to the story.
const AFTERMATH: Duration = Duration::from_secs(2);
/// At least so long between two files that crashes write.
const CRASHES: Duration = Duration::from_secs(60);
/// So many files of crashes are kept.
const CRASH_FILES: usize = 8;

/// The last packets, within a bound of memory.
pub struct Ring {
    bytes: usize,
    held: Mutex<Held>,
    crashed: AtomicBool,
}

#[derive(Default)]
struct Held {
    /// The oldest first.
    batches: VecDeque<Kept>,
    /// What all of them take, bytes.
    bytes: usize,
}

/// A batch is written without the ring's lock: whoever reads slowly holds up nobody who keeps.
#[derive(Clone)]
struct Kept {
    batch: Arc<Batch>,
    /// Packets before its end, and after the end of the batch before, that found no room in the queue.
    lost: u64,
}

impl Ring {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            held: Mutex::default(),
            crashed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has crashed: a file is due.
    pub(super) fn crashed(&self) {
        self.crashed.store(true, Ordering::Relaxed);
    }

    pub(super) fn run(&self, subscription: &Subscription, crashes: &Path) {
        let (mut batch, mut known) = (Batch::default(), 0);
        let (mut crashed, mut due, mut quiet_until) = (false, None, Instant::now());
        loop {
            let closed = subscription.is_closed();
            let more = subscription.read(&mut batch, LOOK);
            if more {
                let lost = count_lost(subscription, known);
                batch = self.keep(std::mem::take(&mut batch), lost - known);
                known = lost;
            }
            let now = Instant::now();
            crashed |= self.crashed.swap(false, Ordering::Relaxed);
            // The last words are not held back.
            if crashed && due.is_none() && (closed || now >= quiet_until) {
                (crashed, due) = (false, Some(now + AFTERMATH));
            }
            if due.is_some_and(|due| now >= due || closed) {
                due = None;
                quiet_until = now + CRASHES;
                self.write_crash(crashes);
            }
            if closed && !more {
                return;
            }
        }
    }

    /// Keeps what has come; gives an older one that is forgotten for it, whose memory the next can have, rather than
    /// grow its own from nothing each time.
    fn keep(&self, mut batch: Batch, lost: u64) -> Batch {
        batch.shrink();
        let held = &mut *self.lock();
        held.bytes += batch.held();
        held.batches.push_back(Kept {
            batch: Arc::new(batch),
            lost,
        });
        let mut forgotten = Batch::default();
        while held.bytes > self.bytes
            && let Some(oldest) = held.batches.pop_front()
        {
            held.bytes -= oldest.batch.held();
            // Who reads it still has it.
            forgotten = Arc::try_unwrap(oldest.batch).unwrap_or_default();
        }
        forgotten
    }

    fn write_crash(&self, folder: &Path) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        // As names they are in the order of time, and two of one second are two.
        let (seconds, millis) = (now.as_secs(), now.subsec_millis());
        let file = folder.join(format!("crash-{seconds}.{millis:03}.pcapng"));
        let written = fs::create_dir_all(folder)
            .and_then(|()| File::create(&file))
            .and_then(|out| self.write(BufWriter::new(out)));
        match written {
            Ok(()) => tracing::warn!("the packets before the crash are in {}", file.display()),
            Err(error) => {
                tracing::error!("{}: the packets before the crash: {error}", file.display());
            }
        }
        if let Err(error) = forget_old(folder) {
            tracing::warn!("{}: old captures stay: {error}", folder.display());
        }
    }

    /// Writes all that it holds now. What the ring drops meanwhile stays in memory until it is written.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write<W: Write>(&self, out: W) -> io::Result<()> {
        let mut writer = Writer::new(out)?;
        let batches: Vec<Kept> = self.lock().batches.iter().cloned().collect();
        let mut crossings = Crossings::default();
        batches.iter().for_each(|kept| crossings.learn(&kept.batch));
        let lost = batches.iter().map(|kept| kept.lost).sum();
        for Kept { batch, .. } in batches {
            for packet in batch.packets() {
                writer.packet(&packet, crossings.of(&packet))?;
            }
        }
        writer.statistics(lost)
    }
}

fn forget_old(folder: &Path) -> io::Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("crash-") && name.ends_with(".pcapng")
        })
        .collect();
    files.sort();
    let old = files.len().saturating_sub(CRASH_FILES);
    for file in files.into_iter().take(old) {
        fs::remove_file(file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::watch::event::{
        hub::{self, Wants},
        packet::{Carrier, Fate, Label, Place, Protocol, Role},
    };

    const PACKET: &[u8] = b"SIGNEW:Tal";

    /// A batch of one packet, of an address that no other test has.
    fn batch(port: u16) -> Batch {
        let place = Place {
            label: Label::new(Role::Rudp, Protocol::Rudp),
            carrier: Carrier::Udp,
            local: ([127, 0, 0, 1], 78).into(),
            remote: ([127, 0, 7, 8], port).into(),
        };
        let observer = hub::subscribe(Wants {
            peers: BTreeSet::from([place.remote]),
            ..Wants::default()
        });
        hub::raise(&place, Fate::Received, PACKET);
        let mut batch = Batch::default();
        assert!(observer.read(&mut batch, Duration::ZERO));
        batch
    }

    /// Looks, with each write, whether the ring could keep more meanwhile.
    struct Slow<'a>(&'a Ring, usize);

    impl Write for Slow<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(self.0.held.try_lock().is_ok(), "its reader holds it up");
            let packet = bytes.windows(PACKET.len()).any(|window| window == PACKET);
            if packet {
                // All that was held is dropped by the ring while the first is read.
                for port in 10..20 {
                    self.0.keep(batch(port), 0);
                }
            }
            self.1 += usize::from(packet);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_reads_slowly_holds_up_nobody_and_gets_all() {
        let mut one = batch(1);
        one.shrink();
        let size = one.held();
        let ring = Ring::new(size * 5 + size / 2);
        for port in 1..=9 {
            ring.keep(batch(port), u64::from(port));
        }
        let held = ring.lock();
        assert_eq!((held.batches.len(), held.bytes), (5, size * 5));
        let lost = held.batches.iter().map(|kept| kept.lost);
        assert_eq!(lost.sum::<u64>(), 5 + 6 + 7 + 8 + 9);
        drop(held);
        let mut reader = Slow(&ring, 0);
        ring.write(&mut reader).expect("it takes all");
        assert_eq!(reader.1, 5);
        assert_eq!(ring.lock().batches.len(), 5);
    }
}
