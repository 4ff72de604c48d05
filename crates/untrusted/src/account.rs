//! Keeps account of which keys of a JSON object were read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// An object of a file, and the keys that its reader asked for.
///
/// Keys that no reader asks for are not known to the program, so they are reported:
/// [`Account::unread`] lists them when reading is done.
#[derive(Debug)]
pub struct Account<'a> {
    object: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Account<'a> {
    /// An account of `object`, of which nothing was read yet.
    pub fn of(object: &'a Map<String, Value>) -> Self {
        Self { object, read: RefCell::default() }
    }

    /// The value of `key`, which counts as read from now on.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.object.get(key)
    }

    /// The keys that were neither read nor are in `harmless`, in the order of the file.
    ///
    /// A value that switches its feature off counts as absent: null, false, and an empty text, list
    /// or object.
    pub fn unread(&self, harmless: &[&str]) -> Vec<String> {
        let read = self.read.borrow();
        let unknown = self.object.iter().filter(|(key, value)| {
            !read.contains(*key) && !harmless.contains(&key.as_str()) && !is_off(value)
        });
        unknown.map(|(key, _)| key.clone()).collect()
    }
}

/// Whether a value leaves its feature off.
pub fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Some names for a message: the first few, and the number of further ones.
pub fn some(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let first: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The warning that these keys of `file` are not used; `None` if there are none.
pub fn not_used(file: &str, keys: &[String]) -> Option<String> {
    let verb = if keys.len() == 1 { "is" } else { "are" };
    (!keys.is_empty()).then(|| format!("{file}: {} {verb} unknown and not used", some(keys)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_listed_once_nothing_asks_for_them() {
        let object = serde_json::json!({
            "asked": 1, "harmless": 2, "new": 3, "off": false, "none": null, "empty": [], "zero": 0,
        });
        let Value::Object(object) = object else { unreachable!() };
        let account = Account::of(&object);
        assert_eq!(account.unread(&[]), ["asked", "harmless", "new", "zero"]);
        assert_eq!(account.get("asked"), Some(&Value::from(1)));
        assert_eq!(account.get("absent"), None);
        assert_eq!(account.unread(&["harmless"]), ["new", "zero"]);
        let warning = not_used("config.json", &account.unread(&["harmless"]));
        let text = "config.json: `new`, `zero` are unknown and not used";
        assert_eq!(warning.as_deref(), Some(text));
        assert_eq!(not_used("config.json", &[]), None);
    }
}
