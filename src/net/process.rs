//! What the kernel knows of this process.

use std::{
    fs, io,
    time::{Duration, SystemTime},
};

use nix::{
    sys::{
        resource::{Resource, UsageWho, getrlimit, getrusage},
        time::TimeVal,
    },
    time::{ClockId, clock_gettime},
};

/// What a process takes of the machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Processor time since its start, the kernel's for it included.
    pub processor: Duration,
    /// Files, sockets and the like that are open.
    pub descriptors: u64,
    /// How many may be.
    pub max_descriptors: u64,
    /// Address space in bytes.
    pub virtual_memory: u64,
    /// Memory in bytes.
    pub resident_memory: u64,
    /// Threads.
    pub threads: u64,
}

/// What this process takes now.
///
/// # Errors
/// If /proc is not there or says something else than proc(5).
pub fn usage() -> io::Result<Usage> {
    let times = getrusage(UsageWho::RUSAGE_SELF)?;
    let status = fs::read_to_string("/proc/self/status")?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/self/status has no {key}")))
    };
    Ok(Usage {
        processor: duration(times.user_time()) + duration(times.system_time()),
        descriptors: open_descriptors()?,
        max_descriptors: getrlimit(Resource::RLIMIT_NOFILE)?.0,
        // The kernel's "kB" are 1024 bytes.
        virtual_memory: number("VmSize:")? * 1024,
        resident_memory: number("VmRSS:")? * 1024,
        threads: number("Threads:")?,
    })
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// How many descriptors are open, without the one that counts them.
fn open_descriptors() -> io::Result<u64> {
    Ok(fs::read_dir("/proc/self/fd")?.count().saturating_sub(1) as u64)
}

/// How many descriptors this process may have open at most, once it has asked for that.
///
/// # Errors
/// Those of the kernel.
pub fn descriptor_limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.1)
}

/// When this process started, by the wall clock as it is now.
///
/// # Errors
/// If /proc is not there or says something else than proc(5).
pub fn started() -> io::Result<SystemTime> {
    /// In which /proc counts, whatever the kernel's own (time(7)).
    const TICKS_A_SECOND: u64 = 100;
    /// `starttime` counted from the first field after the command's name.
    const START_TIME: usize = 19;
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may hold blanks and parentheses itself.
    let ticks = stat
        .rsplit_once(") ")
        .and_then(|(_, fields)| fields.split(' ').nth(START_TIME)?.parse::<u64>().ok())
        .ok_or_else(|| io::Error::other("/proc/self/stat tells no start"))?;
    let age = since_boot()?.saturating_sub(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND));
    Ok(SystemTime::now() - age)
}

/// What has passed since the machine was started: the same for all threads and processes of it, and
/// unlike the wall clock never set.
///
/// # Errors
/// If the kernel has no such clock.
pub fn since_boot() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, thread, time::Instant};

    use super::*;

    #[test]
    fn what_a_process_takes_is_seen() {
        let before = usage().expect("/proc");
        let files: Vec<File> = (0..200)
            .map(|_| File::open("/dev/null").expect("there"))
            .collect();
        let memory = vec![1_u8; 64 << 20];
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = thread::spawn(move || stopped.recv());
        let now = usage().expect("/proc");
        drop(stop);
        // Other tests of this process open and close a few at the same time.
        assert!(now.descriptors + 100 > before.descriptors + files.len() as u64);
        assert!(now.max_descriptors >= now.descriptors);
        assert!(now.virtual_memory >= memory.len() as u64);
        assert!(now.resident_memory >= memory.len() as u64);
        assert!(now.threads >= 2);
        thread
            .join()
            .expect("ended")
            .expect_err("the other end is gone");
        let busy = Instant::now();
        while usage().expect("/proc").processor <= before.processor {
            assert!(
                busy.elapsed() < Duration::from_secs(60),
                "no time is counted"
            );
        }
    }

    #[test]
    fn the_start_is_in_the_past_but_not_by_much() {
        let age = started().expect("/proc").elapsed().expect("past");
        assert!(age < Duration::from_secs(24 * 3600), "{age:?}");
        // Counted in hundredths.
        assert_eq!(
            started().expect("/proc").elapsed().expect("past").as_secs() / 60,
            age.as_secs() / 60
        );
    }
}
