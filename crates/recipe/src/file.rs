//! Parses TOML recipes into layers that know the line of every key.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use crate::paths::{self, SeenFrom};
use crate::{Error, Layer, Place, Result};

/// Reads the recipe at `path` and the recipe that it `extends`, if any. Relative paths in each refer to
/// its own directory.
///
/// # Errors
/// When a file cannot be read or is not TOML, a recipe extends itself, or a path is ambiguous.
pub fn read(path: &Path) -> Result<Layer> {
    read_above(path, &mut Vec::new())
}

/// Reads the resolved recipe at `path`; relative paths in it refer to `base`.
///
/// # Errors
/// When it cannot be read or is not TOML.
pub fn read_resolved(path: &Path, base: &Path) -> Result<Layer> {
    let mut layer = parse(&text(path)?, &path.display().to_string())?;
    paths::make_absolute(&mut layer, SeenFrom::Command(base))?;
    Ok(layer)
}

fn text(path: &Path) -> Result<String> {
    // Any readable file, because a recipe may come through a pipe.
    let text =
        File::open(path).and_then(|file| vxf_untrusted::utf8(vxf_untrusted::all(file, LONGEST)?));
    text.map_err(|source| Error::RecipeFile { path: path.to_owned(), source })
}

/// Reads a recipe; `above` are the recipes that extend it.
fn read_above(path: &Path, above: &mut Vec<PathBuf>) -> Result<Layer> {
    let mut layer = parse(&text(path)?, &path.display().to_string())?;
    // A pipe has no directory.
    let base = path.parent().filter(|_| path.is_file()).unwrap_or(Path::new(""));
    paths::make_absolute(&mut layer, SeenFrom::Recipe(base))?;
    let place = layer.place(EXTENDS);
    let Some(extended) = layer.take(EXTENDS) else { return Ok(layer) };
    let refuse = |rule: &str| Error::setting(place.clone(), EXTENDS, rule, &extended);
    let name = extended.as_str().ok_or_else(|| refuse("must be the path of a recipe"))?;
    let below = path.parent().unwrap_or(Path::new("")).join(name);
    above
        .push(path.canonicalize().map_err(|source| Error::Read { path: path.to_owned(), source })?);
    if below.canonicalize().is_ok_and(|below| above.contains(&below)) {
        return Err(refuse("must not lead back to this recipe"));
    }
    if above.len() > DEEPEST {
        return Err(refuse(&format!("must not be the last of more than {DEEPEST} recipes")));
    }
    if !below.is_file() {
        return Err(refuse("must be the path of a recipe, relative to this one's directory"));
    }
    Ok(layer.over(read_above(&below, above)?))
}

/// Size limit of a recipe in bytes; the papers' recipes have two thousand.
const LONGEST: u64 = 1 << 20;

/// Limit of nested brackets.
const MOST_BRACKETS: usize = 100;

/// Limit of recipes that extend one another.
const DEEPEST: usize = 16;

/// The key that names the extended recipe.
const EXTENDS: &str = "extends";

