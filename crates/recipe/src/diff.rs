//! Settings in which two recipes differ.

use serde::Serialize;
use serde_json::Value;

/// A setting with different values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// Its value in the first recipe; `None` if it is not set there.
    pub first: Option<Value>,
    /// Its value in the second recipe.
    pub second: Option<Value>,
}

impl Difference {
    /// A value as text.
    pub fn show(value: Option<&Value>) -> String {
        value.map_or("nothing".to_owned(), Value::to_string)
    }
}

/// All differences between two trees. Tables are compared key by key, and lists of tables or lists that are equally
/// long item by item, such as the pipelines of an axis; other values as a whole.
pub fn differences(first: &Value, second: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(first), Some(second), &mut found);
    found
}

fn compare(key: &str, first: Option<&Value>, second: Option<&Value>, found: &mut Vec<Difference>) {
    match (first, second) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let only_second = b.keys().filter(|key| !a.contains_key(*key));
            for name in a.keys().chain(only_second) {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(&key, a.get(name), b.get(name), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b)))
            if a.len() == b.len()
                && a.iter().chain(b).all(|it| it.is_array() || it.is_object()) =>
        {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{key}.{}", index + 1), Some(a), Some(b), found);
            }
        }
        (a, b) if same(a, b) => {}
        (first, second) => found.push(Difference {
            key: key.to_owned(),
            first: first.cloned(),
            second: second.cloned(),
        }),
    }
}

/// Compares numbers by value: a recipe may write 1 for 1.0.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.and_then(Value::as_f64), b.and_then(Value::as_f64)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pipelines_of_an_axis_differ_in_a_setting() {
        let of = |rho: f64| json!({ "stage": [[{ "rho": 1 }, { "lr": 2 }], [{ "rho": rho }]] });
        let found = differences(&of(3.0), &of(4.0));
        let keys: Vec<_> = found.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["stage.2.1.rho"]);
        assert_eq!(differences(&of(3.0), &of(3.0)), []);
        // Lists of another length, and lists of numbers, are one value.
        let found =
            differences(&json!({ "a": [1, 2], "b": [[1]] }), &json!({ "a": [1, 3], "b": [] }));
        assert_eq!(found.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
