//! Readers: connections of their own that see what is committed and never wait for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::StoreError;

/// Reads that run at once; more than two per core only queue for the disk.
const READERS: usize = 4;

/// A pool of read-only connections.
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Opens all of them now: later there may be no descriptors left.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let idle: Result<_, _> = (0..READERS).map(|_| connect(path)).collect();
        Ok(Arc::new(Self {
            idle: Mutex::new(idle?),
            permits: Arc::new(Semaphore::new(READERS)),
        }))
    }

    /// Runs `read` on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            let connection = crate::lock(&self.idle).pop();
            // There are as many permits as connections, and each goes with one, even if nobody waits any more.
            let connection = connection.ok_or(StoreError::Closed)?;
            let result = read(&connection);
            crate::lock(&self.idle).push(connection);
            drop(permit);
            Ok(result?)
        });
        task.await.map_err(|_| StoreError::Closed)?
    }

    /// Closes the idle connections and refuses further reads.
    pub(super) fn close(&self) {
        self.permits.close();
        crate::lock(&self.idle).clear();
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Readers write to the shared index of the log, never to the database.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(super::sqlite::BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -1024)?;
    // The first read maps the log's index, which takes a descriptor.
    connection.query_row("SELECT 1 FROM counter", [], |_| Ok(()))?;
    Ok(connection)
}
