//! Validates delta-encoded pages before the parquet crate decodes them.
//!
//! A delta encoding states its own number of values, and the crate allocates for that number first.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::RowGroupReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

/// A row group whose pages are validated as they are read.
pub struct Group<'a>(pub Box<dyn RowGroupReader + 'a>);

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.0.metadata()
    }

    fn num_columns(&self) -> usize {
        self.0.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let pages = self.0.get_column_page_reader(i)?;
        let column = self.0.metadata().column(i).column_descr();
        let (repetition, definition) = (column.max_rep_level(), column.max_def_level());
        Ok(Box::new(Pages { pages, repetition, definition }))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&parquet::bloom_filter::Sbbf> {
        self.0.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

struct Pages {
    pages: Box<dyn PageReader>,
    /// The maximum repetition and definition levels of the column.
    repetition: i16,
    definition: i16,
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        match page.as_ref().is_none_or(|page| self.plausible(page)) {
            true => Ok(page),
            false => Err(ParquetError::General("a page claims more values than it has".into())),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl Pages {
    fn plausible(&self, page: &Page) -> bool {
        let (values, encoding, most) = match page {
            Page::DictionaryPage { .. } => return true,
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                ..
            } => {
                let values = after_levels(buf, *rep_level_encoding, self.repetition, *num_values)
                    .and_then(|rest| {
                        after_levels(rest, *def_level_encoding, self.definition, *num_values)
                    });
                (values, *encoding, *num_values)
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                (buf.get(levels..), *encoding, *num_values)
            }
        };
        let blocks = match encoding {
            Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            Encoding::DELTA_BYTE_ARRAY => 2,
            _ => return true,
        };
        let Some(mut rest) = values else { return false };
        for _ in 0..blocks {
            match delta(rest) {
                Some((count, after)) if count <= u64::from(most) => rest = after,
                _ => return false,
            }
        }
        true
    }
}

/// The bytes after the levels of a version 1 data page.
fn after_levels(buf: &[u8], encoding: Encoding, largest: i16, values: u32) -> Option<&[u8]> {
    if largest <= 0 {
        return Some(buf);
    }
    #[expect(deprecated, reason = "old files have it")]
    let packed = encoding == Encoding::BIT_PACKED;
    if packed {
        let bits = u64::from(values) * u64::from(16 - largest.leading_zeros());
        return buf.get(usize::try_from(bits.div_ceil(8)).ok()?..);
    }
    let (length, rest) = buf.split_first_chunk()?;
    rest.get(u32::from_le_bytes(*length) as usize..)
}

/// The number of values of a delta-packed block, and the bytes after the block.
fn delta(buf: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = buf;
    let block = varint(&mut rest)?;
    let minis = varint(&mut rest)?;
    let count = varint(&mut rest)?;
    varint(&mut rest)?;
    let per_mini = block.checked_div(minis)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        varint(&mut rest)?;
        let widths = rest.get(..usize::try_from(minis).ok()?)?;
        rest = &rest[widths.len()..];
        for width in widths {
            // Miniblocks past the last value are omitted.
            if left == 0 {
                break;
            }
            let bytes = per_mini.checked_mul(u64::from(*width))?.div_ceil(8);
            rest = rest.get(usize::try_from(bytes).ok()?..).unwrap_or_default();
            left = left.saturating_sub(per_mini.max(1));
        }
    }
    Some((count, rest))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
