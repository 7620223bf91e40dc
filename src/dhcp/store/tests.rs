use rusqlite::Connection;

use super::*;
use crate::dhcp::lease::{ClientKey, Hardware, StoredState};

const NOW: u64 = 1_000_000_000;

fn lease(last: u8, state: StoredState) -> StoredLease {
    StoredLease {
        address: Ipv4Addr::new(10, 0, 0, last),
        client: ClientKey::identifier(&[last; 3]),
        hardware: Hardware::new(1, &[2, 0, 0, 0, 0, last]),
        hostname: Some("host".into()),
        state,
        until: NOW + 1000 + u64::from(last),
    }
}

fn bound(last: u8) -> Record {
    Record::Keep(lease(last, StoredState::Bound))
}

fn reading(wall: u64) -> Reading {
    Reading {
        wall: Duration::from_secs(wall),
        steady: Duration::ZERO,
    }
}

fn open(folder: &Path) -> Result<(Store, Owner), StoreError> {
    let store = Store::open(folder, reading(NOW))?;
    let owner = store.take_over();
    Ok((store, owner))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn commit(owner: &Owner, records: &[Record]) -> Result<(), StoreError> {
    owner.commit(records, NOW)
}

/// The last bytes of the addresses, in the order of their dates.
fn addresses(owner: &Owner) -> Vec<u8> {
    let (leases, _) = owner.load();
    leases
        .iter()
        .map(|lease| lease.address.octets()[3])
        .collect()
}

/// What a power cut now would leave, opened: the files as they are, nothing closed.
fn after_a_crash(folder: &Path) -> Vec<StoredLease> {
    after_a_crash_at(folder, NOW)
}

fn after_a_crash_at(folder: &Path, now: u64) -> Vec<StoredLease> {
    let after = self::folder();
    for file in fs::read_dir(folder).expect("list") {
        let file = file.expect("entry");
        // The system keeps these apart from SQLite's: another process reads them.
        let copied = std::process::Command::new("cp")
            .arg(file.path())
            .arg(after.path())
            .status();
        assert!(copied.expect("cp runs").success());
    }
    let store = Store::open(after.path(), reading(now)).expect("open");
    store.take_over().load().0
}

#[test]
fn what_was_committed_is_there_after_a_crash() {
    let folder = folder();
    let (_store, owner) = open(folder.path()).expect("open");
    commit(
        &owner,
        &[
            bound(1),
            Record::Keep(lease(2, StoredState::Declined)),
            bound(3),
        ],
    )
    .expect("commit");
    let released = lease(3, StoredState::Released);
    commit(
        &owner,
        &[
            Record::Forget(lease(2, StoredState::Bound).address),
            Record::Keep(released.clone()),
        ],
    )
    .expect("commit");
    let expected = [lease(1, StoredState::Bound), released];
    assert_eq!(owner.load().0, expected);
    assert_eq!(after_a_crash(folder.path()), expected);
}

#[test]
fn it_opens_its_own_file_again_but_only_once_at_a_time() {
    let folder = folder();
    let opened = open(folder.path()).expect("open");
    assert!(matches!(open(folder.path()), Err(StoreError::Locked(_))));
    drop(opened);
    open(folder.path()).expect("open again");
}

#[test]
fn a_file_that_is_something_else_is_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join(FILE_NAME);
    let noise = [7; 5000];
    fs::write(&path, noise).expect("write");
    assert!(matches!(
        open(folder.path()),
        Err(StoreError::Damaged { .. })
    ));
    assert!(matches!(repair(&path, NOW), Err(StoreError::Lost { .. })));
    assert_eq!(fs::read(&path).expect("read"), noise);

    fs::remove_file(&path).expect("remove");
    let other = Connection::open(&path).expect("open");
    other.execute_batch("CREATE TABLE t (x)").expect("create");
    drop(other);
    assert!(matches!(open(folder.path()), Err(StoreError::Foreign(_))));
    assert!(matches!(inspect(&path), Err(StoreError::Foreign(_))));
}