/// Parses a recipe; `name` is the file name in messages.
///
/// # Errors
/// When it is not TOML, or contains a number that is not finite.
pub fn parse(text: &str, name: &str) -> Result<Layer> {
    let lines = Lines::new(text, name);
    if let Some(offset) = too_deep(text) {
        let message = format!("more than {MOST_BRACKETS} nested brackets");
        return Err(Error::NotToml {
            place: lines.place(offset),
            excerpt: message.clone(),
            message,
        });
    }
    let table = DeTable::parse(text).map_err(|error| Error::NotToml {
        place: lines.place(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
        excerpt: error.to_string(),
    })?;
    let mut places = BTreeMap::new();
    let values = lines.table(table.get_ref(), "", &mut places)?;
    Layer::from_parts(values, places).spelled_out()
}

/// Parses a value of `--set`: TOML, or a bare word as a string.
///
/// # Errors
/// When it contains a number that is not finite.
pub fn parse_value(text: &str, place: &Place, key: &str) -> Result<Value> {
    let Some(Ok(value)) = too_deep(text).is_none().then(|| DeValue::parse(text)) else {
        return Ok(Value::String(text.to_owned()));
    };
    let lines = Lines::new(text, "");
    lines.value(value.get_ref(), 0, key, &mut BTreeMap::new()).map_err(|error| match error {
        Error::Setting { problem, .. } => Error::Setting { place: place.clone(), problem },
        other => other,
    })
}

/// Position at which brackets are nested too deeply. The TOML parser recurses once for each and would
/// overflow the stack, even after a syntax error.
fn too_deep(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    for token in Source::new(text).lex() {
        match token.kind() {
            kind @ (TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket) => open.push(kind),
            TokenKind::RightSquareBracket => {
                open.pop_if(|last| *last == TokenKind::LeftSquareBracket);
            }
            TokenKind::RightCurlyBracket => {
                open.pop_if(|last| *last == TokenKind::LeftCurlyBracket);
            }
            _ => {}
        }
        if open.len() > MOST_BRACKETS {
            return Some(token.span().start());
        }
    }
    None
}

/// The ends of a recipe's lines, and its name for messages.
struct Lines<'a> {
    ends: Vec<usize>,
    name: &'a str,
}

impl<'a> Lines<'a> {
    fn new(text: &str, name: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { ends: ends.map(|(at, _)| at).collect(), name }
    }
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Place {
        // A binary search: counting from the start for every key would take quadratic time.
        let line = self.ends.partition_point(|end| *end < offset) + 1;
        Place::File { path: self.name.to_owned(), line }
    }

    fn table(
        &self,
        table: &DeTable<'_>,
        path: &str,
        places: &mut BTreeMap<String, Place>,
    ) -> Result<Map<String, Value>> {
        let mut entries: Vec<_> = table.iter().collect();
        // TOML tables iterate by name, but messages and resolved recipes follow the order of the file.
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut map = Map::new();
        for (key, value) in entries {
            let name = key.get_ref().to_string();
            let path = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            places.insert(path.clone(), self.place(key.span().start));
            map.insert(name, self.item(value, &path, places)?);
        }
        Ok(map)
    }

    fn item(
        &self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        places: &mut BTreeMap<String, Place>,
    ) -> Result<Value> {
        self.value(value.get_ref(), value.span().start, path, places)
    }

