//! Python functions of chat templates: `tojson` with the output of `json.dumps`, and the date.

use std::io;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::ser::Formatter;

/// The largest indent; no template needs more.
const MOST_INDENT: usize = 16;

/// The date for templates: Friday, 26 July 2024.
///
/// It is fixed so that a run gives the same tokens on every day. Llama 3's templates use this date if
/// `strftime_now` does not exist.
const DAY: [(char, &str); 16] = [
    ('d', "26"),
    ('e', "26"),
    ('m', "07"),
    ('b', "Jul"),
    ('B', "July"),
    ('Y', "2024"),
    ('y', "24"),
    ('a', "Fri"),
    ('A', "Friday"),
    ('j', "208"),
    ('H', "00"),
    ('I', "12"),
    ('M', "00"),
    ('S', "00"),
    ('p', "AM"),
    ('%', "%"),
];

/// `strftime_now(format)`, always at the start of the same day.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let mut written = String::new();
    let mut left = format.chars();
    while let Some(next) = left.next() {
        if next != '%' {
            written.push(next);
            continue;
        }
        let (code, bare) = match left.next() {
            Some('-') => (left.next(), true),
            other => (other, false),
        };
        let value = code.and_then(|code| DAY.iter().find(|(known, _)| *known == code));
        let (_, value) = value.ok_or_else(|| {
            let problem = format!("strftime_now: `{format}` has an unsupported code");
            Error::new(ErrorKind::InvalidOperation, problem)
        })?;
        written.push_str(if bare { value.trim_start_matches('0') } else { value });
    }
    Ok(written)
}

/// The text of a value; that of a number is Python's. Lists keep the engine's.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), repr)
        }
        _ => value.to_string(),
    }
}

/// A number with a point, as Python's `repr` writes it: `1e-05` and `1e+16`.
fn repr(value: f64) -> String {
    let text = if value.is_nan() { "nan".to_owned() } else { format!("{value:?}") };
    match text.split_once('e') {
        None => text,
        Some((digits, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |it| ('-', it));
            format!("{digits}e{sign}{power:0>2}")
        }
    }
}

/// `value | escape`, with the characters of Python's `markupsafe`.
pub(super) fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let shown = value.as_str().map_or_else(|| text(value), str::to_owned);
    let mut escaped = String::with_capacity(shown.len());
    for letter in shown.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            other => escaped.push(other),
        }
    }
    Value::from_safe_string(escaped)
}

/// `value | tojson`, with `json.dumps`'s separators and no escaping of HTML.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    options: Kwargs,
) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > MOST_INDENT) {
        return Err(failed(format!("the indent is more than {MOST_INDENT}")));
    }
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(failed("`separators` must have two texts: between items, and after a key"));
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let ascii = ascii.unwrap_or(false);
    let format = Dumps { indent, item, key, ascii, depth: 0, empty: true };
    let fuel = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
    let mut json = Bounded { bytes: Vec::new(), most: fuel.saturating_mul(BYTES_OF_FUEL) };
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, format);
    let written = match sorted.unwrap_or(false) {
        true => Sorted(value).serialize(&mut serializer),
        false => value.serialize(&mut serializer),
    };
    match written {
        Ok(()) => String::from_utf8(json.bytes).map_err(failed),
        Err(error) if error.is_io() => Err(ErrorKind::OutOfFuel.into()),
        Err(error) => Err(failed(error)),
    }
}

fn failed(problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {problem}"))
}

/// Bytes of output per unit of fuel, as the engine charges. Output is limited while it is written,
/// because indentation can make it much larger than the value.
const BYTES_OF_FUEL: u64 = 64;

/// A writer that accepts at most `most` bytes.
struct Bounded {
    bytes: Vec<u8>,
    most: u64,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A value whose maps are serialised with sorted keys.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items = || self.0.try_iter().map_err(S::Error::custom);
        match self.0.kind() {
            ValueKind::Map => {
                let mut keys = items()?.collect::<Vec<_>>();
                keys.sort();
                let mut map = serializer.serialize_map(Some(keys.len()))?;
                for key in keys {
                    let value = self.0.get_item(&key).map_err(S::Error::custom)?;
                    map.serialize_entry(&key, &Sorted(&value))?;
                }
                map.end()
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let mut list = serializer.serialize_seq(None)?;
                for item in items()? {
                    list.serialize_element(&Sorted(&item))?;
                }
                list.end()
            }
            _ => self.0.serialize(serializer),
        }
    }
}