#[test]
fn a_newer_format_is_refused_and_an_older_one_taken() {
    let folder = folder();
    drop(open(folder.path()).expect("create"));
    let path = folder.path().join(FILE_NAME);
    let edit = |sql: &str| {
        let other = Connection::open(&path).expect("open");
        other.execute_batch(sql).expect("edit");
    };
    // As version 0.1.0 made it.
    edit("ALTER TABLE lease DROP COLUMN checksum; DROP TABLE clock");
    edit("INSERT INTO lease VALUES (167772161, x'0101', 1, x'020000000007', NULL, 'bound', 5)");
    assert!(inspect(&path).expect("readable").is_sound());
    let (store, owner) = open(folder.path()).expect("open");
    assert_eq!(addresses(&owner), [1]);
    commit(&owner, &[bound(2)]).expect("commit");
    drop((store, owner));
    edit("PRAGMA user_version = 2");
    assert!(matches!(
        open(folder.path()),
        Err(StoreError::Newer { found: 2, .. })
    ));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").expect("write");
    let error = open(&file.join("state")).err().expect("refused");
    assert!(error.to_string().contains("state"), "{error}");
}

/// A closed database with the leases 1 to 9, and its bytes.
fn filled() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = folder();
    let (store, owner) = open(folder.path()).expect("open");
    let all: Vec<Record> = (1..=9).map(bound).collect();
    commit(&owner, &all).expect("commit");
    drop((store, owner));
    let path = folder.path().join(FILE_NAME);
    let bytes = fs::read(&path).expect("read");
    (folder, path, bytes)
}

#[test]
fn any_changed_byte_of_a_row_costs_that_row_alone() {
    let (folder, path, bytes) = filled();
    // Rows are stored from the page's end on; the fifth begins with its header and key.
    let text = b"\x05\x05\x05";
    let middle = bytes
        .windows(3)
        .position(|window| window == text)
        .expect("the fifth lease");
    let start = middle - 20;
    let mut lost = 0;
    for at in start..start + 50 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        fs::write(&path, &damaged).expect("write");
        let before = inspect(&path).expect("readable");
        assert_eq!(fs::read(&path).expect("read"), damaged, "byte {at}");
        let (store, owner) = open(folder.path()).unwrap_or_else(|error| panic!("{at}: {error}"));
        let left = addresses(&owner);
        assert!(left.len() >= 8, "byte {at}: {left:?}");
        if left.len() == 8 {
            lost += 1;
            assert!(!before.is_sound(), "byte {at}");
        }
        // And it works on.
        commit(&owner, &[bound(20)]).unwrap_or_else(|error| panic!("{at}: {error}"));
        drop((store, owner));
        for file in fs::read_dir(folder.path()).expect("list") {
            fs::remove_file(file.expect("entry").path()).expect("remove");
        }
    }
    assert!(lost > 40, "{lost}");
}

#[test]
fn a_damaged_file_is_repaired_and_kept_beside() {
    let (folder, path, bytes) = filled();
    assert!(inspect(&path).expect("readable").is_sound());
    assert!(repair(&path, NOW).expect("sound").aside.is_none());
    // The first page: nothing of SQLite's own can read the file then. And the fifth row.
    for whole_page in [true, false] {
        let mut damaged = bytes.clone();
        if whole_page {
            damaged[..200].fill(0xee);
        }
        let fifth = damaged
            .windows(3)
            .position(|window| window == b"\x05\x05\x05")
            .expect("the fifth lease");
        damaged[fifth] = 0x77;
        fs::write(&path, &damaged).expect("write");
        let repaired = repair(&path, NOW).expect("repaired");
        assert_eq!(repaired.condition.leases, 8);
        assert_eq!(repaired.condition.damaged, ["the lease of 10.0.0.5"]);
        let aside = repaired.aside.expect("kept");
        assert_eq!(fs::read(aside).expect("read"), damaged);
        assert!(inspect(&path).expect("readable").is_sound());
        let (_store, owner) = open(folder.path()).expect("open");
        assert_eq!(addresses(&owner), [1, 2, 3, 4, 6, 7, 8, 9]);
    }
    // Nothing else is left lying about.
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .expect("list")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    let expected = ["", ".damaged-1", ".damaged-2"].map(|end| format!("{FILE_NAME}{end}"));
    assert_eq!(names, expected.map(std::ffi::OsString::from));
}

