//! The database's file: opened, read, written, and watched for what others do to it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, config::DbConfig, params};

use super::{PATIENCE, StoreError, row};
use crate::dhcp::lease::{Record, StoredLease};

/// `labn`: tells our databases from others'.
const APPLICATION_ID: i64 = 0x6c61_626e;
pub(super) const SCHEMA_VERSION: i64 = 1;
/// The version of the file format, where the file says whether it has a log.
pub(super) const ROLLBACK_JOURNAL: u8 = 1;
pub(super) const WRITE_AHEAD_LOG: u8 = 2;
/// When something was written last, to the minute: tells a clock that was set back meanwhile.
const CLOCK: &str = "
    CREATE TABLE IF NOT EXISTS clock (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        written INTEGER NOT NULL          -- seconds since 1970
    )";
const TICK: &str = "INSERT OR REPLACE INTO clock (id, written) VALUES (1, ?1)";
/// How exact that is, seconds.
const WRITTEN_INTERVAL: u64 = 60;

/// An open database that nobody else may open: two servers that lease from the same pools would
/// hand out addresses twice.
pub(super) struct DatabaseFile {
    path: PathBuf,
    database: Connection,
    /// The files as this program left them: the database and its log.
    left: Option<[Stamp; 2]>,
    written: Option<u64>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// What can be read, in the order of the addresses.
    pub(super) leases: Vec<StoredLease>,
    /// The rows that can't, in words.
    pub(super) damaged: Vec<String>,
    /// SQLite's complaint about the file itself: a row that it can't read, or more.
    pub(super) broken: Option<String>,
    /// Rows are missing, and nobody knows which.
    pub(super) gap: bool,
}

