//! File locks of an experiment's directory and of its runs, released when their process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::execute::control::Control;
use crate::execute::progress::Progress;
use crate::{Error, Result};

/// The lock of the whole directory.
pub(super) const LOCK: &str = ".lock";
/// Interval between attempts to lock a file that another process holds.
const PATIENCE: Duration = Duration::from_millis(50);

/// How a process holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// No other process has it.
    Alone,
    /// Other processes may have it too.
    Shared,
}

/// Locks the file `path` of the experiment in `root` until the lock is dropped; waits while another process
/// holds it.
pub(super) fn lock(
    root: &Path,
    path: &Path,
    hold: Hold,
    control: Control<'_>,
    progress: &dyn Progress,
) -> Result<File> {
    // NFS locks a file only for what it is open for: shared for reading, alone for writing.
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let lock = opened.map_err(Error::io("write", path))?;
    let mut told = false;
    loop {
        let tried = match hold {
            Hold::Alone => lock.try_lock(),
            Hold::Shared => lock.try_lock_shared(),
        };
        match tried {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
            Err(TryLockError::WouldBlock) if control.stops() => {
                return Err(Error::Interrupted { path: root.to_owned() });
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if !std::mem::replace(&mut told, true) {
            let what = match path.file_name() {
                Some(name) if name == LOCK => root.display().to_string(),
                _ => format!("this run of {}", root.display()),
            };
            progress.note(&format!("another vxf is writing {what}; waiting for it to end"));
        }
        std::thread::sleep(PATIENCE);
    }
}