#[test]
fn a_deleted_file_counts_as_not_recorded_and_is_written_anew() {
    let folder = folder();
    let (_store, owner) = open(folder.path()).expect("open");
    commit(&owner, &[bound(1), bound(2)]).expect("commit");
    let path = folder.path().join(FILE_NAME);
    for victim in [path.clone(), file::log_of(&path)] {
        fs::remove_file(&victim).expect("remove");
        let error = commit(&owner, &[bound(3)]).expect_err("not recorded");
        assert!(matches!(error, StoreError::Gone(_)), "{error}");
        assert!(commit(&owner, &[bound(4)]).is_err(), "until it is mended");
        assert_eq!(addresses(&owner), [1, 2]);
        owner.mend(NOW).expect("mended");
        assert_eq!(after_a_crash(folder.path()), owner.load().0);
    }
    commit(&owner, &[bound(3)]).expect("commit");
    assert_eq!(after_a_crash(folder.path()).len(), 3);
}

#[test]
fn a_vanished_folder_is_not_made_but_waited_for() {
    let outer = folder();
    let folder = outer.path().join("state");
    let (_store, owner) = open(&folder).expect("open");
    commit(&owner, &[bound(1)]).expect("commit");
    fs::remove_dir_all(&folder).expect("remove");
    let error = owner.mend(NOW).expect_err("noticed without a client");
    assert!(error.to_string().contains("state"), "{error}");
    assert!(commit(&owner, &[bound(2)]).is_err());
    assert!(owner.mend(NOW).is_err());
    assert!(!folder.exists());
    fs::create_dir(&folder).expect("back");
    owner.mend(NOW).expect("mended");
    commit(&owner, &[bound(2)]).expect("commit");
    assert_eq!(after_a_crash(&folder).len(), 2);

    // Moved away, and back with all that is in it.
    let elsewhere = outer.path().join("elsewhere");
    fs::rename(&folder, &elsewhere).expect("move");
    assert!(commit(&owner, &[bound(3)]).is_err());
    fs::rename(&elsewhere, &folder).expect("move back");
    owner.mend(NOW).expect("mended");
    commit(&owner, &[bound(4)]).expect("commit");
    assert_eq!(after_a_crash(&folder), owner.load().0);
    assert_eq!(addresses(&owner), [1, 2, 4]);
}

