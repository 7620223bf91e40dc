use std::{io, mem};

/// Whether the kernel holds the wall clock for synchronised (adjtimex(2)): a time service says so.
///
/// # Errors
/// Those of a kernel without the call, or of a sandbox that forbids it.
#[allow(unsafe_code)]
pub fn is_synchronised() -> io::Result<bool> {
    // SAFETY: a timex is plain numbers, for which zeros are valid; with `modes` zero nothing is changed,
    // and the kernel writes into the one that is lent until the call returns.
    let state = unsafe {
        let mut timex: libc::timex = mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    match state {
        ..0 => Err(io::Error::last_os_error()),
        state => Ok(state != libc::TIME_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_an_opinion() {
        is_synchronised().expect("asking is free");
    }
}
