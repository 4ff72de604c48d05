//! Reads a source: from files to samples, with counts of what was dropped.

use std::collections::BTreeMap;
use std::path::Path;

use rand::{Rng, seq::SliceRandom};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{FileRead, digest};
use crate::files::{At, Line, NamedClasses, Place, Reader, Row, Rows};
use crate::filter::Filter;
use crate::layout::{self, Repository};
use crate::schema::{Plan, Schema, found};
use crate::{Error, Result, Sample, Source};

/// The maximum number of bad rows that are listed; the others are counted.
const LISTED: usize = 10;

/// The samples of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The samples.
    pub samples: Vec<Sample>,
    /// The group of each sample; empty if the source names no column for it.
    pub groups: Vec<String>,
    /// The schema of their columns.
    pub schema: Schema,
    /// Their origin.
    pub origin: Origin,
}

/// The origin of samples, and counts of what was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// A description of the source.
    pub source: String,
    /// Whether it is a test set, which is evaluated and not trained on.
    pub test: bool,
    /// The files that were read, in order.
    pub files: Vec<FileRead>,
    /// The file's column for each schema column that was found.
    pub columns: BTreeMap<String, String>,
    /// Rows read; reading ends with the last sample needed.
    pub read: usize,
    /// Rows removed by the filter.
    pub filtered: usize,
    /// Samples removed by `skip`.
    pub skipped: usize,
    /// Invalid rows.
    pub bad: usize,
    /// The first few of them.
    pub bad_rows: Vec<BadRow>,
    /// Columns that have values and are not read.
    #[serde(default)]
    pub unread: Vec<String>,
    /// Unknown keys of turns, which are not read.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// What else was found and not used, as sentences.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// An invalid row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// File and line, or file and row.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What the rows of a source are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// They are trained on.
    Trained,
    /// They are asked, and may have no answer.
    Asked,
    /// They are asked, and a model's answers are compared with theirs.
    Graded,
}

impl Use {
    /// Whether a model is tested on them.
    pub fn is_test(self) -> bool {
        self != Self::Trained
    }
}

impl Source {
    /// Reads the samples of this source.
    ///
    /// Rows that are only asked may have no answer. A row that fails `check` is bad. A bad row is an error unless
    /// `skip_bad_rows` is set; then it is counted as bad, and counts neither for `skip` nor for `take`. `rng`
    /// is used for `shuffle` only.
    ///
    /// # Errors
    /// When files, split or columns do not exist; when a row is bad; when there are fewer than `take`
    /// samples and `at_most` is not set; when there are no samples.
    pub fn read(
        &self,
        repository: &dyn Repository,
        usage: Use,
        skip_bad_rows: bool,
        check: Option<&Check>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Loaded> {
        self.validate().map_err(Error::Setting)?;
        let is_file = Path::new(&self.path).is_file();
        if is_file && !(self.split.is_empty() && self.config.is_empty()) {
            return Err(self.error("this is a single file, so `config` and `split` must be empty"));
        }
        let chosen = layout::choose(repository, &self.config, &self.split)?;
        let chosen = chosen.map_err(|problem| self.error(problem))?;
        let mut reading = Reading {
            source: self,
            check,
            filter: Filter::new(&self.filter),
            usage,
            skip_bad_rows,
            reader: chosen.reader,
            classes: chosen.classes,
            plan: None,
            overruled: Overruled::default(),
            samples: Vec::new(),
            origin: Origin::default(),
        };
        reading.origin.remarks = chosen.remarks;
        reading.origin.source = self.described(chosen.config.as_deref(), chosen.split.as_deref());
        reading.origin.test = usage.is_test();
        for file in &chosen.files {
            let path = repository.get(file)?;
            reading.file(&path)?;
            reading.origin.files.push(digest(&path, file)?);
            if reading.is_full() {
                break;
            }
        }
        reading.finish(rng)
    }
}

/// Checks that the template of the model can format a sample; of a test set, its prompt.
///
/// The error says why not.
pub type Check = dyn Fn(&Sample, bool) -> Result<(), String> + Send + Sync;

/// The number of rows whose columns decide the schema.
const AHEAD: usize = 256;

/// The size of the rows that are read ahead at once, in bytes of text.
const MOST_AHEAD: usize = 8 << 20;

/// Reads up to [`AHEAD`] lines into `ahead`, and returns the union of their columns, each with the
/// first value that is not null.
fn look_ahead(rows: &mut Rows, ahead: &mut Vec<Result<Line>>) -> Row {
    let (mut union, mut size) = (Row::new(), 0);
    while ahead.len() < AHEAD && size < MOST_AHEAD {
        let Some(line) = rows.next() else { break };
        if let Ok(Line { row: Ok(row), .. }) = &line {
            for (column, value) in row {
                size += column.len() + length(value);
                match union.get(column) {
                    Some(known) if !known.is_null() => {}
                    _ => _ = union.insert(column.clone(), value.clone()),
                }
            }
        }
        let failed = line.is_err();
        ahead.push(line);
        if failed {
            break;
        }
    }
    union
}

/// The length of all texts in a value, and one for everything else.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 1,
        Value::Array(list) => list.iter().map(length).sum::<usize>() + 1,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + length(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

/// Rows whose system text is not used, as their turns begin with another one.
#[derive(Default)]
struct Overruled {
    count: usize,
    /// Where the first one is.
    first: String,
}

impl Overruled {
    fn remark(&self, column: &str) -> Option<String> {
        let Self { count, first } = self;
        (*count > 0).then(|| {
            format!(
                "the column `{column}` is not read where the turns begin with another system text, \
                 which is in {count} rows (the first is {first})"
            )
        })
    }
}

struct Reading<'a> {
    source: &'a Source,
    check: Option<&'a Check>,
    filter: Filter<'a>,
    usage: Use,
    skip_bad_rows: bool,
    reader: Reader,
    /// The classes that descriptions of the data set name.
    classes: Vec<NamedClasses>,
    plan: Option<Plan>,
    overruled: Overruled,
    /// Each with its group.
    samples: Vec<(Sample, String)>,
    origin: Origin,
}

impl Reading<'_> {
    /// Whether no further row is needed.
    fn is_full(&self) -> bool {
        let Source { take, shuffle, .. } = *self.source;
        take > 0 && !shuffle && self.samples.len() >= take
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let mut rows = Rows::open(path, &self.reader)?;
        let mut ahead = Vec::new();
        if self.plan.is_none() {
            let union = look_ahead(&mut rows, &mut ahead);
            if !union.is_empty() {
                self.plan = Some(self.plan(&union)?);
            }
        }
        if let Some(plan) = &mut self.plan {
            let named = [&self.classes[..], &rows.classes].concat();
            let fault = |problem| Error::File { path: path.to_owned(), problem };
            plan.name_classes(&named).map_err(fault)?;
        }
        for line in ahead.into_iter().chain(rows) {
            if self.is_full() {
                break;
            }
            let Line { at, row } = line?;
            self.origin.read += 1;
            let Err(problem) = row.and_then(|row| self.row(&row, path, at)) else { continue };
            let place = Place { file: path.to_owned(), at };
            if !self.skip_bad_rows {
                return Err(Error::Row { place: place.to_string(), problem });
            }
            self.origin.bad += 1;
            if self.origin.bad_rows.len() < LISTED {
                self.origin.bad_rows.push(BadRow { place: place.to_string(), problem });
            }
        }
        Ok(())
    }

