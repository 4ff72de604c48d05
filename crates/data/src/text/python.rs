//! What chat templates take from Python: `tojson` as `json.dumps` writes it, and the date.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Deeper indentation than any template needs.
const MOST_INDENT: usize = 16;

/// The day that templates are told it is: 26 July 2024, a Friday.
///
/// A run must give the same tokens tomorrow. Llama 3's templates name this very day where they
/// cannot ask for one.
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

/// `strftime_now(format)`, always at the start of one day.
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
            let problem = format!("strftime_now: `{format}` asks for what is not known here");
            Error::new(ErrorKind::InvalidOperation, problem)
        })?;
        written.push_str(if bare { value.trim_start_matches('0') } else { value });
    }
    Ok(written)
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
        let problem = format!("tojson: an indent of more than {MOST_INDENT}");
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        _ if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        _ => (", ".to_owned(), ": ".to_owned()),
    };
    let (ascii, sorted) = (ascii.unwrap_or(false), sorted.unwrap_or(false));
    let mut dump = Dump { state, indent, item, key, ascii, sorted, written: String::new() };
    dump.value(value, 0)?;
    Ok(dump.written)
}

/// One call of `json.dumps`.
struct Dump<'a, 's> {
    state: &'a State<'s, 's>,
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
    written: String,
}

impl Dump<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        // The engine charges for the text when it is done; a list that holds another many times
        // over has to be paid for as it is written.
        self.state.consume_fuel(1 + depth as u64)?;
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.written.push_str("null"),
            ValueKind::Bool => {
                self.written.push_str(["false", "true"][usize::from(value.is_true())])
            }
            ValueKind::Number => self.written.push_str(&value.to_string()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect::<Vec<_>>();
                self.container(('[', ']'), &items, depth, |dump, item| {
                    dump.value(item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.collect::<Vec<_>>();
                if self.sorted {
                    keys.sort();
                }
                self.container(('{', '}'), &keys, depth, |dump, key| {
                    dump.text(&key.to_string());
                    dump.written.push_str(&dump.key);
                    dump.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            _ => self.text(&value.to_string()),
        }
        Ok(())
    }

    fn container(
        &mut self,
        (open, close): (char, char),
        items: &[Value],
        depth: usize,
        write: impl Fn(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.written.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.written.push_str(&self.item);
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.written.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.written.push('\n');
            self.written.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn text(&mut self, text: &str) {
        for letter in serde_json::Value::from(text).to_string().chars() {
            match letter.is_ascii() || !self.ascii {
                true => self.written.push(letter),
                false => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        self.written.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_does_not_change() {
        let date = |format| strftime_now(format).expect("known codes");
        assert_eq!(date("%d %b %Y"), "26 Jul 2024");
        assert_eq!(date("%A, %B %-d, %Y at %H:%M %% %-m"), "Friday, July 26, 2024 at 00:00 % 7");
        assert!(strftime_now("%Q").is_err() && strftime_now("%").is_err());
    }
}
