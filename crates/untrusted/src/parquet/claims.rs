//! Validates the sizes that a Parquet file claims, before anything is allocated for it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::thrift::{Event, Fault, walk};

/// The maximum nesting depth of columns; real files stay below ten.
const DEEPEST_SCHEMA: usize = 32;

/// Decompressed bytes that any page may have.
const PAGE_BYTES: u64 = 64 << 20;

/// Decompressed bytes allowed per compressed byte beyond that. Text compresses about tenfold.
const EXPANSION: u64 = 1024;

/// The maximum number of values in a page of a list column, where the reader buffers whole rows.
const LIST_VALUES: u64 = 4 << 20;

/// The maximum number of values in a page of any other column.
const FLAT_VALUES: u64 = 64 << 20;

/// The maximum number of rows per byte of the file.
const ROWS_PER_BYTE: u64 = 64;

const NOT_PARQUET: &str = "this is not a Parquet file";
const DAMAGED: &str = "the file is damaged; download it again";

/// Validates the magic bytes, the footer and the column tree.
pub fn footer(file: &mut File, size: u64) -> Result<(), String> {
    let read = |error: std::io::Error| error.to_string();
    let mut magic = [0; 4];
    let mut tail = [0; 8];
    if size < 12 {
        return Err(NOT_PARQUET.to_owned());
    }
    file.rewind().map_err(read)?;
    file.read_exact(&mut magic).map_err(read)?;
    file.seek(SeekFrom::End(-8)).map_err(read)?;
    file.read_exact(&mut tail).map_err(read)?;
    let [a, b, c, d, end @ ..] = tail;
    match (&magic, &end) {
        (b"PAR1", b"PAR1") => {}
        (b"PARE", _) | (_, b"PARE") => return Err("the file is encrypted".to_owned()),
        (b"PAR1", _) => return Err("the end of the file is missing; download it again".to_owned()),
        _ => return Err(NOT_PARQUET.to_owned()),
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let start = (size - 8).checked_sub(length).ok_or_else(|| DAMAGED.to_owned())?;
    file.seek(SeekFrom::Start(start)).map_err(read)?;

    let mut tree = Tree::default();
    let mut visit = |path: &[i16], event: Event| match (path, event) {
        ([2], Event::List(count)) => tree.elements(count),
        ([2], Event::Begin) => tree.next(),
        ([2, 5], Event::Number(children)) => tree.children(children),
        _ => Ok(()),
    };
    walk(BufReader::new(&*file).take(length), &mut visit).map_err(explain)?;
    tree.next()
}

/// The column tree; the file lists it depth first, with the number of children of each element.
#[derive(Default)]
struct Tree {
    elements: u64,
    /// The number of children not yet read, for the current element and its ancestors.
    open: Vec<u64>,
    /// The number of children of the current element.
    children: Option<u64>,
}

impl Tree {
    fn elements(&mut self, count: u64) -> Result<(), String> {
        self.elements = count;
        Ok(())
    }

    fn children(&mut self, count: i64) -> Result<(), String> {
        match u64::try_from(count) {
            Ok(count) if count < self.elements.max(1) => {
                self.children = Some(count);
                Ok(())
            }
            _ => Err(format!("a column claims {count} inner columns, of {}", self.elements)),
        }
    }

    /// Finishes the current element and moves on to the next one.
    fn next(&mut self) -> Result<(), String> {
        if let Some(left) = self.open.last_mut() {
            *left -= 1;
        }
        self.open.push(self.children.take().unwrap_or(0));
        while self.open.last() == Some(&0) {
            self.open.pop();
        }
        match self.open.len() <= DEEPEST_SCHEMA {
            true => Ok(()),
            false => Err(format!("columns are nested deeper than {DEEPEST_SCHEMA}")),
        }
    }
}

/// Validates the page headers of a row group.
pub fn row_group(file: &File, size: u64, group: &RowGroupMetaData) -> Result<(), String> {
    let rows = u64::try_from(group.num_rows()).map_err(|_| DAMAGED.to_owned())?;
    if rows / ROWS_PER_BYTE > size {
        return Err(format!("it claims {rows} rows in {size} bytes; {DAMAGED}"));
    }
    group.columns().iter().try_for_each(|column| {
        chunk(file, size, column).map_err(|problem| format!("column `{}`: {problem}", name(column)))
    })
}

fn name(column: &ColumnChunkMetaData) -> String {
    column.column_path().string()
}

fn chunk(file: &File, size: u64, column: &ColumnChunkMetaData) -> Result<(), String> {
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let place = (u64::try_from(start), u64::try_from(column.compressed_size()));
    let (Ok(mut at), Ok(length)) = place else { return Err(DAMAGED.to_owned()) };
    let end = at.checked_add(length).filter(|end| *end <= size);
    let end = end.ok_or_else(|| DAMAGED.to_owned())?;
    let lists = column.column_descr().max_rep_level() > 0;
    let mut reader = BufReader::new(file);
    while at < end {
        let io = |error: std::io::Error| error.to_string();
        reader.seek(SeekFrom::Start(at)).map_err(io)?;
        let mut page = Page::default();
        let mut visit = |path: &[i16], event| page.see(path, event);
        let header = walk((&mut reader).take(end - at), &mut visit).map_err(explain)?;
        at += header;
        page.check(end - at, lists)?;
        if matches!(column.compression(), Compression::GZIP(_)) && page.compressed {
            gzip(&mut reader, &page)?;
        }
        at += page.stored;
    }
    Ok(())
}

/// The sizes that a page header claims.
struct Page {
    expanded: u64,
    stored: u64,
    values: u64,
    dictionary: bool,
    compressed: bool,
    /// Bytes of repetition and definition levels at the start, which are not compressed.
    levels: u64,
    negative: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            expanded: 0,
            stored: 0,
            values: 0,
            dictionary: false,
            compressed: true,
            levels: 0,
            negative: false,
        }
    }
}