    /// Takes the sample of a row, unless the filter removes it.
    fn row(&mut self, row: &Row, path: &Path, at: At) -> Result<(), String> {
        let Some(plan) = &self.plan else { return Err("it has no columns".to_owned()) };
        if !self.filter.takes(row) {
            self.origin.filtered += 1;
            return Ok(());
        }
        let sample = plan.sample(row)?;
        if let Some(check) = self.check {
            check(&sample, self.usage.is_test())?;
        }
        if self.usage == Use::Graded && sample.answer.trim().is_empty() {
            return Err("its answer is empty, and answers are graded by it".to_owned());
        }
        if plan.overrules(row, &sample) {
            if self.overruled.count == 0 {
                self.overruled.first = Place { file: path.to_owned(), at }.to_string();
            }
            self.overruled.count += 1;
        }
        for column in plan.unread(row) {
            let is_read = *column == self.source.group || self.filter.reads(column);
            if !is_read && !self.origin.unread.contains(column) {
                self.origin.unread.push(column.clone());
            }
        }
        let group = self.group(row);
        self.take((sample, group));
        Ok(())
    }

    fn plan(&self, union: &Row) -> Result<Plan> {
        let source = self.source;
        let asked = self.usage == Use::Asked;
        let plan = Plan::new(source.schema, &source.columns, asked, union);
        let plan = plan.and_then(|plan| self.filter.check(union).map(|()| plan));
        let group = source.group.as_str();
        let plan = plan.and_then(|plan| match group.is_empty() || union.contains_key(group) {
            true => Ok(plan),
            false => Err(format!("`group` names the column `{group}`; {}", found(union))),
        });
        plan.map_err(|problem| source.error(problem))
    }

    /// The group of a row; empty if the source names no column for it.
    fn group(&self, row: &Row) -> String {
        match row.get(&self.source.group) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    fn take(&mut self, sample: (Sample, String)) {
        if !self.source.shuffle && self.origin.skipped < self.source.skip {
            self.origin.skipped += 1;
        } else {
            self.samples.push(sample);
        }
    }

    fn finish(mut self, rng: &mut (impl Rng + ?Sized)) -> Result<Loaded> {
        let Source { skip, take, at_most, shuffle, .. } = *self.source;
        if shuffle {
            self.samples.shuffle(rng);
            self.origin.skipped = skip.min(self.samples.len());
            self.samples.drain(..self.origin.skipped);
            if take > 0 {
                self.samples.truncate(take);
            }
        }
        let Origin { read, filtered, skipped, bad, .. } = self.origin;
        let account = format!(
            "of {read} rows, `filter` removed {filtered}, `skip` {skipped}, and {bad} were invalid"
        );
        let first_bad = self.origin.bad_rows.first();
        let example =
            first_bad.map_or(String::new(), |row| format!(" ({}: {})", row.place, row.problem));
        let Some(plan) = self.plan else {
            let problem = match bad {
                0 => "there are no rows".to_owned(),
                _ => format!("all rows are invalid{example}"),
            };
            return Err(self.source.error(problem));
        };
        let count = self.samples.len();
        if count == 0 {
            let met = match filtered + bad == read && filtered > 0 {
                true => format!("; {}", self.filter.met()),
                false => String::new(),
            };
            return Err(self
                .source
                .error(format!("there are no samples: {account}{example}{met}")));
        }
        if count < take && !at_most {
            return Err(self.source.error(format!(
                "there are {count} samples, but `take` is {take}: {account}; lower `take`, or set \
                 at_most = true"
            )));
        }
        self.origin.columns = plan.columns();
        self.origin.unknown = plan.unknown();
        let system = self.origin.columns.get("system").map_or("system", String::as_str);
        self.origin.remarks.extend(self.overruled.remark(system));
        let (samples, groups): (Vec<_>, Vec<_>) = self.samples.into_iter().unzip();
        let groups = if self.source.group.is_empty() { Vec::new() } else { groups };
        Ok(Loaded { samples, groups, schema: plan.schema, origin: self.origin })
    }
}
