//! The names of classes, where a data set or one of its files states them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The names of the classes of a column, whose values are their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedClasses {
    /// The column; none if the names of no column can be read.
    pub(crate) column: Option<String>,
    /// The name of each number, or why they cannot be read, which matters where they are needed.
    pub(crate) names: Result<BTreeMap<u64, String>, String>,
    /// Whether they may be those of another configuration.
    pub(crate) doubtful: bool,
    /// What states them, as the start of a sentence.
    pub(crate) place: String,
}

/// The key of a Parquet file's metadata in which the Python library `datasets` describes the columns.
pub(super) const METADATA: &str = "huggingface";

/// The classes that the metadata of a Parquet file names.
pub(super) fn of_metadata(text: &str) -> Vec<NamedClasses> {
    let metadata = Description {
        place: format!("its metadata `{METADATA}`"),
        remedy: "write the file again, without it",
    };
    match vxf_untrusted::json::<Value>(text) {
        Ok(value) => metadata.classes(value.pointer("/info/features")),
        Err(problem) => vec![metadata.unreadable(&problem)],
    }
}

/// A description of columns by the Python library `datasets`, in JSON.
pub(crate) struct Description {
    /// Where it is, as the start of a sentence.
    pub(crate) place: String,
    /// What to do if it cannot be read.
    pub(crate) remedy: &'static str,
}

impl Description {
    /// The classes that its `features` name.
    pub(crate) fn classes(&self, features: Option<&Value>) -> Vec<NamedClasses> {
        let columns = features.and_then(Value::as_object).into_iter().flatten();
        let all = columns.filter_map(|(column, feature)| {
            let feature = feature.as_object()?;
            (feature.get("_type")? == "ClassLabel").then(|| {
                let names = names(feature).ok_or_else(|| {
                    format!("has `names` of the column `{column}` that are no list of texts")
                });
                self.named(Some(column), names)
            })
        });
        // A column of which only the number of classes is known has no names.
        all.filter(|classes| !classes.names.as_ref().is_ok_and(BTreeMap::is_empty)).collect()
    }

    /// The classes of a description that cannot be read.
    pub(crate) fn unreadable(&self, problem: &str) -> NamedClasses {
        self.named(None, Err(problem.to_owned()))
    }

    /// These names, or the problem with them, as those of a column.
    fn named(
        &self,
        column: Option<&String>,
        names: Result<BTreeMap<u64, String>, String>,
    ) -> NamedClasses {
        let Self { place, remedy } = self;
        let names = names.map_err(|problem| format!("{place} {problem}; {remedy}"));
        NamedClasses { column: column.cloned(), names, doubtful: false, place: place.clone() }
    }
}

/// The names of a feature in their order; `None` if they are of another form.
fn names(feature: &Map<String, Value>) -> Option<BTreeMap<u64, String>> {
    let names = match feature.get("names") {
        None | Some(Value::Null) => return Some(BTreeMap::new()),
        Some(names) => names.as_array()?,
    };
    (0..).zip(names).map(|(number, name)| Some((number, name.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_are_read_from_metadata() {
        let text = r#"{"info": {"features": {
            "text": {"dtype": "string", "_type": "Value"},
            "turns": [{"role": {"_type": "Value"}}],
            "count": {"num_classes": 2, "_type": "ClassLabel"},
            "label": {"names": ["pos", "neg"], "_type": "ClassLabel"}}}}"#;
        let classes = of_metadata(text);
        let [label] = &classes[..] else { panic!("one column: {classes:?}") };
        assert_eq!(label.column.as_deref(), Some("label"));
        assert_eq!(label.names, Ok(BTreeMap::from([(0, "pos".into()), (1, "neg".into())])));
        for none in ["{}", "[]", r#"{"info": {"features": null}}"#] {
            assert_eq!(of_metadata(none), Vec::new(), "{none}");
        }
        let odd = r#"{"info": {"features": {"label": {"names": [1], "_type": "ClassLabel"}}}}"#;
        for (text, says) in [("{", "not JSON"), (odd, "`label`")] {
            let classes = of_metadata(text);
            let error = classes[0].names.as_ref().expect_err(says);
            assert!(error.contains("`huggingface`") && error.contains(says), "{error}");
        }
    }
}
