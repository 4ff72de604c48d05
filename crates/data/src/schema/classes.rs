//! The classes of labels: what their numbers and names mean.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Plan, Schema};
use crate::files::NamedClasses;

/// A class of a schema.
struct Class {
    /// Its name, which is the answer.
    name: &'static str,
    /// Other spellings, as [`folded`] gives them.
    spellings: &'static [&'static str],
}

/// The classes of SST-2, in the order of their numbers.
const SENTIMENTS: [Class; 2] = [
    Class { name: "negative", spellings: &["neg"] },
    Class { name: "positive", spellings: &["pos"] },
];

/// The classes of AG News, in the order of their numbers.
const TOPICS: [Class; 4] = [
    Class { name: "World", spellings: &[] },
    Class { name: "Sports", spellings: &["sport"] },
    Class { name: "Business", spellings: &[] },
    Class {
        name: "Sci/Tech",
        spellings: &[
            "sciandtech",
            "sciencetech",
            "scienceandtech",
            "sciencetechnology",
            "scienceandtechnology",
        ],
    },
];

/// The class of each number of a data set.
pub(super) type Numbers = BTreeMap<u64, &'static str>;

impl Plan {
    /// Uses the classes that a file or its card names for the column of labels; without any, numbers
    /// are those of the public data set. Of those that may belong to another configuration, the ones
    /// that the schema knows count.
    ///
    /// # Errors
    /// When the schema does not know a name, or when two places name different classes.
    pub(crate) fn name_classes(&mut self, named: &[NamedClasses]) -> Result<(), String> {
        self.numbers = None;
        let Some(column) = self.columns.get("label") else { return Ok(()) };
        let mut first: Option<(Numbers, &str)> = None;
        let mut unknown = None;
        let of_column = |it: &&NamedClasses| it.column.as_ref().is_none_or(|own| own == column);
        for classes in named.iter().filter(of_column) {
            let numbers = match numbers(self.schema, classes) {
                Ok(numbers) => numbers,
                Err(problem) if classes.doubtful => {
                    unknown.get_or_insert(problem);
                    continue;
                }
                Err(problem) => return Err(problem),
            };
            match &first {
                Some((other, place)) if *other != numbers => {
                    return Err(format!(
                        "{place} and {} name the classes of `{column}` differently: {} and {}; \
                         correct one, or give the file as path = \".../FILE\", a file on this \
                         machine, which is read without the files beside it",
                        classes.place,
                        listed(other),
                        listed(&numbers)
                    ));
                }
                Some(_) => {}
                None => first = Some((numbers, &classes.place)),
            }
        }
        match (first, unknown) {
            (None, Some(problem)) => Err(problem),
            (first, _) => {
                self.numbers = first.map(|(numbers, _)| numbers);
                Ok(())
            }
        }
    }

    /// The class of a label, which is a number or a name.
    pub(super) fn class(&self, column: &str, label: &Value) -> Result<&'static str, String> {
        let number = label.as_i64().or_else(|| label.as_str()?.parse().ok());
        if number == Some(-1) {
            return Err(format!(
                "`{column}` is -1: this split has no labels; use another split, such as \
                 split = \"validation\""
            ));
        }
        let number = number.and_then(|number| u64::try_from(number).ok());
        let class = match &self.numbers {
            Some(numbers) => number.and_then(|number| numbers.get(&number).copied()),
            None => number.and_then(|number| numbered(self.schema, number)),
        };
        let by_name = || spelled(self.schema, label.as_str()?);
        class.or_else(by_name).ok_or_else(|| {
            let classes = classes(self.schema);
            let numbers = match &self.numbers {
                Some(numbers) => listed(numbers),
                None => format!("0 to {}", classes.len() - 1),
            };
            format!("`{column}` is {label}, not {numbers} or {}", names(self.schema))
        })
    }
}

/// The classes of a schema; none if its rows have no labels.
fn classes(schema: Schema) -> &'static [Class] {
    match schema {
        Schema::Sst2 => &SENTIMENTS,
        Schema::Agnews => &TOPICS,
        _ => &[],
    }
}

/// The schema's own class of each number that is named.
fn numbers(schema: Schema, named: &NamedClasses) -> Result<Numbers, String> {
    let class = |(number, name): (&u64, &String)| {
        // A class that is called by its number has no name.
        let unnamed = || numbered(schema, *number).filter(|_| *name == number.to_string());
        spelled(schema, name).or_else(unnamed).map(|class| (*number, class))
    };
    let names_found = named.names.as_ref().map_err(Clone::clone)?;
    names_found.iter().map(class).collect::<Option<Numbers>>().ok_or_else(|| {
        let found: Vec<String> = names_found.values().cloned().collect();
        format!(
            "{} names the classes of `{}` {}, but schema `{schema}` has {}; correct the names, or \
             convert the file to columns `instruction`, `input` and `output`, with the name of the \
             class in `output`",
            named.place,
            named.column.as_deref().unwrap_or_default(),
            crate::layout::excerpt(&found),
            names(schema)
        )
    })
}

