//! Detects the schema from the columns of the first row, and assigns the columns.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use vxf_untrusted::is_off;

use super::classes::Numbers;
use super::{Field, Need, Schema, SchemaChoice, turns};
use crate::files::Row;

/// A schema with its columns in one data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) schema: Schema,
    /// The file's column for each column of the schema.
    pub(super) columns: BTreeMap<&'static str, String>,
    /// The columns of the schema that the user assigned.
    mapped: BTreeSet<&'static str>,
    /// The class of each number, if the file or its card names the classes of its labels.
    pub(super) numbers: Option<Numbers>,
    /// Whether rows without an answer are valid.
    pub(super) test: bool,
    /// The unknown keys of turns that were met.
    pub(super) unknown: RefCell<BTreeSet<String>>,
}

impl Plan {
    /// The plan for rows with the columns of `first`.
    ///
    /// # Errors
    /// When the columns fit no schema, or more than one; the error says what to write.
    pub(crate) fn new(
        choice: SchemaChoice,
        mapped: &BTreeMap<String, String>,
        test: bool,
        first: &Row,
    ) -> Result<Self, String> {
        if let Some((field, column)) =
            mapped.iter().find(|(_, column)| !first.contains_key(*column))
        {
            return Err(format!(
                "`columns` maps `{field}` to the column `{column}`, which does not exist; {}",
                found(first)
            ));
        }
        let schema = match choice {
            SchemaChoice::Named(schema) => schema,
            SchemaChoice::Auto if mapped.is_empty() => detect(first, test)?,
            SchemaChoice::Auto => of_mapping(mapped, first, test)?,
        };
        Self::of(schema, mapped, test, first)
    }

    fn of(
        schema: Schema,
        mapped: &BTreeMap<String, String>,
        test: bool,
        first: &Row,
    ) -> Result<Self, String> {
        let fields = schema.fields();
        if let Some(key) = mapped.keys().find(|key| fields.iter().all(|field| field.name != *key)) {
            return Err(unknown_key(schema, key));
        }
        let (mut columns, mut assigned) = (BTreeMap::new(), BTreeSet::new());
        for field in fields {
            if mapped.contains_key(field.name) {
                assigned.insert(field.name);
            }
            match column(field, mapped, first)? {
                Some(column) => _ = columns.insert(field.name, column),
                None if field.is_needed(test) => {
                    return Err(format!(
                        "schema `{schema}` needs a column {}; {}{}",
                        quoted(field.usual, " or "),
                        found(first),
                        example(schema)
                    ));
                }
                None => {}
            }
        }
        let unknown = RefCell::default();
        Ok(Self { schema, columns, mapped: assigned, numbers: None, test, unknown })
    }

    /// Checks that a row has one value for each column of the schema.
    ///
    /// A second column may first have a value after the rows that decide the columns.
    pub(super) fn is_clear(&self, row: &Row) -> Result<(), String> {
        let valued = |column: &str| row.get(column).is_some_and(|value| !value.is_null());
        let open = |field: &&Field| field.usual.len() > 1 && !self.mapped.contains(field.name);
        self.schema.fields().iter().filter(open).try_for_each(|field| only(field, valued).map(drop))
    }

    /// The columns of a row that the schema does not read and that have a value.
    pub(crate) fn unread<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'a String> {
        // Of two columns with usual names, the one that is not chosen is not read.
        let usual = |column: &String| {
            let mut fields = self.schema.fields().iter();
            fields.any(|field| {
                !self.columns.contains_key(field.name) && field.usual.contains(&column.as_str())
            })
        };
        let read = move |column: &String| {
            self.columns.values().any(|read| read == column) || usual(column)
        };
        let valued = row.iter().filter(|(_, value)| !is_off(value));
        valued.map(|(column, _)| column).filter(move |column| !read(column))
    }

    /// The unknown keys of turns that were met so far.
    pub(crate) fn unknown(&self) -> Vec<String> {
        self.unknown.borrow().iter().cloned().collect()
    }

    /// The columns as pairs of the schema's name and the file's.
    pub(crate) fn columns(&self) -> BTreeMap<String, String> {
        self.columns.iter().map(|(field, column)| ((*field).to_owned(), column.clone())).collect()
    }
}

impl Field {
    fn is_needed(&self, test: bool) -> bool {
        match self.need {
            Need::Always => true,
            Need::Answer => !test,
            Need::Never => false,
        }
    }
}

/// The file's column for a field: the mapped one, or the one with a usual name.
fn column(
    field: &Field,
    mapped: &BTreeMap<String, String>,
    first: &Row,
) -> Result<Option<String>, String> {
    if let Some(column) = mapped.get(field.name) {
        return Ok(Some(column.clone()));
    }
    only(field, |column| first.contains_key(column)).map(|found| found.map(str::to_owned))
}

