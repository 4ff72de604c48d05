//! Layers of settings: a tree of values that knows where each was written.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};
use vxf_core::{ConfigError, Lora};

use crate::{Error, Result};

/// The location where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a recipe file, at this line.
    File {
        /// The file name as given.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// In this command-line flag.
    Flag(String),
    /// Not written: a default.
    Default,
}

impl Place {
    /// The location as the beginning of a message; empty for a default.
    pub fn prefix(&self) -> String {
        match self {
            Self::Default => String::new(),
            place => format!("{place}: "),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A tree of settings with their locations; keys are paths such as `perturber.rho`.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    values: Map<String, Value>,
    places: BTreeMap<String, Place>,
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A layer of `values`, all written at `place`.
    pub fn of(values: Map<String, Value>, place: &Place) -> Self {
        let mut layer = Self::new();
        for (key, value) in values {
            layer.mark(&key, &value, place);
            layer.values.insert(key, value);
        }
        layer
    }

    pub(crate) fn from_parts(values: Map<String, Value>, places: BTreeMap<String, Place>) -> Self {
        Self { values, places }
    }

    fn mark(&mut self, path: &str, value: &Value, place: &Place) {
        self.places.insert(path.to_owned(), place.clone());
        if let Value::Array(items) = value {
            for (index, item) in items.iter().enumerate() {
                self.mark(&format!("{path}.{index}"), item, place);
            }
        }
        if let Value::Object(object) = value {
            for (key, value) in object {
                self.mark(&format!("{path}.{key}"), value, place);
            }
        }
    }

    /// Sets the value at `path` and creates missing tables.
    ///
    /// # Errors
    /// When a part of the path is not a table.
    pub fn set(&mut self, path: &str, value: Value, place: Place) -> Result<()> {
        // What stood below the old value is gone.
        self.places.retain(|known, _| !is_below(known, path));
        self.mark(path, &value, &place);
        let parts: Vec<&str> = path.split('.').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(Error::setting(place, path, "must be words joined by dots", path));
        }
        insert(&mut self.values, &parts, value)
            .map_err(|(rule, found)| Error::setting(place, path, rule, found))
    }

    /// Replaces the table at `path` by `table`; locations of existing settings stay.
    pub(crate) fn fill(&mut self, path: &str, table: Map<String, Value>, place: &Place) {
        let parts: Vec<&str> = path.split('.').collect();
        for key in table.keys() {
            self.places.entry(format!("{path}.{key}")).or_insert_with(|| place.clone());
        }
        // `path` is a table already, so this cannot fail.
        let _ = insert(&mut self.values, &parts, Value::Object(table));
    }

    /// Removes a top-level setting.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.places.remove(key);
        self.values.shift_remove(key)
    }

    /// Renames PEFT's adapter settings (`r`, `lora_alpha`, `lora_dropout`) to the names used here, so
    /// that layers with different spellings can be combined.
    ///
    /// # Errors
    /// When a table sets both names of one setting.
    pub fn spelled_out(mut self) -> Result<Self> {
        let mut adapters = Vec::new();
        adapters_in(&self.values, "", &mut adapters);
        for path in adapters {
            for (alias, name) in Lora::ALIASES {
                self.rename(&path, alias, name)?;
            }
        }
        Ok(self)
    }

    /// Renames a key in the table at `path`.
    fn rename(&mut self, path: &str, from: &str, to: &str) -> Result<()> {
        let mut parts = path.split('.');
        let first = parts.next().and_then(|first| self.values.get_mut(first));
        let table = parts.try_fold(first, |at, part| match at {
            Some(Value::Array(items)) => Some(items.get_mut(part.parse::<usize>().ok()?)),
            at => at.map(|at| at.get_mut(part)),
        });
        let Some(Some(Value::Object(table))) = table else { return Ok(()) };
        if !table.contains_key(from) {
            return Ok(());
        }
        let (old, new) = (format!("{path}.{from}"), format!("{path}.{to}"));
        if table.contains_key(to) {
            let problem = ConfigError {
                rule: format!("is another name of `{new}`, which is set too; write one of them"),
                key: old.clone(),
                found: String::new(),
            };
            return Err(Error::Setting { place: self.place(&old), problem: Box::new(problem) });
        }
        // Keeps its position: messages follow the order of the file.
        let renamed = std::mem::take(table).into_iter();
        let renamed = renamed.map(|(key, value)| match key == from {
            true => (to.to_owned(), value),
            false => (key, value),
        });
        *table = renamed.collect();
        if let Some(place) = self.places.remove(&old) {
            self.places.insert(new, place);
        }
        Ok(())
    }

    /// The value at `path`.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let first = self.values.get(parts.next()?)?;
        parts.try_fold(first, |at, part| match at {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            at => at.get(part),
        })
    }

    /// The string at `path`, if any.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path).and_then(Value::as_str)
    }

    /// All values.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The location of `path`, or of the nearest enclosing table.
    pub fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return place.clone();
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return Place::Default,
            }
        }
    }

    /// This layer over another one: values here override those in `below`.
    ///
    /// A table with another plugin name (or adapter type, or kind of model) replaces the table below
    /// completely, because its settings would not apply.
    pub fn over(mut self, below: Self) -> Self {
        let Self { values, places } = below;
        for (path, place) in places {
            // The items of a list that is replaced are not where the list below had them.
            let replaced = path
                .match_indices('.')
                .any(|(at, _)| self.get(&path[..at]).is_some_and(|value| !value.is_object()));
            if !replaced {
                self.places.entry(path).or_insert(place);
            }
        }
        overlay(&mut self.values, values);
        self
    }
}

/// Whether `path` leads into the value at `other`.
fn is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'))
}