    fn value(
        &self,
        value: &DeValue<'_>,
        offset: usize,
        path: &str,
        places: &mut BTreeMap<String, Place>,
    ) -> Result<Value> {
        let refuse =
            |rule: &str, found: &str| Error::setting(self.place(offset), path, rule, found);
        Ok(match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Integer(number) => {
                let digits = number.as_str();
                let parsed = i64::from_str_radix(digits, number.radix());
                parsed
                    .map_err(|_| refuse("must be a whole number that fits 64 bits", digits))?
                    .into()
            }
            DeValue::Float(number) => {
                let parsed = number.as_str().parse::<f64>().ok();
                let finite = parsed.and_then(serde_json::Number::from_f64);
                Value::Number(
                    finite.ok_or_else(|| refuse("must be a finite number", number.as_str()))?,
                )
            }
            DeValue::Datetime(date) => Value::String(date.to_string()),
            DeValue::Array(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}.{index}");
                    places.insert(path.clone(), self.place(item.span().start));
                    values.push(self.item(item, &path, places)?);
                }
                Value::Array(values)
            }
            DeValue::Table(table) => Value::Object(self.table(table, path, places)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_know_their_lines() {
        let text = "seeds = [1, 2]\n\n[perturber]\nname = \"vaccine\"\nrho = 2.5\n";
        let layer = parse(text, "r.toml").expect("TOML");
        assert_eq!(layer.get("perturber.rho"), Some(&json!(2.5)));
        assert_eq!(layer.get("seeds"), Some(&json!([1, 2])));
        let place = |line| Place::File { path: "r.toml".into(), line };
        assert_eq!(layer.place("perturber.rho"), place(5));
        assert_eq!(layer.place("seeds.1"), place(1));
    }

    #[test]
    fn invalid_toml_and_nan_are_reported_with_their_line() {
        let error = parse("a = 1\nb = = 2\n", "r.toml").expect_err("not TOML");
        assert!(error.to_string().starts_with("r.toml:2: not TOML"), "{error}");
        let error = parse("[perturber]\nrho = nan\n", "r.toml").expect_err("not finite");
        let expected = "r.toml:2: `perturber.rho` must be a finite number, got nan";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn recipes_override_those_that_they_extend() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| {
            let path = place.path().join(name);
            std::fs::write(&path, text).expect("it can be written");
            path
        };
        write("base.toml", "seeds = [7]\n[perturber]\nname = \"vaccine\"\nrho = 2\n");
        let above = write("above.toml", "extends = \"base.toml\"\n[perturber]\nrho = 5\n");
        let layer = read(&above).expect("both are there");
        assert_eq!(layer.get("perturber"), Some(&json!({"name": "vaccine", "rho": 5})));
        assert_eq!(layer.get("seeds"), Some(&json!([7])));
        assert_eq!(layer.get("extends"), None);

        write("base.toml", "extends = \"above.toml\"\n");
        let error = read(&above).expect_err("they go round").to_string();
        assert!(error.contains("base.toml:1") && error.contains("lead back"), "{error}");
        let lost = write("lost.toml", "\nextends = \"nowhere.toml\"\n");
        let error = read(&lost).expect_err("there is none").to_string();
        assert!(error.contains("lost.toml:2") && error.contains("nowhere.toml"), "{error}");
    }

    #[test]
    fn recipes_and_their_extensions_are_bounded() {
        let place = tempfile::tempdir().expect("a temporary directory");
        for number in 0..20 {
            let text = format!("extends = \"{}.toml\"\n", number + 1);
            std::fs::write(place.path().join(format!("{number}.toml")), text).expect("written");
        }
        let error = read(&place.path().join("0.toml")).expect_err("a long chain").to_string();
        assert!(error.contains("16.toml:1") && error.contains("more than 16"), "{error}");
        let long = place.path().join("long.toml");
        std::fs::write(&long, "# x\n".repeat(1 << 19)).expect("written");
        let error = read(&long).expect_err("too long").to_string();
        assert!(error.contains("long.toml") && error.contains("longer than 1 MiB"), "{error}");
    }

    #[test]
    fn nested_brackets_are_bounded() {
        for open in ["[", "{a=", "[{a=", "{a=[]]}x{a=", "[}"] {
            let text = format!("\nseeds = {}", open.repeat(20_000));
            let error = parse(&text, "deep.toml").expect_err("too deep").to_string();
            assert!(error.contains("deep.toml:2") && error.contains("more than 100"), "{error}");
            let value = parse_value(&open.repeat(20_000), &Place::Flag("--set".into()), "seeds");
            assert!(value.is_ok_and(|value| value.is_string()), "a text like any other");
        }
        assert!(parse(&format!("a = {}{}", "[".repeat(60), "]".repeat(60)), "x").is_ok());
        assert!(parse(&format!("a = '{}'", "[".repeat(2000)), "x").is_ok());
    }

    #[test]
    fn many_keys_have_their_lines() {
        let text: String = (0..40_000).map(|key| format!("key-{key} = {key}\n")).collect();
        let layer = parse(&text, "many.toml").expect("TOML");
        let place = Place::File { path: "many.toml".into(), line: 40_000 };
        assert_eq!(layer.place("key-39999"), place);
    }

    #[test]
    fn bare_words_are_text() {
        let place = Place::Flag("--set".into());
        let read = |text| parse_value(text, &place, "key").expect("a value");
        assert_eq!(read("agnews"), json!("agnews"));
        assert_eq!(read("0.5"), json!(0.5));
        assert_eq!(read("[1, 2]"), json!([1, 2]));
        assert_eq!(read("true"), json!(true));
        assert_eq!(read("{type = \"full\"}"), json!({"type": "full"}));
        assert!(parse_value("nan", &place, "key").is_err());
    }
}
