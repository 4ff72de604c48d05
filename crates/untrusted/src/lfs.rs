//! Recognises pointers of Git LFS that stand where a file should be.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How every pointer begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What a pointer in place of a file means, and what to do.
pub const LFS_POINTER: &str = "this is a Git LFS pointer, the file itself was not downloaded (run `git lfs pull` in its \
     directory)";

/// Whether `bytes`, the start of a file, are those of a Git LFS pointer.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(POINTER)
}

/// Refuses the file `path` if it is a Git LFS pointer.
///
/// # Errors
/// [`LFS_POINTER`]. A file that cannot be read is left to its reader.
pub fn no_lfs_pointer(path: &Path) -> Result<(), String> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    match read.is_ok() && is_lfs_pointer(&start) {
        true => Err(LFS_POINTER.to_owned()),
        false => Ok(()),
    }
}
