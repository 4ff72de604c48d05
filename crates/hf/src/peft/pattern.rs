//! Values of single layers in `rank_pattern` and `alpha_pattern`.

use regex::Regex;
use serde_json::Value;

/// The layers that have a value of their own: expressions for their names, with the values.
pub(super) struct Pattern(Vec<(Regex, f64)>);

impl Pattern {
    /// Reads the object under `key`.
    ///
    /// As in PEFT, a key is a regular expression for the end of a layer's name, from a dot on.
    ///
    /// # Errors
    /// When it is not an object of numbers, or an expression cannot be read.
    pub(super) fn read(key: &str, value: Option<&Value>) -> Result<Self, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return Ok(Self(Vec::new()));
        };
        let object = value.as_object().ok_or_else(|| format!("`{key}` must be an object"))?;
        let entry = |(layer, value): (&String, &Value)| {
            let number = value.as_f64().filter(|number| number.is_finite());
            let number = number.ok_or_else(|| format!("`{key}`: `{layer}` must be a number"))?;
            Ok((expression(&format!(r"^(?:.*\.)?(?:{layer})$"), layer)?, number))
        };
        object.iter().map(entry).collect::<Result<_, String>>().map(Self)
    }

    /// The value of the layer called `module`, if it has one of its own.
    pub(super) fn get(&self, module: &str) -> Option<f64> {
        let found = self.0.iter().find(|(expression, _)| expression.is_match(module));
        found.map(|(_, value)| *value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Modules that a key names: a list of their names, or an expression for the whole name.
pub(super) enum Modules {
    List(Vec<String>),
    Expression(Regex),
}

impl Modules {
    /// Reads the value of a key: a list, or a text.
    ///
    /// # Errors
    /// When an expression cannot be read.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        Ok(match value.as_str() {
            Some(text) => Self::Expression(expression(&format!("^(?:{text})$"), text)?),
            None => {
                let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                Self::List(names.map(str::to_owned).collect())
            }
        })
    }

    /// Whether `module` is one of them.
    pub(super) fn name(&self, module: &str) -> bool {
        match self {
            Self::List(names) => listed(names, module),
            Self::Expression(expression) => expression.is_match(module),
        }
    }
}

/// Whether a list has the module, by its whole name or the last parts of it.
pub(super) fn listed(names: &[String], module: &str) -> bool {
    names.iter().any(|name| {
        let rest = module.strip_suffix(name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Compiles `whole`, which was made of the expression `shown` of a file.
fn expression(whole: &str, shown: &str) -> Result<Regex, String> {
    Regex::new(whole).map_err(|error| {
        let text = error.to_string();
        let reason = match text.contains("look-around") {
            true => "look-around is not supported".to_owned(),
            false => text.lines().last().unwrap_or_default().trim().to_owned(),
        };
        format!("the expression `{shown}` cannot be read: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_for_the_whole_name() {
        let modules = |value| Modules::read(&value).expect("modules");
        let name = "model.layers.0.self_attn.q_proj";
        assert!(modules(serde_json::json!(r".*\.q_proj")).name(name));
        assert!(!modules(serde_json::json!("q_proj")).name(name));
        assert!(modules(serde_json::json!(["v_proj", "q_proj"])).name(name));
        assert!(!modules(serde_json::json!(["proj"])).name(name));
        let error = Modules::read(&serde_json::json!("(?!x)y")).err().expect("refused");
        assert!(error.contains("look-around is not supported"), "{error}");
    }

    #[test]
    fn a_pattern_is_for_the_end_of_a_name() {
        let value = serde_json::json!({ "v_proj": 1, r"layers\.[01]\.self_attn\.q_proj": 4 });
        let pattern = Pattern::read("rank_pattern", Some(&value)).expect("patterns");
        assert_eq!(pattern.get("model.layers.7.self_attn.v_proj"), Some(1.0));
        assert_eq!(pattern.get("model.layers.1.self_attn.q_proj"), Some(4.0));
        assert_eq!(pattern.get("model.layers.11.self_attn.q_proj"), None);
        assert_eq!(pattern.get("model.layers.1.self_attn.kv_proj"), None);
        let around = serde_json::json!({ "(?!x)y": 1 });
        let error = Pattern::read("rank_pattern", Some(&around)).err().expect("refused");
        assert!(error.contains("look-around is not supported"), "{error}");
    }
}
