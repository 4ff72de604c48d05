//! Validates the header of a safetensors file before the file is read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The maximum header size in bytes; a model of a hundred billion weights needs less than one MiB.
const LONGEST_HEADER: u64 = 16 << 20;

/// Checks the length of the header of `file` and its number of values.
///
/// Offsets and shapes are checked by the format's own reader, which refuses gaps, overlaps, offsets
/// beyond the end of the file and sizes that overflow, without allocating for any of them.
pub fn header(file: &Path) -> Result<(), String> {
    let read = |error: std::io::Error| error.to_string();
    let mut opened = File::open(file).map_err(read)?;
    let length = opened.metadata().map_err(read)?.len();
    let mut size = [0; 8];
    if length < 8 {
        return Err(format!("it has {length} bytes, too few for a header"));
    }
    opened.read_exact(&mut size).map_err(read)?;
    let (claimed, follow) = (u64::from_le_bytes(size), length - 8);
    if claimed > follow {
        return Err(format!("its header claims {claimed} bytes, but {follow} follow"));
    }
    if claimed > LONGEST_HEADER {
        let most = LONGEST_HEADER >> 20;
        return Err(format!("its header claims {claimed} bytes, above the limit of {most} MiB"));
    }
    let header = crate::all(opened.take(claimed), LONGEST_HEADER).map_err(read)?;
    match crate::has_too_many_values(&header) {
        true => Err("its header has too many values".to_owned()),
        false => Ok(()),
    }
}
