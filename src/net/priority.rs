use std::io;

/// What a thread that steps back adds to its nice value: with one of nice 0 that wants the processor, too, it
/// gets a tenth of it.
const NICER: libc::c_int = 10;

/// Lets other threads go before the calling one wherever both want the processor: for whoever looks on, so that
/// what is looked at goes on as it would by itself. On Linux a nice value is a thread's own (setpriority(2),
/// "C library/kernel differences").
///
/// # Errors
/// Those of a sandbox that forbids it: then all go on as equals.
#[allow(unsafe_code)]
pub fn step_back() -> io::Result<()> {
    // SAFETY: both calls take plain numbers, and touch no memory. Identifier 0 is the calling thread.
    let set = unsafe {
        let own = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, own + NICER)
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// The 19th value, as proc_pid_stat(5) counts.
    fn nice() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").expect("a thread has it");
        let (_, after_name) = stat.rsplit_once(')').expect("a name in brackets");
        let nice = after_name.split_whitespace().nth(16).expect("a value");
        nice.parse().expect("a number")
    }

    #[test]
    fn a_thread_steps_back_alone() {
        let before = nice();
        let stepped = thread::spawn(|| step_back().map(|()| nice()));
        let stepped = stepped.join().expect("it ends").expect("it may");
        assert_eq!(stepped, (before + NICER).min(19));
        assert_eq!(nice(), before);
    }
}
