use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::Finding;
use crate::{
    client::units::Size,
    config::Config,
    net::{free_space, is_synchronised, is_writable, process},
};

/// Fewer descriptors hold up a class that downloads.
const DESCRIPTORS: u64 = 4096;
/// Less than this is a warning; the lease database of a term takes some MB.
const SPACE: u64 = 100 << 20;
/// With less than this nothing is recorded soon.
const NO_SPACE: u64 = 4 << 20;
/// 2026-01-01: labnet is no older.
const BORN: u64 = 1_767_225_600;

/// Clock, descriptors, disk.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    vec![clock(), descriptors(), disk(&config.state_dir)]
}

fn clock() -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    if now.map_or(0, |now| now.as_secs()) < BORN {
        return Finding::problem(
            "clock",
            "stands before 2026",
            "set it: leases are recorded by it (`timedatectl`, or `date --set`)",
        );
    }
    match is_synchronised() {
        Ok(true) => Finding::ok("clock", "is synchronised"),
        Ok(false) => Finding::warning(
            "clock",
            "is not synchronised: leases outlive a restart by a clock that may jump",
            "run a time service: systemd-timesyncd or chrony",
        ),
        Err(error) => Finding::warning(
            "clock",
            format!("the kernel does not tell whether it is synchronised: {error}"),
            "see `timedatectl`",
        ),
    }
}

fn descriptors() -> Finding {
    let limit = match process::descriptor_limit() {
        Ok(limit) => limit,
        Err(error) => {
            let message = format!("the limit is not told: {error}");
            return Finding::warning("descriptors", message, "see `ulimit -Hn`");
        }
    };
    let message = format!("{limit} files and sockets may be open");
    if limit < DESCRIPTORS {
        let advice =
            "raise the hard limit: LimitNOFILE=65536 in the service, or `ulimit -Hn 65536`";
        return Finding::warning("descriptors", message, advice);
    }
    Finding::ok("descriptors", message)
}

fn disk(state_dir: &Path) -> Finding {
    // It is made when the lab starts.
    let there = state_dir.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(Path::new("/"));
    let name = state_dir.display();
    if !there.is_dir() {
        return Finding::problem(
            "disk",
            format!("state_dir: {} is no folder", there.display()),
            "set state_dir to a folder, or move the file away",
        );
    }
    if !is_writable(there) {
        return Finding::problem(
            "disk",
            format!("state_dir: {name}: {} can't be written to", there.display()),
            "set state_dir (LABNET_STATE_DIR) to a folder of this user's, or run labnet as its owner",
        );
    }
    let space = match free_space(there) {
        Ok(space) => space,
        Err(error) => {
            let message = format!("state_dir: {name}: its free space is not told: {error}");
            return Finding::warning("disk", message, "see `df`");
        }
    };
    let message = format!("{} are free for {name}", Size(space.bytes));
    let advice =
        "make room, or set state_dir to another disk: what can't be recorded is not leased";
    if space.bytes < NO_SPACE || space.files == Some(0) {
        let inodes = if space.files == Some(0) {
            ", and no more files"
        } else {
            ""
        };
        Finding::problem("disk", message + inodes, advice)
    } else if space.bytes < SPACE {
        Finding::warning("disk", message, advice)
    } else {
        Finding::ok("disk", message)
    }
}