/// Sets `value` at the path `parts` and creates missing tables; an existing value that is not a table is
/// an error.
fn insert(
    table: &mut Map<String, Value>,
    parts: &[&str],
    value: Value,
) -> Result<(), (String, String)> {
    let [first, rest @ ..] = parts else { return Ok(()) };
    if rest.is_empty() {
        table.insert((*first).to_owned(), value);
        return Ok(());
    }
    let at = table.entry(*first).or_insert_with(|| Value::Object(Map::new()));
    replace(at, first, rest, value)
}

/// Sets `value` at the path `parts` below `at`, which is called `name`. List items are addressed by
/// index; lists do not grow.
fn replace(
    at: &mut Value,
    name: &str,
    parts: &[&str],
    value: Value,
) -> Result<(), (String, String)> {
    match at {
        Value::Object(table) => insert(table, parts, value),
        Value::Array(items) => {
            let [index, rest @ ..] = parts else { return Ok(()) };
            let item = index.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            let Some(item) = item else {
                let rule = format!("cannot be set: `{name}` has no item {index}");
                return Err((rule, value.to_string()));
            };
            if rest.is_empty() {
                *item = value;
                return Ok(());
            }
            replace(item, index, rest, value)
        }
        other => Err((format!("cannot be set: `{name}` is not a table"), other.to_string())),
    }
}

/// Finds the paths of all adapter tables, also inside lists.
fn adapters_in(table: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let within = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    for (key, value) in table {
        match value {
            Value::Object(_) if key == "trainable" => found.push(within(key)),
            Value::Object(inner) => adapters_in(inner, &within(key), found),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Object(inner) = item {
                        adapters_in(inner, &within(&format!("{key}.{index}")), found);
                    }
                }
            }
            _ => {}
        }
    }
}

fn overlay(above: &mut Map<String, Value>, below: Map<String, Value>) {
    let differs = |key: &str| {
        let (above, below) = (above.get(key), below.get(key));
        above.is_some() && below.is_some() && above != below
    };
    if ["name", "type", "model_type"].into_iter().any(differs) {
        return;
    }
    for (key, value) in below {
        match (above.get_mut(&key), value) {
            (None, value) => {
                above.insert(key, value);
            }
            (Some(Value::Object(above)), Value::Object(below)) => overlay(above, below),
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layer(value: Value, flag: &str) -> Layer {
        let Value::Object(values) = value else { panic!("a table") };
        Layer::of(values, &Place::Flag(flag.into()))
    }

    #[test]
    fn upper_layers_override_and_keep_locations() {
        let below = layer(json!({"a": {"x": 1, "y": 2}, "b": 3}), "below");
        let above = layer(json!({"a": {"x": 9}}), "above");
        let both = above.over(below);
        assert_eq!(Value::Object(both.values().clone()), json!({"a": {"x": 9, "y": 2}, "b": 3}));
        assert_eq!(both.place("a.x"), Place::Flag("above".into()));
        assert_eq!(both.place("a.y.deeper"), Place::Flag("below".into()));
        assert_eq!(both.place("c"), Place::Default);
    }

    #[test]
    fn items_of_a_list_that_is_replaced_lose_their_locations() {
        let below = || layer(json!({"metrics": [{"name": "a"}, {"name": "b"}]}), "below");
        let above = layer(json!({"metrics": ["c"]}), "above").over(below());
        let mut set = below();
        set.set("metrics", json!(["c"]), Place::Flag("above".into())).expect("a list");
        for layer in [above, set] {
            assert_eq!(layer.place("metrics.0.name"), Place::Flag("above".into()));
        }
        assert_eq!(below().place("metrics.0.name"), Place::Flag("below".into()));
    }

    #[test]
    fn another_name_drops_the_settings_of_the_first() {
        let below = layer(json!({"perturber": {"name": "vaccine", "rho": 2}}), "below");
        let above = layer(json!({"perturber": {"name": "gaussian"}}), "above");
        assert_eq!(above.over(below).get("perturber.rho"), None);
    }

    #[test]
    fn names_of_peft_are_aliases() {
        let peft = json!({"type": "lora", "r": 2, "lora_alpha": 4, "lora_dropout": 0.5});
        let below = json!({"alignment": {"trainable": {"type": "lora", "rank": 8, "alpha": 1}}});
        let above = layer(json!({"alignment": {"trainable": peft}}), "above");
        let both = above.spelled_out().expect("one name each").over(layer(below, "below"));
        let wanted = json!({"type": "lora", "rank": 2, "alpha": 4, "dropout": 0.5});
        assert_eq!(both.get("alignment.trainable"), Some(&wanted));
        assert_eq!(both.place("alignment.trainable.rank"), Place::Flag("above".into()));
        let twice = json!({"fine_tuning": {"trainable": {"rank": 2, "r": 3}}});
        let error = layer(twice, "flag").spelled_out().expect_err("two names").to_string();
        let names = ["flag", "`fine_tuning.trainable.r`", "`fine_tuning.trainable.rank`"];
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
        // Elsewhere `r` is an ordinary key.
        let other =
            layer(json!({"perturber": {"r": 1}}), "flag").spelled_out().expect("no adapter");
        assert_eq!(other.get("perturber.r"), Some(&json!(1)));
    }

    #[test]
    fn paths_make_tables_but_never_replace_values() {
        let mut layer = Layer::new();
        layer.set("a.b", json!(1), Place::Default).expect("a new table");
        assert_eq!(layer.get("a.b"), Some(&json!(1)));
        assert!(layer.set("a.b.c", json!(1), Place::Default).is_err());
        assert!(layer.set("a..c", json!(1), Place::Default).is_err());
    }
}
