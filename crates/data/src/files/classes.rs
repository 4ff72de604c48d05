//! The names of classes, where a file or the card of a data set states them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use vxf_untrusted::has_too_many_values;

/// The names of the classes of one column, whose values are their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedClasses {
    /// The column.
    pub(crate) column: String,
    /// The name of each number.
    pub(crate) names: BTreeMap<u64, String>,
    /// What states them, as the start of a sentence.
    pub(crate) place: String,
}

/// The key of a Parquet file's metadata in which the Python library `datasets` describes the columns.
pub(super) const METADATA: &str = "huggingface";

/// The classes that the metadata of a Parquet file names.
///
/// # Errors
/// When it is not the JSON that `datasets` writes.
pub(super) fn of_metadata(text: &str) -> Result<Vec<NamedClasses>, String> {
    let fault = |problem: &str| {
        format!("its metadata `{METADATA}` {problem}; write the file again, without it")
    };
    if has_too_many_values(text.as_bytes()) {
        return Err(fault("has too many values"));
    }
    let metadata: Value =
        serde_json::from_str(text).map_err(|error| fault(&format!("is not JSON: {error}")))?;
    let features = metadata.pointer("/info/features").and_then(Value::as_object);
    let classes = features.into_iter().flatten().filter_map(|(column, feature)| {
        let feature = feature.as_object()?;
        (feature.get("_type")? == "ClassLabel").then(|| {
            let names = names(feature).ok_or_else(|| {
                fault(&format!("has `names` of the column `{column}` that are no list of texts"))
            })?;
            let place = format!("its metadata `{METADATA}`");
            Ok(NamedClasses { column: column.clone(), names, place })
        })
    });
    // A column of which only the number of classes is known has no names.
    let named = |classes: &Result<NamedClasses, _>| {
        !classes.as_ref().is_ok_and(|classes: &NamedClasses| classes.names.is_empty())
    };
    classes.filter(named).collect()
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
        let classes = of_metadata(text).expect("features");
        let [label] = &classes[..] else { panic!("one column: {classes:?}") };
        assert_eq!(label.column, "label");
        assert_eq!(label.names, BTreeMap::from([(0, "pos".into()), (1, "neg".into())]));
        for none in ["{}", "[]", r#"{"info": {"features": null}}"#] {
            assert_eq!(of_metadata(none), Ok(Vec::new()), "{none}");
        }
        let odd = r#"{"info": {"features": {"label": {"names": [1], "_type": "ClassLabel"}}}}"#;
        for (text, says) in [("{", "not JSON"), (odd, "`label`")] {
            let error = of_metadata(text).expect_err(says);
            assert!(error.contains("`huggingface`") && error.contains(says), "{error}");
        }
    }
}
