use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, ErrorCode, Row, TransactionBehavior, params};

use super::lease::{ClientKey, Hardware, Record, StoredLease, StoredState};

/// The leases on disk: `leases.sqlite` in the state folder.
///
/// A [`commit`](Self::commit) that returned has reached the disk (write-ahead log, synced). The
/// database is locked for as long as it is open: two servers that lease from the same pools would
/// hand out addresses twice. Clones are handles of the same store.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    database: Arc<Mutex<Connection>>,
}

/// Why leases could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state folder can't be made.
    #[error("{path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The file is something else.
    #[error("{0} is not a lease database of labnet; move it away to start with an empty one")]
    Foreign(PathBuf),
    /// A newer labnet wrote it.
    #[error("{path} has the format {found}, this labnet knows {SCHEMA_VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its `user_version`.
        found: i64,
    },
    /// Another process has it open.
    #[error("{0} is in use by another process: is labnet running already?")]
    Locked(PathBuf),
    /// A row that labnet can't have written.
    #[error("{path}: the lease of {address} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The row's key.
        address: String,
    },
    /// Anything else that SQLite says.
    #[error("{path}: {error}")]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        error: rusqlite::Error,
    },
}

const FILE_NAME: &str = "leases.sqlite";
/// `labn`: tells our databases from others'.
const APPLICATION_ID: i64 = 0x6c61_626e;
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE lease (
        address INTEGER PRIMARY KEY,      -- the IPv4 address as a number
        client BLOB NOT NULL,             -- 0, hardware type, address; or 1, client identifier
        hardware_type INTEGER NOT NULL,
        hardware_address BLOB NOT NULL,
        hostname TEXT,
        state TEXT NOT NULL,              -- bound, released, declined
        until INTEGER NOT NULL            -- when that ends or, released, began: seconds since 1970
    )";
const UPSERT: &str = "
    INSERT OR REPLACE INTO lease
        (address, client, hardware_type, hardware_address, hostname, state, until)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

