//! Which socket of a group gets a datagram: a program in the kernel decides.

use std::{io, num::NonZeroU16, os::fd::AsRawFd};

use libc::{
    BPF_ABS, BPF_ALU, BPF_B, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_MOD, BPF_RET,
    BPF_W, sock_filter, sock_fprog,
};

/// `BPF_A`: the accumulator as the source of a return.
const BPF_A: u32 = 0x10;
/// No group has so many sockets: for such an answer the kernel takes its own hash of both addresses
/// (`reuseport_select_sock`).
const BY_HASH: u32 = u32::MAX;

/// Gives the group that `socket` belongs to (SO_REUSEPORT) its program: datagrams whose first byte
/// is in `steered` go to socket `second byte % count`, in the order of binding; all others where the
/// kernel's hash sends them.
///
/// # Errors
/// Those of the system call.
pub(super) fn attach(socket: &impl AsRawFd, count: NonZeroU16, steered: &[u8]) -> io::Result<()> {
    let mut program = program(count, steered)?;
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    set_program(socket, &program)
}

#[allow(unsafe_code)]
fn set_program(socket: &impl AsRawFd, program: &sock_fprog) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `socket` lives. The kernel reads the
    // `sock_fprog` and the `len` instructions that it points to, and copies them: attach() holds
    // both for longer than the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            std::ptr::from_ref(program).cast(),
            size_of::<sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The program in classic BPF. The kernel shows it a datagram's UDP payload, from offset 0.
fn program(count: NonZeroU16, steered: &[u8]) -> io::Result<Vec<sock_filter>> {
    let bytes = u8::try_from(steered.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let step = |code: u32, k: u32, jump_true: u8, jump_false: u8| sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k,
    };
    let mut program = vec![
        // A load beyond the end would answer 0: who has no two bytes is no packet.
        step(BPF_LD | BPF_W | BPF_LEN, 0, 0, 0),
        step(BPF_JMP | BPF_JGE | BPF_K, 2, 0, bytes.saturating_add(1)),
        step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
    ];
    for (n, byte) in (0_u8..).zip(steered) {
        // Over the tests that are left, and over the answer below them.
        let to_steering = bytes - n;
        program.push(step(
            BPF_JMP | BPF_JEQ | BPF_K,
            (*byte).into(),
            to_steering,
            0,
        ));
    }
    program.extend([
        step(BPF_RET | BPF_K, BY_HASH, 0, 0),
        step(BPF_LD | BPF_B | BPF_ABS, 1, 0, 0),
        step(BPF_ALU | BPF_MOD | BPF_K, count.get().into(), 0, 0),
        step(BPF_RET | BPF_A, 0, 0, 0),
    ]);
    Ok(program)
}