/// The only usual name of a field that is there.
fn only(field: &Field, is_there: impl Fn(&str) -> bool) -> Result<Option<&'static str>, String> {
    let there: Vec<&'static str> =
        field.usual.iter().copied().filter(|column| is_there(column)).collect();
    match there[..] {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        [one, ..] => Err(format!(
            "the {} may be the column {}; choose with columns = {{ {} = \"{one}\" }}",
            field.name,
            quoted(&there, " or "),
            field.name
        )),
    }
}

/// The first schema whose columns exist.
fn detect(first: &Row, test: bool) -> Result<Schema, String> {
    let fits = |schema: &Schema| {
        schema
            .fields()
            .iter()
            .filter(|field| field.is_needed(test))
            .all(|field| field.usual.iter().any(|column| first.contains_key(*column)))
            && looks_right(*schema, first)
    };
    let fitting: Vec<Schema> = Schema::ALL.into_iter().filter(fits).collect();
    let both = |one: Schema, other: Schema| fitting.contains(&one) && fitting.contains(&other);
    // These pairs share columns but give different samples, so the user has to choose.
    for (one, other) in
        [(Schema::Text, Schema::Agnews), (Schema::PromptCompletion, Schema::Refusals)]
    {
        if both(one, other) && fitting[0] != Schema::Messages {
            return Err(format!(
                "the columns fit two schemas; write schema = \"{one}\" or schema = \"{other}\" \
                 ({})",
                found(first)
            ));
        }
    }
    fitting.first().copied().ok_or_else(|| unknown(first))
}

/// Checks beyond the names of the columns.
fn looks_right(schema: Schema, first: &Row) -> bool {
    let is_list = |columns: &[&str]| {
        columns.iter().filter_map(|column| first.get(*column)).any(|value| match value {
            Value::Array(_) => true,
            Value::String(text) => turns::is_list(text),
            _ => false,
        })
    };
    match schema {
        Schema::Messages => is_list(&["messages"]),
        Schema::Sharegpt => is_list(&["conversations", "conversation"]),
        // Many other data sets have columns `question` and `answer`.
        Schema::Gsm8k => {
            first.get("answer").and_then(Value::as_str).is_some_and(|text| text.contains("####"))
        }
        _ => true,
    }
}

/// The first schema that has all mapped fields and whose other columns exist.
fn of_mapping(
    mapped: &BTreeMap<String, String>,
    first: &Row,
    test: bool,
) -> Result<Schema, String> {
    let knows = |schema: &Schema| {
        mapped.keys().all(|key| schema.fields().iter().any(|field| field.name == key))
    };
    let knowing: Vec<Schema> = Schema::ALL.into_iter().filter(knows).collect();
    let complete =
        knowing.iter().copied().find(|schema| Plan::of(*schema, mapped, test, first).is_ok());
    complete.or(knowing.first().copied()).ok_or_else(|| unknown_keys(mapped))
}

/// The error for keys of `columns` that no schema has together; lists the valid keys.
pub(crate) fn unknown_keys(mapped: &BTreeMap<String, String>) -> String {
    let keys: Vec<&str> = mapped.keys().map(String::as_str).collect();
    let known = Schema::ALL.map(|schema| {
        let fields: Vec<&str> = schema.fields().iter().map(|field| field.name).collect();
        format!("{schema}: {}", fields.join(", "))
    });
    format!("no schema has the columns {}; known are {}", keys.join(", "), known.join("; "))
}

fn unknown_key(schema: Schema, key: &str) -> String {
    let fields: Vec<&str> = schema.fields().iter().map(|field| field.name).collect();
    format!("schema `{schema}` has no column `{key}`; it has {}", fields.join(", "))
}

fn unknown(first: &Row) -> String {
    let chosen = match first.contains_key("chosen") {
        true => " (for preference pairs, completion = \"chosen\")",
        false => "",
    };
    format!(
        "the columns fit no schema; {}. Schemas are {}. Assign the columns, as in columns = \
         {{ prompt = \"..\", completion = \"..\" }}{chosen}",
        found(first),
        Schema::ALL.map(Schema::name).join(", ")
    )
}

/// The columns of the first row, for a message.
pub(crate) fn found(first: &Row) -> String {
    match first.is_empty() {
        true => "the first row has no columns".to_owned(),
        false => {
            let names: Vec<String> = first.keys().cloned().collect();
            format!("the columns are {}", crate::layout::excerpt(&names))
        }
    }
}

fn example(schema: Schema) -> String {
    let fields = schema.fields().iter().filter(|field| field.need != Need::Never);
    let pairs: Vec<String> = fields.map(|field| format!("{} = \"..\"", field.name)).collect();
    format!(". Assign the columns, as in columns = {{ {} }}", pairs.join(", "))
}

fn quoted(names: &[&str], between: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between)
}