impl Store {
    /// Opens the database in `folder`; makes both if they don't exist.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|error| StoreError::Folder {
            path: folder.to_owned(),
            error,
        })?;
        let path = folder.join(FILE_NAME);
        match connect(&path) {
            Ok(Header::Ours(database)) => Ok(Self {
                database: Arc::new(Mutex::new(database)),
                path,
            }),
            Ok(Header::Foreign) => Err(StoreError::Foreign(path)),
            Ok(Header::Newer(found)) => Err(StoreError::Newer { path, found }),
            Err(error) => Err(wrap(&path, error)),
        }
    }

    /// Every stored lease, those that ended first before the others.
    pub fn load(&self) -> Result<Vec<StoredLease>, StoreError> {
        let database = self.lock();
        let load = || {
            let mut leases = Vec::new();
            let mut statement = database.prepare(
                "SELECT address, client, hardware_type, hardware_address, hostname, state, until
                 FROM lease ORDER BY until, address",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                leases.push(parse(row).ok_or_else(|| named(row)));
            }
            Ok(leases)
        };
        let rows = load().map_err(|error| wrap(&self.path, error))?;
        let damaged = |address| StoreError::Damaged {
            path: self.path.clone(),
            address,
        };
        rows.into_iter().map(|row| row.map_err(damaged)).collect()
    }

    /// Stores all records, in order, or none.
    pub fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut database = self.lock();
        let mut commit = || {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut keep = transaction.prepare_cached(UPSERT)?;
                let mut forget =
                    transaction.prepare_cached("DELETE FROM lease WHERE address = ?1")?;
                for record in records {
                    match record {
                        Record::Keep(lease) => keep.execute(params![
                            lease.address.to_bits(),
                            lease.client.as_bytes(),
                            lease.hardware.kind(),
                            lease.hardware.address(),
                            lease.hostname.as_deref(),
                            name(lease.state),
                            i64::try_from(lease.until).unwrap_or(i64::MAX),
                        ])?,
                        Record::Forget(address) => forget.execute([address.to_bits()])?,
                    };
                }
            }
            transaction.commit()
        };
        commit().map_err(|error| wrap(&self.path, error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic interrupts is rolled back by its own drop.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose database a file is.
enum Header {
    Ours(Connection),
    Foreign,
    Newer(i64),
}

fn connect(path: &Path) -> rusqlite::Result<Header> {
    let mut database = Connection::open(path)?;
    // Locked from the first access on: see Store.
    database.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let pragma = |database: &Connection, name| -> rusqlite::Result<i64> {
        database.pragma_query_value(None, name, |row| row.get(0))
    };
    let objects: i64 =
        database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let version = pragma(&database, "user_version")?;
    let new = match pragma(&database, "application_id")? {
        APPLICATION_ID if version > SCHEMA_VERSION => return Ok(Header::Newer(version)),
        APPLICATION_ID if version == SCHEMA_VERSION => false,
        0 if objects == 0 && version == 0 => true,
        _ => return Ok(Header::Foreign),
    };
    // The journal mode is the file's and can't change inside of a transaction; FULL syncs the log
    // at each commit, which is what makes an ACK a promise.
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if new {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()?;
    Ok(Header::Ours(database))
}

fn wrap(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked(path),
        Some(ErrorCode::NotADatabase) => StoreError::Foreign(path),
        _ => StoreError::Database { path, error },
    }
}

fn name(state: StoredState) -> &'static str {
    match state {
        StoredState::Bound => "bound",
        StoredState::Released => "released",
        StoredState::Declined => "declined",
    }
}

fn parse(row: &Row<'_>) -> Option<StoredLease> {
    let hardware: Vec<u8> = row.get(3).ok()?;
    if hardware.len() > 16 {
        return None;
    }
    Some(StoredLease {
        address: Ipv4Addr::from_bits(row.get(0).ok()?),
        client: ClientKey::from_bytes(&row.get::<_, Vec<u8>>(1).ok()?)?,
        hardware: Hardware::new(row.get(2).ok()?, &hardware),
        hostname: row.get::<_, Option<String>>(4).ok()?.map(Into::into),
        state: match row.get::<_, String>(5).ok()?.as_str() {
            "bound" => StoredState::Bound,
            "released" => StoredState::Released,
            "declined" => StoredState::Declined,
            _ => return None,
        },
        until: u64::try_from(row.get::<_, i64>(6).ok()?).ok()?,
    })
}

/// The row's key in words, for a person who looks for it.
fn named(row: &Row<'_>) -> String {
    match row.get(0) {
        Ok(bits) => Ipv4Addr::from_bits(bits).to_string(),
        Err(_) => "no IPv4 address".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(last: u8, state: StoredState) -> StoredLease {
        StoredLease {
            address: Ipv4Addr::new(10, 0, 0, last),
            client: ClientKey::identifier(&[last; 3]),
            hardware: Hardware::new(1, &[2, 0, 0, 0, 0, last]),
            hostname: Some("host".into()),
            state,
            until: 1000 + u64::from(last),
        }
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn what_was_committed_is_there_after_a_crash() {
        let before = folder();
        let after = folder();
        let store = Store::open(before.path()).expect("open");
        let kept = lease(1, StoredState::Bound);
        store
            .commit(&[
                Record::Keep(kept.clone()),
                Record::Keep(lease(2, StoredState::Declined)),
                Record::Keep(lease(3, StoredState::Bound)),
            ])
            .expect("commit");
        store
            .commit(&[
                Record::Forget(lease(2, StoredState::Bound).address),
                Record::Keep(lease(3, StoredState::Released)),
            ])
            .expect("commit");
        // What a power cut would leave: the files as they are, nothing closed.
        for file in fs::read_dir(before.path()).expect("list") {
            let file = file.expect("entry");
            fs::copy(file.path(), after.path().join(file.file_name())).expect("copy");
        }
        let loaded = Store::open(after.path()).expect("open").load();
        assert_eq!(
            loaded.expect("load"),
            [kept, lease(3, StoredState::Released)]
        );
    }

    #[test]
    fn it_opens_its_own_file_again_but_only_once_at_a_time() {
        let folder = folder();
        let store = Store::open(folder.path()).expect("open");
        assert!(matches!(
            Store::open(folder.path()),
            Err(StoreError::Locked(_))
        ));
        drop(store);
        Store::open(folder.path()).expect("open again");
    }

    #[test]
    fn a_file_that_is_something_else_is_refused_and_left_alone() {
        let folder = folder();
        let path = folder.path().join(FILE_NAME);
        let noise = [7; 5000];
        fs::write(&path, noise).expect("write");
        assert!(matches!(
            Store::open(folder.path()),
            Err(StoreError::Foreign(_))
        ));
        assert_eq!(fs::read(&path).expect("read"), noise);

        fs::remove_file(&path).expect("remove");
        let other = Connection::open(&path).expect("open");
        other.execute_batch("CREATE TABLE t (x)").expect("create");
        drop(other);
        assert!(matches!(
            Store::open(folder.path()),
            Err(StoreError::Foreign(_))
        ));
    }

    #[test]
    fn a_newer_format_and_a_damaged_row_have_their_own_errors() {
        let folder = folder();
        drop(Store::open(folder.path()).expect("create"));
        let path = folder.path().join(FILE_NAME);
        let edit = |sql: &str| {
            let other = Connection::open(&path).expect("open");
            other.execute_batch(sql).expect("edit");
        };
        edit("INSERT INTO lease VALUES (167772161, x'09', 1, x'020000000007', NULL, 'bound', 5)");
        let store = Store::open(folder.path()).expect("open");
        let error = store.load().expect_err("damaged").to_string();
        assert!(error.contains("10.0.0.1"), "{error}");
        drop(store);
        edit("PRAGMA user_version = 2");
        assert!(matches!(
            Store::open(folder.path()),
            Err(StoreError::Newer { found: 2, .. })
        ));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = folder();
        let file = folder.path().join("file");
        fs::write(&file, "").expect("write");
        let error = Store::open(&file.join("state")).err().expect("refused");
        assert!(error.to_string().contains("state"), "{error}");
    }
}