/// A JSON formatter with the style of `json.dumps`.
struct Dumps {
    indent: Option<usize>,
    /// The separator between items.
    item: String,
    /// The separator between a key and its value.
    key: String,
    ascii: bool,
    depth: usize,
    /// Whether the container opened last is still empty.
    empty: bool,
}

impl Dumps {
    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        (self.depth, self.empty) = (self.depth + 1, true);
        out.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }

    fn next<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.empty = false;
        self.line(out)
    }

    fn line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(out, "\n{:1$}", "", indent * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for Dumps {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(repr(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ascii {
            return out.write_all(fragment.as_bytes());
        }
        for letter in fragment.chars() {
            match letter.is_ascii() {
                true => out.write_all(&[letter as u8])?,
                false => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;
    use minijinja::{Environment, context};

    use super::*;

    /// The expected texts are those of Python 3.13's `json.dumps` with the same arguments.
    #[test]
    fn json_is_equal_to_pythons() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        for (arguments, wanted) in [
            (
                "",
                r#"{"b": [1, -2.5, 1e-05, 1e+16, []], "a": {"x": "é\n\"\u0001\\", "y": {}}, "n": null, "t": true}"#,
            ),
            (
                "separators=(',', ':')",
                r#"{"b":[1,-2.5,1e-05,1e+16,[]],"a":{"x":"é\n\"\u0001\\","y":{}},"n":null,"t":true}"#,
            ),
            (
                "sort_keys=true",
                r#"{"a": {"x": "é\n\"\u0001\\", "y": {}}, "b": [1, -2.5, 1e-05, 1e+16, []], "n": null, "t": true}"#,
            ),
            (
                "ensure_ascii=true",
                r#"{"b": [1, -2.5, 1e-05, 1e+16, []], "a": {"x": "\u00e9\n\"\u0001\\", "y": {}}, "n": null, "t": true}"#,
            ),
            (
                "indent=2",
                "{\n  \"b\": [\n    1,\n    -2.5,\n    1e-05,\n    1e+16,\n    []\n  ],\n  \"a\": {\n    \"x\": \"é\\n\\\"\\u0001\\\\\",\n    \"y\": {}\n  },\n  \"n\": null,\n  \"t\": true\n}",
            ),
        ] {
            let value = context! {
                value => Value::from(Serde(serde_json::json!({
                    "b": [1, -2.5, 1e-5, 1e16, []],
                    "a": { "x": "é\n\"\u{1}\\", "y": {} },
                    "n": null,
                    "t": true,
                })))
            };
            let template = format!("{{{{ value | tojson({arguments}) }}}}");
            let rendered = environment.render_str(&template, value);
            assert_eq!(rendered.expect("JSON"), wanted, "{arguments}");
        }
        let rendered = environment.render_str("{{ '😀' | tojson(ensure_ascii=true) }}", ());
        assert_eq!(rendered.expect("JSON"), r#""\ud83d\ude00""#);
        for wrong in ["indent=17", "separators=(',',)", "colour=1"] {
            let template = format!("{{{{ 1 | tojson({wrong}) }}}}");
            assert!(environment.render_str(&template, ()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn indentation_is_charged() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        environment.set_fuel(Some(1000));
        let value = (0..50).fold(Value::from(vec![0; 100]), |inner, _| Value::from(vec![inner]));
        let render = |indent: usize| {
            let template = format!("{{{{ value | tojson(indent={indent}) }}}}");
            environment.render_str(&template, context! { value => value.clone() })
        };
        assert!(render(0).is_ok());
        let error = render(16).expect_err("16 times 50 spaces for each of 100 values");
        assert_eq!(error.kind(), ErrorKind::OutOfFuel);
    }

    #[test]
    fn the_day_does_not_change() {
        let date = |format| strftime_now(format).expect("known codes");
        assert_eq!(date("%d %b %Y"), "26 Jul 2024");
        assert_eq!(date("%A, %B %-d, %Y at %H:%M %% %-m"), "Friday, July 26, 2024 at 00:00 % 7");
        assert!(strftime_now("%Q").is_err() && strftime_now("%").is_err());
    }
}
