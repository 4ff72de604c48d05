//! Rows of Parquet files.

mod value;

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use vxf_untrusted::{caught, parquet as claims};

use super::classes::{METADATA, of_metadata};
use super::{At, Line, NamedClasses, io_problem};
use crate::{Error, Result};

/// The number of rows of a column that are decoded together.
const BATCH: usize = 256;

/// The rows of a Parquet file, read one row group at a time.
pub(super) struct Parquet {
    path: PathBuf,
    /// For the validation of claimed sizes, separate from the reader's own handle.
    file: File,
    size: u64,
    reader: SerializedFileReader<File>,
    group: usize,
    rows: Option<ReaderIter>,
    read: u64,
}

impl Parquet {
    /// Opens a file and validates its schema.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let fault = |problem: String| Error::File { path: path.to_owned(), problem };
        let opened = File::open(path).and_then(|file| Ok((file.try_clone()?, file)));
        let (mut file, again) = opened.map_err(|error| fault(io_problem(&error)))?;
        let size = file.metadata().map_err(|error| fault(io_problem(&error)))?.len();
        claims::footer(&mut file, size).map_err(fault)?;
        let reader = guarded(|| SerializedFileReader::new(again)).map_err(fault)?;
        Ok(Self { path: path.to_owned(), file, size, reader, group: 0, rows: None, read: 0 })
    }

    /// The classes that the file's metadata names.
    pub(super) fn classes(&self) -> Vec<NamedClasses> {
        let metadata = self.reader.metadata().file_metadata().key_value_metadata();
        let entry = metadata.into_iter().flatten().find(|entry| entry.key == METADATA);
        entry.and_then(|entry| entry.value.as_deref()).map_or(Vec::new(), of_metadata)
    }

    fn fault(&self, problem: &str) -> Error {
        let problem = format!("after row {}: {problem}", self.read);
        Error::File { path: self.path.clone(), problem }
    }

    /// The rows of the next group that is not empty.
    fn next_group(&mut self) -> Option<Result<ReaderIter, String>> {
        let group = self.group;
        if group >= self.reader.num_row_groups() {
            return None;
        }
        self.group += 1;
        let metadata = self.reader.metadata();
        let schema = metadata.file_metadata().schema_descr_ptr();
        Some(claims::row_group(&self.file, self.size, metadata.row_group(group)).and_then(|()| {
            guarded(|| {
                let rows = claims::Group(self.reader.get_row_group(group)?);
                TreeBuilder::new().with_batch_size(BATCH).as_iter(schema, &rows)
            })
        }))
    }
}

impl Iterator for Parquet {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        loop {
            if let Some(rows) = &mut self.rows {
                match guarded(|| rows.next().transpose()) {
                    Ok(Some(record)) => {
                        self.read += 1;
                        return Some(Ok(Line {
                            at: At::Row(self.read),
                            row: Ok(value::row(record)),
                        }));
                    }
                    Ok(None) => self.rows = None,
                    // After an error the columns are misaligned, so there is no next row.
                    Err(problem) => {
                        self.rows = None;
                        self.group = usize::MAX;
                        return Some(Err(self.fault(&problem)));
                    }
                }
            }
            match self.next_group()? {
                Ok(rows) => self.rows = Some(rows),
                Err(problem) => {
                    self.group = usize::MAX;
                    return Some(Err(self.fault(&problem)));
                }
            }
        }
    }
}

/// The error of the parquet crate, in one line.
///
/// The crate panics on some damaged files; here these panics become errors.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    let problem = match caught(read) {
        Some(Ok(value)) => return Ok(value),
        Some(Err(error)) => error.to_string(),
        None => "its columns do not fit together".to_owned(),
    };
    // Some of its messages contain the complete offending value.
    let mut short: String = problem.chars().take(160).collect();
    if short.len() < problem.len() {
        short.push_str("...");
    }
    Err(format!("{short}; the file may be damaged"))
}
