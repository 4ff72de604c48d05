//! The columns that a card describes, as far as it names their classes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::form::Form;
use crate::files::NamedClasses;

/// The entry `dataset_info`: one description, or one for each configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Form<Description, Description>")]
pub(super) struct Descriptions(pub(super) Vec<Description>);

/// The description of a configuration.
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    #[serde(default)]
    config_name: Option<String>,
    #[serde(default)]
    features: Option<Vec<Feature>>,
}

impl Description {
    /// Its configuration, if it names one, and the classes of its columns.
    pub(super) fn classes(self) -> (Option<String>, Vec<NamedClasses>) {
        let place = match &self.config_name {
            Some(config) => format!("dataset_info of `{config}`"),
            None => "dataset_info".to_owned(),
        };
        (self.config_name, classes(self.features, &place))
    }
}

/// A column.
#[derive(Debug, Deserialize)]
pub(super) struct Feature {
    #[serde(default)]
    name: String,
    #[serde(default)]
    dtype: Kind,
}

/// The type of a column, of which only named classes matter.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Form<IgnoredAny, WrittenKind>")]
struct Kind(BTreeMap<u64, String>);

#[derive(Deserialize)]
struct WrittenKind {
    #[serde(default)]
    class_label: Option<ClassLabel>,
}

#[derive(Default, Deserialize)]
struct ClassLabel {
    #[serde(default)]
    names: ClassNames,
}

/// The names of classes: a list, or a mapping from numbers.
#[derive(Default, Deserialize)]
#[serde(try_from = "Form<String, BTreeMap<String, String>>")]
struct ClassNames(BTreeMap<u64, String>);

/// The classes of columns that a card describes in `place`.
pub(super) fn classes(features: Option<Vec<Feature>>, place: &str) -> Vec<NamedClasses> {
    let named = features.into_iter().flatten().filter(|feature| !feature.dtype.0.is_empty());
    let classes = named.map(|Feature { name, dtype }| NamedClasses {
        column: Some(name),
        names: Ok(dtype.0),
        doubtful: false,
        place: format!("its README.md ({place})"),
    });
    classes.collect()
}

impl TryFrom<Form<Description, Description>> for Descriptions {
    type Error = String;

    fn try_from(form: Form<Description, Description>) -> Result<Self, String> {
        match form {
            Form::Null | Form::Text(_) => Ok(Self::default()),
            Form::Mapping(only) => Ok(Self(vec![only])),
            Form::List(several) => Ok(Self(several)),
            other => {
                Err(other.instead_of("the description of a data set, or a list of descriptions"))
            }
        }
    }
}

impl TryFrom<Form<IgnoredAny, WrittenKind>> for Kind {
    type Error = String;

    fn try_from(form: Form<IgnoredAny, WrittenKind>) -> Result<Self, String> {
        match form {
            Form::Null | Form::Text(_) | Form::List(_) => Ok(Self::default()),
            Form::Mapping(kind) => Ok(Self(kind.class_label.unwrap_or_default().names.0)),
            other => Err(other.instead_of("the type of a column")),
        }
    }
}

impl TryFrom<Form<String, BTreeMap<String, String>>> for ClassNames {
    type Error = String;

    fn try_from(form: Form<String, BTreeMap<String, String>>) -> Result<Self, String> {
        let number = |(number, name): (String, String)| match number.parse() {
            Ok(number) => Ok((number, name)),
            Err(_) => Err(format!("the class `{name}` has `{number}`, not a number")),
        };
        match form {
            Form::Null => Ok(Self::default()),
            Form::List(names) => Ok(Self((0..).zip(names).collect())),
            Form::Mapping(names) => {
                names.into_iter().map(number).collect::<Result<_, _>>().map(Self)
            }
            other => Err(other.instead_of("the names of classes, as a list or by their numbers")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::front_matter;
    use super::*;

    /// The names of classes by their numbers, of each column that has some.
    type Names = Vec<(String, BTreeMap<u64, String>)>;

    /// The configurations in `yaml` with the names of their classes.
    fn read(yaml: &str) -> Vec<(Option<String>, Names)> {
        let read = front_matter::read(yaml).expect(yaml).dataset_info.0.into_iter();
        let names = |it: NamedClasses| (it.column.expect("a column"), it.names.expect("names"));
        let described = read.map(Description::classes);
        described.map(|(config, all)| (config, all.into_iter().map(names).collect())).collect()
    }

    #[test]
    fn class_names_are_read_in_every_form() {
        let label = |names: &[&str]| {
            let names = (0..).zip(names.iter().map(|name| (*name).to_owned())).collect();
            vec![("label".to_owned(), names)]
        };
        let features = "features:\n  - name: text\n    dtype: string\n  - name: turns\n    list:\n    - name: role\n      dtype: string\n  - name: label\n    dtype:\n      class_label:\n        names:";
        for names in ["\n          '0': no\n          '1': 7", " [no, 7]", " {1: 7, 0: no}"] {
            let yaml = format!("dataset_info:\n  {features}{names}\n");
            assert_eq!(read(&yaml), [(None, label(&["no", "7"]))], "{yaml}");
        }
        let yaml = format!("dataset_info:\n- config_name: a\n  {features} [x]\n- config_name: b\n");
        let expected = [(Some("a".into()), label(&["x"])), (Some("b".into()), Vec::new())];
        assert_eq!(read(&yaml), expected);
        for none in [
            "dataset_info:\n",
            "dataset_info: null\n",
            "dataset_info: {}\n",
            "dataset_info: {features: [{name: label, dtype: {class_label: {num_classes: 2}}}]}\n",
            "dataset_info: {features: [{name: label, sequence: {class_label: {names: [a]}}}]}\n",
        ] {
            assert!(read(none).iter().all(|(_, names)| names.is_empty()), "{none}");
        }
        let odd =
            "dataset_info:\n  features:\n  - name: a\n    dtype: {class_label: {names: {x: y}}}\n";
        let error = front_matter::read(odd).expect_err("no number");
        assert!(error.contains("line 4") && error.contains("`y` has `x`"), "{error}");
    }
}