impl Page {
    fn see(&mut self, path: &[i16], event: Event) -> Result<(), String> {
        if let ([8, 7], Event::Truth(compressed)) = (path, event) {
            self.compressed = compressed;
        }
        let Event::Number(number) = event else { return Ok(()) };
        let claim = u64::try_from(number);
        let size = claim.unwrap_or_default();
        match path {
            [2] => self.expanded = size,
            [3] => self.stored = size,
            [5, 1] | [8, 1] => self.values = size,
            [7, 1] => (self.values, self.dictionary) = (size, true),
            [8, 5 | 6] => self.levels += size,
            _ => return Ok(()),
        }
        self.negative |= claim.is_err();
        Ok(())
    }

    fn check(&self, left: u64, lists: bool) -> Result<(), String> {
        let Self { expanded, stored, values, .. } = *self;
        let most = match (self.dictionary, lists) {
            (true, _) => expanded,
            (false, true) => LIST_VALUES + expanded,
            (false, false) => FLAT_VALUES + expanded,
        };
        if self.negative || stored > left {
            Err(format!("a page claims more than the file has; {DAMAGED}"))
        } else if expanded > PAGE_BYTES + EXPANSION * stored {
            Err(format!("a page of {stored} bytes claims to expand to {expanded}; {DAMAGED}"))
        } else if values > most {
            Err(format!("a page of {expanded} bytes claims {values} values; {DAMAGED}"))
        } else {
            Ok(())
        }
    }
}

/// Refuses a page that decompresses to more than it claims, since the crate would keep all of it.
fn gzip(reader: &mut BufReader<&File>, page: &Page) -> Result<(), String> {
    let io = |error: std::io::Error| format!("a page cannot be decompressed: {error}");
    let levels = page.levels.min(page.stored);
    std::io::copy(&mut reader.take(levels), &mut std::io::sink()).map_err(io)?;
    let packed = reader.take(page.stored - levels);
    let mut expanded = MultiGzDecoder::new(packed).take(page.expanded + 1);
    match std::io::copy(&mut expanded, &mut std::io::sink()).map_err(io)? {
        length if length > page.expanded => {
            Err(format!("a page claims {} bytes, but expands to more; {DAMAGED}", page.expanded))
        }
        _ => Ok(()),
    }
}

fn explain(fault: Fault) -> String {
    match fault {
        Fault::Broken => DAMAGED.to_owned(),
        Fault::Claim(problem) => format!("{problem}; {DAMAGED}"),
        Fault::Io(error) => error.to_string(),
    }
}