impl DatabaseFile {
    /// Opens the file; makes it if there is none. Waits for so long if another program has it open.
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        let folder = folder_of(path);
        fs::metadata(folder).map_err(|error| StoreError::folder(folder, error))?;
        let new = !path.exists();
        let mut file = Self {
            database: connect(path, patience).map_err(|error| StoreError::of(path, error))?,
            path: path.to_owned(),
            left: None,
            written: None,
        };
        match file.prepare() {
            Ok(Owner::Labnet | Owner::Nobody) => {}
            Ok(Owner::Other) => return Err(StoreError::Foreign(file.path)),
            Ok(Owner::Newer(found)) => {
                let path = file.path;
                return Err(StoreError::Newer { path, found });
            }
            Err(error) => return Err(StoreError::of(path, error)),
        }
        if new {
            // SQLite syncs the file; that it has a name is the folder's.
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| StoreError::folder(folder, error))?;
        }
        Ok(file)
    }

    fn prepare(&mut self) -> rusqlite::Result<Owner> {
        let database = &mut self.database;
        // Locked from the first access on. Besides, SQLite then keeps its index of the log in
        // memory of its own: a file that is cut off can't take the program with it.
        database.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let new = match owner(database)? {
            Owner::Nobody => true,
            Owner::Labnet => false,
            other => return Ok(other),
        };
        // The journal mode is the file's and can't change inside of a transaction; FULL syncs the
        // log at each commit, which is what makes an ACK a promise.
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.pragma_update(None, "synchronous", "FULL")?;
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if new {
            transaction.execute_batch(row::SCHEMA)?;
            transaction.execute_batch(CLOCK)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        } else {
            // What earlier versions did without, and still do beside it.
            let checksum = "pragma_table_info('lease') WHERE name = 'checksum'";
            if count(&transaction, checksum)? == 0 {
                transaction.execute_batch("ALTER TABLE lease ADD COLUMN checksum INTEGER")?;
            }
            transaction.execute_batch(CLOCK)?;
        }
        transaction.commit()?;
        Ok(Owner::Labnet)
    }

    /// When something was written last, seconds since 1970; none in a new file.
    pub(super) fn written(&self) -> Option<u64> {
        let written = self
            .database
            .query_row("SELECT written FROM clock", [], |row| row.get(0));
        u64::try_from(written.unwrap_or(-1_i64)).ok()
    }

    /// Reads every row, and of a damaged file what can be read.
    pub(super) fn read(&self) -> Rows {
        read(&self.database)
    }

    /// Stores all records, in order, or none.
    pub(super) fn write(&mut self, records: &[Record], now: u64) -> Result<(), StoreError> {
        self.in_place()?;
        let tick = self
            .written
            .is_none_or(|written| now.abs_diff(written) >= WRITTEN_INTERVAL);
        self.transact(records, tick.then_some(now))
            .map_err(|error| StoreError::of(&self.path, error))?;
        self.stamp()
    }

    fn transact(&mut self, records: &[Record], tick: Option<u64>) -> rusqlite::Result<()> {
        let transaction = self
            .database
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut keep = transaction.prepare_cached(row::UPSERT)?;
            let mut forget = transaction.prepare_cached("DELETE FROM lease WHERE address = ?1")?;
            for record in records {
                match record {
                    Record::Keep(lease) => row::write(&mut keep, lease)?,
                    Record::Forget(address) => {
                        forget.execute([address.to_bits()])?;
                    }
                }
            }
            if let Some(now) = tick {
                let now = i64::try_from(now).unwrap_or(i64::MAX);
                transaction.prepare_cached(TICK)?.execute(params![now])?;
            }
        }
        transaction.commit()?;
        if tick.is_some() {
            self.written = tick;
        }
        Ok(())
    }

    /// Makes the file hold these leases and no others, with as little writing as that takes, but
    /// some at any rate: who returns from here can write. Rows that can't be read stay, unless
    /// their address has a lease.
    pub(super) fn synchronise(
        &mut self,
        leases: &HashMap<Ipv4Addr, StoredLease>,
        now: u64,
    ) -> Result<(), StoreError> {
        let rows = self.read();
        if let Some(problem) = rows.broken {
            return Err(StoreError::Damaged {
                path: self.path.clone(),
                problem,
            });
        }
        let mut missing = leases.clone();
        let mut records = Vec::new();
        for row in &rows.leases {
            match missing.get(&row.address) {
                Some(lease) if lease == row => {
                    missing.remove(&row.address);
                }
                Some(_) => {}
                None => records.push(Record::Forget(row.address)),
            }
        }
        records.extend(missing.into_values().map(Record::Keep));
        self.transact(&records, Some(now))
            .map_err(|error| StoreError::of(&self.path, error))?;
        self.stamp()
    }

    /// Whether the files are where a restart will look for them, and as this program left them.
    pub(super) fn in_place(&self) -> Result<(), StoreError> {
        let Some(left) = &self.left else {
            return Ok(());
        };
        for (left, path) in left.iter().zip(self.paths()) {
            let found = stamp(&path)?;
            if found != *left {
                return Err(if found.same_file(left) {
                    StoreError::Changed(path)
                } else {
                    StoreError::Replaced(path)
                });
            }
        }
        Ok(())
    }

    /// Remembers the files as they are now. A file that went away while it was written to holds
    /// nothing that a restart would find.
    fn stamp(&mut self) -> Result<(), StoreError> {
        let [database, log] = self.paths();
        let found = [stamp(&database)?, stamp(&log)?];
        if let Some(left) = &self.left {
            for ((left, found), path) in left.iter().zip(&found).zip([database, log]) {
                if !found.same_file(left) {
                    return Err(StoreError::Replaced(path));
                }
            }
        }
        self.left = Some(found);
        Ok(())
    }

    fn paths(&self) -> [PathBuf; 2] {
        [self.path.clone(), log_of(&self.path)]
    }

    /// Lets go of files that were taken away or spoilt, and touches nothing that another may have
    /// put in their place.
    pub(super) fn abandon(self) {
        let ours = |index: usize| {
            let left = self.left.as_ref()?;
            let found = stamp(&self.paths()[index]).ok()?;
            found.same_file(&left[index]).then_some(())
        };
        let (database, log) = (ours(0).is_some(), ours(1).is_some());
        // The last one to close a database writes its log into it and deletes the log by name.
        let spared = self
            .database
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        if let Err(error) = spared {
            tracing::debug!(%error, "a database is closed the usual way");
        }
        drop(self.database);
        if log && !database {
            // SQLite would take it for the log of whatever database is there now.
            let _ = fs::remove_file(log_of(&self.path));
        }
    }

    /// Reads SQLite's whole file: pages that no row is on, too.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match complaint(&self.database) {
            None => Ok(()),
            Some(problem) => Err(StoreError::Damaged {
                path: self.path.clone(),
                problem,
            }),
        }
    }

    /// Closes it with an empty log: the file alone holds everything.
    pub(super) fn close(self) -> Result<(), StoreError> {
        let path = self.path;
        self.database
            .close()
            .map_err(|(_, error)| StoreError::of(&path, error))
    }

    /// The rows of a file and SQLite's complaint about it, without changing anything.
    pub(super) fn look_at(path: &Path) -> Result<(Rows, Option<String>), StoreError> {
        let failed = |error| StoreError::of(path, error);
        let log = log_of(path);
        let had_log = log.exists();
        let database = connect(path, PATIENCE).map_err(failed)?;
        database
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(failed)?;
        database
            .pragma_update(None, "locking_mode", "EXCLUSIVE")
            .map_err(failed)?;
        match owner(&database).map_err(failed)? {
            Owner::Labnet => {}
            Owner::Newer(found) => {
                let path = path.to_owned();
                return Err(StoreError::Newer { path, found });
            }
            Owner::Nobody | Owner::Other => return Err(StoreError::Foreign(path.to_owned())),
        }
        let looked = (read(&database), complaint(&database));
        drop(database);
        if !had_log && fs::metadata(&log).is_ok_and(|log| log.len() == 0) {
            let _ = fs::remove_file(log);
        }
        Ok(looked)
    }

    /// The bytes of a database without leases.
    pub(super) fn empty_image() -> rusqlite::Result<Vec<u8>> {
        let mut database = Connection::open_in_memory()?;
        database.execute_batch(row::SCHEMA)?;
        database.execute_batch(CLOCK)?;
        Ok(database.serialize("main")?.to_vec())
    }

    /// A copy of the whole database as it is now, as the bytes of a file of its own.
    pub(super) fn image(&self) -> rusqlite::Result<Vec<u8>> {
        let mut copy = Connection::open_in_memory()?;
        let backup = rusqlite::backup::Backup::new(&self.database, &mut copy)?;
        backup.run_to_completion(i32::MAX, Duration::ZERO, None)?;
        drop(backup);
        let mut image = copy.serialize("main")?.to_vec();
        // The copy has no log: without this, to look at it would make one.
        if let Some(versions) = image.get_mut(18..20) {
            versions.fill(ROLLBACK_JOURNAL);
        }
        Ok(image)
    }
}

