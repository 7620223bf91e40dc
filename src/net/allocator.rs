/// Has the C library keep memory that was freed instead of giving it back to the kernel at once: up to
/// 16 MB, and pieces of up to 4 MB. A gigabyte passes in pieces of 64 kB and more; without this each
/// piece is cleared and mapped page by page again, which costs more than receiving it.
///
/// Does nothing where the C library is another one than glibc.
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets two numbers, at any time; it fails only for values that it does not
    // know, and then all is as before.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
    }
}
