//! The columns that a card describes, as far as it names their classes.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The names of classes by their numbers, of each column that has some.
pub(super) type Names = Vec<(String, BTreeMap<u64, String>)>;

/// The entry `dataset_info`: one description, or one for each configuration.
#[derive(Debug, Default)]
pub(super) struct Descriptions(pub(super) Vec<Description>);

/// The description of a configuration.
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    #[serde(default)]
    pub(super) config_name: Option<String>,
    #[serde(default)]
    features: Option<Vec<Feature>>,
}

impl Description {
    /// The names of the classes of its columns.
    pub(super) fn names(self) -> Names {
        names(self.features.unwrap_or_default())
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
#[derive(Debug, Default)]
struct Kind(BTreeMap<u64, String>);

#[derive(Deserialize)]
struct WrittenKind {
    #[serde(default)]
    class_label: Option<ClassLabel>,
}

#[derive(Deserialize)]
struct ClassLabel {
    #[serde(default)]
    names: ClassNames,
}

/// The names of classes: a list, or a mapping from numbers.
#[derive(Default)]
struct ClassNames(BTreeMap<u64, String>);

/// The names of the classes of columns.
pub(super) fn names(features: Vec<Feature>) -> Names {
    let named = features.into_iter().filter(|feature| !feature.dtype.0.is_empty());
    named.map(|feature| (feature.name, feature.dtype.0)).collect()
}

impl<'de> Deserialize<'de> for Descriptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Descriptions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the description of a data set, or a list of descriptions")
            }

            /// Nothing, as `null` is a text here.
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Descriptions, E> {
                Ok(Descriptions::default())
            }

            fn visit_unit<E>(self) -> Result<Descriptions, E> {
                Ok(Descriptions::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Descriptions, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Descriptions)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Descriptions, A::Error> {
                let only = Description::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Descriptions(vec![only]))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Kind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the type of a column")
            }

            fn visit_str<E>(self, _: &str) -> Result<Kind, E> {
                Ok(Kind::default())
            }

            fn visit_unit<E>(self) -> Result<Kind, E> {
                Ok(Kind::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Kind::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Kind, A::Error> {
                let kind = WrittenKind::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Kind(kind.class_label.map(|label| label.names.0).unwrap_or_default()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for ClassNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrMap;
        impl<'de> Visitor<'de> for ListOrMap {
            type Value = ClassNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the names of classes, as a list or by their numbers")
            }

            fn visit_unit<E>(self) -> Result<ClassNames, E> {
                Ok(ClassNames(BTreeMap::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ClassNames, A::Error> {
                let mut names = BTreeMap::new();
                while let Some(name) = items.next_element()? {
                    names.insert(names.len() as u64, name);
                }
                Ok(ClassNames(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClassNames, A::Error> {
                let mut names = BTreeMap::new();
                while let Some((number, name)) = map.next_entry::<String, String>()? {
                    let number = number.parse().map_err(|_| {
                        A::Error::custom(format!("the class `{name}` has `{number}`, not a number"))
                    })?;
                    names.insert(number, name);
                }
                Ok(ClassNames(names))
            }
        }
        deserializer.deserialize_any(ListOrMap)
    }
}

#[cfg(test)]
mod tests {
    use super::super::front_matter;
    use super::*;

    /// The configurations in `yaml` with the names of their classes.
    fn read(yaml: &str) -> Vec<(Option<String>, Names)> {
        let read = front_matter::read(yaml).expect(yaml);
        read.dataset_info.0.into_iter().map(|it| (it.config_name.clone(), it.names())).collect()
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