/// The schema's class with this number.
fn numbered(schema: Schema, number: u64) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    classes(schema).get(number).map(|class| class.name)
}

/// The schema's class with this name, in any usual spelling.
fn spelled(schema: Schema, name: &str) -> Option<&'static str> {
    let name = folded(name);
    let is = |class: &&Class| folded(class.name) == name || class.spellings.contains(&&*name);
    classes(schema).iter().find(is).map(|class| class.name)
}

/// A name in small letters and without punctuation: `Sci/Tech` becomes `scitech`.
fn folded(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The names of the schema's classes, for a message.
fn names(schema: Schema) -> String {
    classes(schema).iter().map(|class| class.name).collect::<Vec<_>>().join(", ")
}

/// Numbers with their classes, for a message.
fn listed(numbers: &Numbers) -> String {
    let pairs = numbers.iter().map(|(number, class)| format!("{number} ({class})"));
    pairs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::SchemaChoice;
    use crate::files::Row;

    fn named(names: &[&str], place: &str) -> NamedClasses {
        let names = (0..).zip(names.iter().map(|name| (*name).to_owned())).collect();
        let column = Some("label".to_owned());
        NamedClasses { column, names: Ok(names), doubtful: false, place: place.into() }
    }

    fn plan(schema: Schema) -> Plan {
        let first: Row = ["sentence", "text", "label"]
            .map(|column| (column.to_owned(), json!("")))
            .into_iter()
            .collect();
        Plan::new(SchemaChoice::Named(schema), &BTreeMap::new(), false, &first).expect("a plan")
    }

    #[test]
    fn names_decide_the_class_of_a_number() {
        for (schema, names, expected) in [
            (Schema::Sst2, &["positive", "negative"][..], &["positive", "negative"][..]),
            (Schema::Sst2, &["NEG", "Pos"], &["negative", "positive"]),
            (Schema::Sst2, &["0", "1"], &["negative", "positive"]),
            (
                Schema::Agnews,
                &["Science & Technology", "sports", "BUSINESS", "world"],
                &["Sci/Tech", "Sports", "Business", "World"],
            ),
        ] {
            let mut plan = plan(schema);
            plan.name_classes(&[named(names, "README.md")]).expect("known names");
            for (number, class) in expected.iter().enumerate() {
                for label in [json!(number), json!(number.to_string()), json!(class)] {
                    assert_eq!(plan.class("label", &label).as_ref(), Ok(class), "{names:?}");
                }
            }
            // Another file that names no classes has the usual ones.
            plan.name_classes(&[]).expect("none");
            assert_eq!(plan.class("label", &json!(0)).ok(), numbered(schema, 0));
        }
    }

    #[test]
    fn unknown_and_contradictory_names_are_refused() {
        let mut plan = plan(Schema::Sst2);
        let error =
            plan.name_classes(&[named(&["sad", "positive"], "README.md")]).expect_err("sad");
        for part in ["README.md", "`label` sad, positive", "negative, positive", "`output`"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        // What may be about another configuration is passed over, unless nothing else is there.
        let doubtful = |names| NamedClasses { doubtful: true, ..named(names, "README.md") };
        let several = [doubtful(&["bad", "good"]), doubtful(&["pos", "neg"])];
        plan.name_classes(&several).expect("the second one fits");
        assert_eq!(plan.class("label", &json!(0)), Ok("positive"));
        plan.name_classes(&several[..1]).expect_err("nothing fits");
        // What cannot be read matters for the column of labels alone.
        let broken = |column: Option<&str>| NamedClasses {
            column: column.map(str::to_owned),
            names: Err("broken".into()),
            ..named(&[], "it")
        };
        plan.name_classes(&[broken(Some("other"))]).expect("another column");
        for column in [Some("label"), None] {
            assert_eq!(plan.name_classes(&[broken(column)]), Err("broken".to_owned()));
        }
        let both = [named(&["neg", "pos"], "README.md"), named(&["pos", "neg"], "its metadata")];
        let error = plan.name_classes(&both).expect_err("they differ");
        for part in ["README.md and its metadata", "0 (negative), 1 (positive)", "path ="] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        let same = [named(&["neg", "pos"], "README.md"), named(&["negative", "positive"], "it")];
        plan.name_classes(&same).expect("the same classes");
        let other = plan.class("label", &json!(2)).expect_err("two classes");
        assert!(
            other.contains("`label` is 2, not 0 (negative), 1 (positive) or negative"),
            "{other}"
        );
    }
}