/// Whose database a file is.
enum Owner {
    /// It is empty.
    Nobody,
    Labnet,
    Other,
    Newer(i64),
}

fn owner(database: &Connection) -> rusqlite::Result<Owner> {
    let pragma = |name| -> rusqlite::Result<i64> {
        database.pragma_query_value(None, name, |row| row.get(0))
    };
    let objects = count(database, "sqlite_schema")?;
    let version = pragma("user_version")?;
    Ok(match pragma("application_id")? {
        APPLICATION_ID if version > SCHEMA_VERSION => Owner::Newer(version),
        APPLICATION_ID if version == SCHEMA_VERSION => Owner::Labnet,
        0 if objects == 0 && version == 0 => Owner::Nobody,
        _ => Owner::Other,
    })
}

fn count(database: &Connection, of: &str) -> rusqlite::Result<i64> {
    database.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0))
}

/// What SQLite finds wrong with the whole file.
fn complaint(database: &Connection) -> Option<String> {
    let check = database.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match check {
        Ok(answer) if answer == "ok" => None,
        Ok(answer) => Some(answer.replace('\n', " ")),
        Err(error) => Some(error.to_string()),
    }
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

pub(super) fn connect(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(patience)?;
    Ok(database)
}

/// The write-ahead log of a database.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// A file's identity, and what every change to it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// By its name, without opening it: closing it again would give up the locks that SQLite has on it.
fn stamp(path: &Path) -> Result<Stamp, StoreError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Stamp {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Gone(path.to_owned()))
        }
        Err(error) => Err(StoreError::folder(path, error)),
    }
}

/// Reads every row, and of a damaged file what can be read.
pub(super) fn read(database: &Connection) -> Rows {
    let mut rows = Rows::default();
    let Err(error) = scan(database, "ORDER BY address", &mut rows) else {
        return rows;
    };
    // Somewhere in the middle SQLite gave up. The rows before that place are there already; those
    // behind it can be reached from the other end.
    rows.broken = Some(error.to_string());
    let mut behind = Rows::default();
    let reached = rows.leases.last().map(|lease| lease.address.to_bits());
    let from_the_end = format!(
        "WHERE address > {} ORDER BY address DESC",
        reached.map_or(-1, i64::from)
    );
    let gave_up = scan(database, &from_the_end, &mut behind).is_err();
    let first = behind.leases.last().map(|lease| lease.address.to_bits());
    rows.leases.extend(behind.leases.into_iter().rev());
    for damaged in behind.damaged {
        if !rows.damaged.contains(&damaged) {
            rows.damaged.push(damaged);
        }
    }
    if gave_up {
        let bound = |bits: Option<u32>, none: i64| bits.map_or(none, i64::from);
        match keys(database, bound(reached, -1), bound(first, i64::MAX)) {
            Ok(keys) => rows.damaged.extend(keys),
            Err(_) => {
                let end = |bits: Option<u32>, none: &str| {
                    bits.map_or(none.to_owned(), |bits| {
                        Ipv4Addr::from_bits(bits).to_string()
                    })
                };
                rows.gap = true;
                rows.damaged.push(format!(
                    "whatever there was between {} and {}",
                    end(reached, "the beginning"),
                    end(first, "the end")
                ));
            }
        }
    }
    rows
}

fn scan(database: &Connection, order: &str, rows: &mut Rows) -> rusqlite::Result<()> {
    // A file of an earlier version, opened to be looked at, has no checksums.
    let columns = row::COLUMNS;
    let mut statement = database
        .prepare(&format!("SELECT {columns} FROM lease {order}"))
        .or_else(|_| {
            let columns = columns.replace("checksum", "NULL");
            database.prepare(&format!("SELECT {columns} FROM lease {order}"))
        })?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        match row::parse(row) {
            Some(lease) => rows.leases.push(lease),
            None => rows.damaged.push(named(row)),
        }
    }
    Ok(())
}

/// The rows between two keys by their keys alone, which SQLite may still be able to read.
fn keys(database: &Connection, after: i64, before: i64) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        database.prepare("SELECT address FROM lease WHERE address > ?1 AND address < ?2")?;
    let keys = statement.query_map([after, before], |row| Ok(named(row)))?;
    keys.collect()
}

/// The row's key in words, for a person who looks for it.
fn named(row: &Row<'_>) -> String {
    match row.get(0) {
        Ok(bits) => format!("the lease of {}", Ipv4Addr::from_bits(bits)),
        Err(_) => "a row that is of no IPv4 address".to_owned(),
    }
}