#[test]
fn a_replaced_or_spoilt_file_is_noticed_and_the_leases_win() {
    let (_other_folder, _, other) = filled();
    let folder = folder();
    let (_store, owner) = open(folder.path()).expect("open");
    let path = folder.path().join(FILE_NAME);
    commit(&owner, &[bound(21), bound(22)]).expect("commit");
    let replace = |bytes: &[u8]| {
        let beside = folder.path().join("beside");
        fs::write(&beside, bytes).expect("write");
        fs::rename(&beside, &path).expect("rename");
    };
    // Over the open file, as another program would.
    let overwrite = |bytes: &[u8]| {
        let mut dd = std::process::Command::new("dd")
            .args(["conv=notrunc", "status=none"])
            .arg(format!("of={}", path.display()))
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("dd runs");
        let mut input = dd.stdin.take().expect("piped");
        std::io::Write::write_all(&mut input, bytes).expect("written");
        drop(input);
        assert!(dd.wait().expect("it ends").success());
    };
    let cases: [(&str, &dyn Fn()); 5] = [
        ("another database", &|| replace(&other)),
        ("noise", &|| replace(&[0x55; 9000])),
        ("nothing", &|| replace(&[])),
        ("spoilt header", &|| overwrite(&[0xaa; 100])),
        ("spoilt pages", &|| overwrite(&[0xaa; 8192])),
    ];
    for (n, (what, spoil)) in cases.into_iter().enumerate() {
        // Time stamps of files are to 4 ms or 10.
        std::thread::sleep(Duration::from_millis(30));
        spoil();
        let lost = bound(50);
        assert!(commit(&owner, &[lost]).is_err(), "{what}");
        owner
            .mend(NOW)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let kept = bound(30 + n as u8);
        commit(&owner, &[kept]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(after_a_crash(folder.path()), owner.load().0, "{what}");
    }
    assert_eq!(addresses(&owner), [21, 22, 30, 31, 32, 33, 34]);
}

#[test]
fn a_file_that_another_holds_is_waited_for_without_blocking() {
    let folder = folder();
    let (_store, owner) = open(folder.path()).expect("open");
    commit(&owner, &[bound(1)]).expect("commit");
    let path = folder.path().join(FILE_NAME);
    fs::remove_file(&path).expect("remove");
    fs::remove_file(file::log_of(&path)).expect("remove");
    let other = Connection::open(&path).expect("open");
    other
        .execute_batch("CREATE TABLE t (x); BEGIN EXCLUSIVE")
        .expect("locked");
    let start = std::time::Instant::now();
    let error = owner.mend(NOW).expect_err("locked");
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(commit(&owner, &[bound(2)]).is_err());
    other.execute_batch("ROLLBACK; DROP TABLE t").expect("free");
    drop(other);
    owner.mend(NOW).expect("mended");
    commit(&owner, &[bound(2)]).expect("commit");
    assert_eq!(after_a_crash(folder.path()).len(), 2);
}

#[test]
fn a_superseded_owner_writes_nothing() {
    let folder = folder();
    let (store, old) = open(folder.path()).expect("open");
    commit(&old, &[bound(1)]).expect("commit");
    assert!(store.is_free());
    let new = store.take_over();
    assert!(matches!(
        commit(&old, &[bound(2)]),
        Err(StoreError::Superseded)
    ));
    assert!(matches!(old.shift(9, NOW), Err(StoreError::Superseded)));
    assert!(matches!(old.mend(NOW), Err(StoreError::Superseded)));
    commit(&new, &[bound(3)]).expect("commit");
    assert_eq!(addresses(&new), [1, 3]);
    // A thread that is stopped while it writes.
    let held = store.0.lock();
    assert!(!store.is_free());
    drop(held);
    assert!(store.is_free());
}

#[test]
fn dates_follow_the_clock_in_the_file_too() {
    let folder = folder();
    let (_store, owner) = open(folder.path()).expect("open");
    commit(&owner, &[bound(1)]).expect("commit");
    let day = 86_400;
    let mut now = NOW;
    for days in [400_i64, -800] {
        let (before, clock) = owner.load();
        now = now.saturating_add_signed(days * day);
        owner.shift(days * day, now).expect("shifted");
        let (after, moved) = owner.load();
        let until = before[0].until.saturating_add_signed(days * day);
        assert_eq!(after[0].until, until);
        assert_eq!(
            moved.now(Duration::ZERO),
            clock.now(Duration::ZERO).saturating_add_signed(days * day)
        );
        assert_eq!(after_a_crash_at(folder.path(), now)[0].until, until);
    }
}

#[test]
fn a_clock_that_was_set_back_while_it_was_stopped_makes_no_lease_longer() {
    let (folder, _, _) = filled();
    let year = 365 * 86_400;
    let store = Store::open(folder.path(), reading(NOW - year)).expect("open");
    let (leases, _) = store.take_over().load();
    assert_eq!(leases[0].until, NOW - year + 1001);
}

#[test]
fn a_copy_is_a_database_of_its_own() {
    let folder = folder();
    let (_store, owner) = open(folder.path()).expect("open");
    commit(&owner, &[bound(1), bound(2)]).expect("commit");
    let image = owner.image().expect("copied");
    let elsewhere = self::folder();
    fs::write(elsewhere.path().join(FILE_NAME), image).expect("write");
    let (_copy, copied) = open(elsewhere.path()).expect("open");
    assert_eq!(copied.load().0, owner.load().0);
    commit(&owner, &[bound(3)]).expect("the original goes on");
}
