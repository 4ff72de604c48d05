//! Python's methods of texts, lists and tables, with Python's results and errors.

mod characters;

use std::sync::LazyLock;

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use regex::Regex;

use characters::{
    ALNUM, ALPHA, DECIMAL, DIGIT, NUMERIC, folded, is_cased, is_space, is_title, lowered, titled,
};

type Result<T> = std::result::Result<T, Error>;

/// Calls `value.method(args)`, a method that the engine does not have.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value> {
    match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(_)) if method == "format" => {
            pycompat::unknown_method_callback(state, value, method, args)
        }
        (ValueKind::String, Some(text)) => of_text(state, text, &Call::new(method, args)?),
        (ValueKind::Seq, _) => of_list(state, value, &Call::new(method, args)?),
        (ValueKind::Map, _) if method == "copy" => {
            Call::new(method, args)?.takes(0, &[]).map(|()| value.clone())
        }
        (ValueKind::Map, _) => pycompat::unknown_method_callback(state, value, method, args),
        _ => Err(unknown()),
    }
}

fn unknown() -> Error {
    Error::from(ErrorKind::UnknownMethod)
}

/// The name of a method, and its arguments.
struct Call<'a> {
    method: &'a str,
    args: &'a [Value],
    named: Kwargs,
}

impl<'a> Call<'a> {
    fn new(method: &'a str, args: &'a [Value]) -> Result<Self> {
        let (args, named): (&[Value], Kwargs) = from_args(args)?;
        Ok(Self { method, args, named })
    }

    fn error(&self, problem: &str) -> Error {
        Error::new(ErrorKind::InvalidOperation, format!("{}(): {problem}", self.method))
    }

    /// Checks that there are at most `most` arguments, and none with other names than these.
    fn takes(&self, most: usize, names: &[&str]) -> Result<()> {
        if self.args.len() > most {
            return Err(self.error(&format!("takes at most {most} arguments")));
        }
        match self.named.args().find(|name| !names.contains(name)) {
            Some(name) => Err(self.error(&format!("has no argument `{name}`"))),
            None => Ok(()),
        }
    }

    /// The argument at `at`, or with this name; `None` if it is not given.
    fn get(&self, at: usize, name: &str) -> Option<Value> {
        let named = || self.named.peek::<Value>(name).ok().filter(|it| !it.is_undefined());
        self.args.get(at).cloned().or_else(named)
    }

    fn text_of(&self, value: &Value) -> Result<String> {
        let wrong = || self.error(&format!("needs a text, not {}", value.kind()));
        value.as_str().map(str::to_owned).ok_or_else(wrong)
    }

    fn number_of(&self, value: &Value) -> Result<i64> {
        match value.is_integer() || value.kind() == ValueKind::Bool {
            true => i64::try_from(value.clone()),
            false => Err(self.error(&format!("needs a whole number, not {}", value.kind()))),
        }
    }

    /// A text that must be given.
    fn text(&self, at: usize) -> Result<String> {
        let lacks = || self.error(&format!("lacks argument {}", at + 1));
        self.text_of(&self.get(at, "").ok_or_else(lacks)?)
    }

    /// A text that may be `none`.
    fn text_or_none(&self, at: usize, name: &str) -> Result<Option<String>> {
        let given = self.get(at, name).filter(|value| !value.is_none());
        given.map(|value| self.text_of(&value)).transpose()
    }

    fn number_or(&self, at: usize, name: &str, otherwise: i64) -> Result<i64> {
        self.get(at, name).map_or(Ok(otherwise), |value| self.number_of(&value))
    }

    /// The part of `length` items between the arguments `at` and `at + 1`, which count from the end
    /// where they are negative; `None` if it begins behind its end.
    fn range(&self, at: usize, length: usize) -> Result<Option<(usize, usize)>> {
        let place = |at: usize, otherwise: usize| -> Result<usize> {
            let Some(value) = self.get(at, "").filter(|value| !value.is_none()) else {
                return Ok(otherwise);
            };
            let place = self.number_of(&value)?;
            let place = if place < 0 { place.saturating_add(length as i64) } else { place };
            Ok(usize::try_from(place.max(0)).unwrap_or(usize::MAX))
        };
        let (start, end) = (place(at, 0)?, place(at + 1, length)?.min(length));
        Ok((start <= end).then_some((start, end)))
    }
}

/// Charges fuel for `bytes` that are about to be written, as the engine does for texts that it makes.
fn charge(state: &State<'_, '_>, bytes: usize) -> Result<()> {
    match bytes / 64 {
        0 => Ok(()),
        fuel => state.consume_fuel(fuel as u64),
    }
}

fn of_list(state: &State<'_, '_>, list: &Value, call: &Call<'_>) -> Result<Value> {
    match call.method {
        "count" | "index" => {
            let most = if call.method == "index" { 3 } else { 1 };
            call.takes(most, &[])?;
            let wanted = call.get(0, "").ok_or_else(|| call.error("lacks argument 1"))?;
            let length = list.len().unwrap_or(0);
            charge(state, length)?;
            if call.method == "count" {
                let same = |item: Value| usize::from(item == wanted);
                return Ok(Value::from(list.try_iter()?.map(same).sum::<usize>()));
            }
            let (start, end) = call.range(1, length)?.unwrap_or((0, 0));
            let mut items = list.try_iter()?.enumerate().take(end).skip(start);
            match items.find(|(_, item)| *item == wanted) {
                Some((at, _)) => Ok(Value::from(at)),
                None => Err(call.error("the value is not in the list")),
            }
        }
        "copy" => call.takes(0, &[]).map(|()| list.clone()),
        _ => Err(unknown()),
    }
}

fn of_text(state: &State<'_, '_>, text: &str, call: &Call<'_>) -> Result<Value> {
    match call.method {
        "count" | "find" | "index" | "rfind" | "rindex" | "startswith" | "endswith" => {
            call.takes(3, &[])?;
            search(text, call)
        }
        "split" | "rsplit" => {
            call.takes(2, &["sep", "maxsplit"])?;
            let most = usize::try_from(call.number_or(1, "maxsplit", -1)?).unwrap_or(usize::MAX);
            let from_right = call.method == "rsplit";
            let parts = match call.text_or_none(0, "sep")?.as_deref() {
                None => words(text, most, from_right),
                Some("") => return Err(call.error("the separator is empty")),
                Some(between) if from_right => {
                    let mut parts: Vec<_> = text.rsplitn(most.saturating_add(1), between).collect();
                    parts.reverse();
                    parts
                }
                Some(between) => text.splitn(most.saturating_add(1), between).collect(),
            };
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "splitlines" => {
            call.takes(1, &["keepends"])?;
            let keep = call.get(0, "keepends").is_some_and(|keep| keep.is_true());
            Ok(lines(text, keep).into_iter().map(Value::from).collect())
        }
        "partition" | "rpartition" => {
            call.takes(1, &[])?;
            let between = call.text(0)?;
            if between.is_empty() {
                return Err(call.error("the separator is empty"));
            }
            let parts = match call.method {
                "partition" => match text.split_once(between.as_str()) {
                    Some((before, after)) => [before, &between, after],
                    None => [text, "", ""],
                },
                _ => match text.rsplit_once(between.as_str()) {
                    Some((before, after)) => [before, &between, after],
                    None => ["", "", text],
                },
            };
            Ok(Value::from(Tuple::new(parts.into_iter().map(Value::from).collect())))
        }
        "join" => {
            call.takes(1, &[])?;
            let lacks = || call.error("lacks argument 1");
            let mut joined = String::new();
            for (at, item) in call.get(0, "").ok_or_else(lacks)?.try_iter()?.enumerate() {
                if at > 0 {
                    charge(state, text.len())?;
                    joined.push_str(text);
                }
                let item = call.text_of(&item)?;
                charge(state, item.len())?;
                joined.push_str(&item);
            }
            Ok(Value::from(joined))
        }
        "replace" => {
            call.takes(3, &["count"])?;
            let (old, new) = (call.text(0)?, call.text(1)?);
            let most = usize::try_from(call.number_or(2, "count", -1)?).unwrap_or(usize::MAX);
            let times = (text.len() / old.len().max(1) + 1).min(most);
            charge(state, times.saturating_mul(new.len().saturating_sub(old.len())))?;
            Ok(Value::from(text.replacen(old.as_str(), &new, most)))
        }
        "strip" | "lstrip" | "rstrip" => {
            call.takes(1, &[])?;
            let given = call.text_or_none(0, "")?;
            let goes = |c: char| match &given {
                Some(given) => given.contains(c),
                None => is_space(c),
            };
            Ok(Value::from(match call.method {
                "strip" => text.trim_matches(goes),
                "lstrip" => text.trim_start_matches(goes),
                _ => text.trim_end_matches(goes),
            }))
        }
        "removeprefix" | "removesuffix" => {
            call.takes(1, &[])?;
            let part = call.text(0)?;
            let rest = match call.method {
                "removeprefix" => text.strip_prefix(part.as_str()),
                _ => text.strip_suffix(part.as_str()),
            };
            Ok(Value::from(rest.unwrap_or(text)))
        }
        "zfill" | "ljust" | "rjust" | "center" | "expandtabs" => padded(state, text, call),
        method => {
            let value = plain(text, method).ok_or_else(unknown)?;
            call.takes(0, &[]).map(|()| value)
        }
    }
}

/// Methods without arguments.
fn plain(text: &str, method: &str) -> Option<Value> {
    let all = |class: &LazyLock<Regex>| Value::from(class.is_match(text));
    Some(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "casefold" => Value::from(text.chars().map(folded).collect::<String>()),
        "swapcase" => {
            let swapped = lowered(text).into_iter().map(|(c, lower)| match c {
                c if c.is_uppercase() => lower,
                c if c.is_lowercase() => c.to_uppercase().collect(),
                c => c.to_string(),
            });
            Value::from(swapped.collect::<String>())
        }
        "capitalize" => {
            let parts = lowered(text).into_iter().enumerate();
            let part = |(at, (c, lower))| if at == 0 { titled(c) } else { lower };
            Value::from(parts.map(part).collect::<String>())
        }
        "title" => {
            let mut inside = false;
            let part = |(c, lower)| {
                let part = if inside { lower } else { titled(c) };
                inside = is_cased(c);
                part
            };
            Value::from(lowered(text).into_iter().map(part).collect::<String>())
        }
        "islower" => {
            let other = |c: char| c.is_uppercase() || is_title(c);
            Value::from(text.chars().any(char::is_lowercase) && !text.chars().any(other))
        }
        "isupper" => {
            let other = |c: char| c.is_lowercase() || is_title(c);
            Value::from(text.chars().any(char::is_uppercase) && !text.chars().any(other))
        }
        "istitle" => {
            let (mut inside, mut any) = (false, false);
            let mut fits = true;
            for c in text.chars() {
                fits &= match is_cased(c) {
                    true => c.is_lowercase() == inside,
                    false => true,
                };
                inside = is_cased(c);
                any |= inside;
            }
            Value::from(fits && any)
        }
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_space)),
        "isascii" => Value::from(text.is_ascii()),
        "isalpha" => all(&ALPHA),
        "isalnum" => all(&ALNUM),
        "isdecimal" => all(&DECIMAL),
        "isdigit" => all(&DIGIT),
        "isnumeric" => all(&NUMERIC),
        _ => return None,
    })
}

/// The words between white space; beyond `most` splits the rest stays whole, but for its outer end.
fn words(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    if from_right {
        loop {
            rest = rest.trim_end_matches(is_space);
            if rest.is_empty() {
                break;
            }
            let last = rest.char_indices().rev().find(|(_, c)| is_space(*c));
            let start = last.map_or(0, |(at, c)| at + c.len_utf8());
            if words.len() == most {
                words.push(rest);
                break;
            }
            words.push(&rest[start..]);
            rest = &rest[..start];
        }
        words.reverse();
        return words;
    }
    loop {
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() {
            return words;
        }
        if words.len() == most {
            words.push(rest);
            return words;
        }
        let (word, after) = rest.split_at(rest.find(is_space).unwrap_or(rest.len()));
        words.push(word);
        rest = after;
    }
}

/// The lines of a text, with their ends if `keep`.
fn lines(text: &str, keep: bool) -> Vec<&str> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let end = rest[at..].chars().next().map_or(1, char::len_utf8);
        let end = at + if rest[at..].starts_with("\r\n") { 2 } else { end };
        lines.push(&rest[..if keep { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// Where one text is in another, in characters.
fn search(text: &str, call: &Call<'_>) -> Result<Value> {
    let length = text.chars().count();
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    let part = call.range(1, length)?.map(|(start, end)| (start, &text[byte(start)..byte(end)]));
    if let "startswith" | "endswith" = call.method {
        let fits = |affix: &str| match (part, call.method) {
            (Some((_, part)), "startswith") => part.starts_with(affix),
            (Some((_, part)), _) => part.ends_with(affix),
            (None, _) => false,
        };
        let given = call.get(0, "").ok_or_else(|| call.error("lacks argument 1"))?;
        // A list is an error in Python.
        if given.downcast_object_ref::<Tuple>().is_none() {
            return Ok(Value::from(fits(&call.text_of(&given)?)));
        }
        for affix in given.try_iter()? {
            if fits(&call.text_of(&affix)?) {
                return Ok(Value::from(true));
            }
        }
        return Ok(Value::from(false));
    }
    let wanted = call.text(0)?;
    let wanted = wanted.as_str();
    if call.method == "count" {
        return Ok(Value::from(part.map_or(0, |(_, part)| part.matches(wanted).count())));
    }
    let found = part.and_then(|(start, part)| {
        let at = match call.method {
            "find" | "index" => part.find(wanted)?,
            _ => part.rfind(wanted)?,
        };
        Some(start + part[..at].chars().count())
    });
    match found {
        Some(at) => Ok(Value::from(at)),
        None if call.method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(call.error("the text is not in it")),
    }
}

/// A text with characters added up to a width.
fn padded(state: &State<'_, '_>, text: &str, call: &Call<'_>) -> Result<Value> {
    if call.method == "expandtabs" {
        call.takes(1, &["tabsize"])?;
        let size = usize::try_from(call.number_or(0, "tabsize", 8)?).unwrap_or(0);
        let (mut wide, mut column) = (String::new(), 0);
        for c in text.chars() {
            match c {
                '\t' if size == 0 => {}
                '\t' => {
                    let count = size - column % size;
                    charge(state, count)?;
                    wide.extend(std::iter::repeat_n(' ', count));
                    column = 0;
                }
                c => {
                    wide.push(c);
                    column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                }
            }
        }
        return Ok(Value::from(wide));
    }
    call.takes(if call.method == "zfill" { 1 } else { 2 }, &[])?;
    let width = call.get(0, "").ok_or_else(|| call.error("lacks argument 1"))?;
    let width = usize::try_from(call.number_of(&width)?).unwrap_or(0);
    let count = width.saturating_sub(text.chars().count());
    if call.method == "zfill" {
        charge(state, count)?;
        let sign = usize::from(text.starts_with(['+', '-']));
        let (sign, digits) = text.split_at(sign);
        return Ok(Value::from(format!("{sign}{}{digits}", "0".repeat(count))));
    }
    let fill = call.text_or_none(1, "")?.unwrap_or_else(|| " ".to_owned());
    if fill.chars().count() != 1 {
        return Err(call.error("fills with one character"));
    }
    charge(state, count.saturating_mul(fill.len()))?;
    let left = match call.method {
        "ljust" => 0,
        "rjust" => count,
        // Of an odd number, the further one stands left where the width is odd.
        _ => count / 2 + (count & width & 1),
    };
    Ok(Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(count - left))))
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use crate::text::jinja::Compiled;

    fn render(expression: &str) -> Result<String, String> {
        let template = Compiled::new(&format!("{{{{ {expression} }}}}"))?;
        Ok(template.render(context! {}, 0)?.0)
    }

    /// The results are those of Jinja in Python.
    #[test]
    fn methods_are_those_of_python() {
        for (expression, wanted) in [
            ("'unfit'.removeprefix('un')", "fit"),
            ("'unfit'.removeprefix('fit')", "unfit"),
            ("'unfit'.removesuffix('fit')", "un"),
            ("'unfit'.removesuffix('')", "unfit"),
            ("'-4'.zfill(4)", "-004"),
            ("'+'.zfill(3)", "+00"),
            ("'abc'.zfill(2)", "abc"),
            ("'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"),
            ("'a,b,c'.split(',', 1)", "['a', 'b,c']"),
            ("'a,b,c'.split(sep=',', maxsplit=1)", "['a', 'b,c']"),
            ("' a  b  c '.split(none, 1)", "['a', 'b  c ']"),
            ("' a  b  c '.rsplit(none, 1)", "[' a  b', 'c']"),
            ("' a  b  c '.rsplit(maxsplit=0)", "[' a  b  c']"),
            ("' a b '.split()", "['a', 'b']"),
            ("''.split()", "[]"),
            ("''.split(',')", "['']"),
            ("'a\u{1c}b'.split()", "['a', 'b']"),
            ("'a-b-c'.partition('-')", "('a', '-', 'b-c')"),
            ("'a-b-c'.rpartition('-')", "('a-b', '-', 'c')"),
            ("'abc'.partition('-')", "('abc', '', '')"),
            ("'abc'.rpartition('-')", "('', '', 'abc')"),
            ("'banana'.find('an', 2)", "3"),
            ("'banana'.find('an', 2, 4)", "-1"),
            ("'banana'.find('', 6)", "6"),
            ("'banana'.find('', 7)", "-1"),
            ("'banana'.rfind('an')", "3"),
            ("'banana'.index('n')", "2"),
            ("'banana'.rindex('a', 0, -1)", "3"),
            ("'straße'.find('e')", "5"),
            ("'banana'.count('an')", "2"),
            ("'banana'.count('')", "7"),
            ("'banana'.count('a', -3)", "2"),
            ("'banana'.startswith(('x', 'ba'))", "True"),
            ("'banana'.startswith('an', 1)", "True"),
            ("'banana'.startswith('', 7)", "False"),
            ("'banana'.endswith('an', 0, 5)", "True"),
            ("'banana'.endswith(('x',))", "False"),
            ("'ab'.ljust(5, '.')", "ab..."),
            ("'ab'.rjust(5)", "   ab"),
            ("'ab'.center(5, '*')", "**ab*"),
            ("'abc'.center(6, '*')", "*abc**"),
            ("'abc'.center(2)", "abc"),
            ("'Straße ẞ İı'.casefold()", "strasse ss i\u{307}ı"),
            ("'ΑΣ Σα'.lower()", "ας σα"),
            ("'ΑΣ'.capitalize()", "Ας"),
            ("'ǆ ßa ﬁn'.title()", "ǅ Ssa Fin"),
            ("\"they're BILL's x2y\".title()", "They'Re Bill'S X2Y"),
            ("'ΌΣΟΣ ΌΣ'.title()", "Όσος Ός"),
            ("'ßA'.capitalize()", "Ssa"),
            ("'Hi ß ΌΣ'.swapcase()", "hI SS ός"),
            ("'a1'.isalnum()", "True"),
            ("''.isalnum()", "False"),
            ("'a b'.isalnum()", "False"),
            ("'हिन्दी'.isalpha()", "False"),
            ("'日本'.isalpha()", "True"),
            ("'½'.isdigit()", "False"),
            ("'²'.isdigit()", "True"),
            ("'²'.isdecimal()", "False"),
            ("'½'.isnumeric()", "True"),
            ("'一'.isnumeric()", "True"),
            ("'12'.isdecimal()", "True"),
            ("'a1'.islower()", "True"),
            ("'1'.islower()", "False"),
            ("'aǅ'.islower()", "False"),
            ("'A1'.isupper()", "True"),
            ("'Aa Bb'.istitle()", "True"),
            ("'AA'.istitle()", "False"),
            ("'\u{1f} \u{2003}'.isspace()", "True"),
            ("''.isspace()", "False"),
            ("'é'.isascii()", "False"),
            ("'a\\r\\nb\\rc\u{b}d\u{2028}\\n'.splitlines()", "['a', 'b', 'c', 'd', '']"),
            ("'a\\r\\nb\\n'.splitlines(true)", "['a\\r\\n', 'b\\n']"),
            ("''.splitlines()", "[]"),
            ("'a\\tb\\nabc\\td'.expandtabs()", "a       b\nabc     d"),
            ("'a\\tb'.expandtabs(3)", "a  b"),
            ("'a\\tb'.expandtabs(0)", "ab"),
            ("', '.join(['a', 'b'])", "a, b"),
            ("'-'.join('abc')", "a-b-c"),
            ("'-'.join([])", ""),
            ("','.join(nothing)", ""),
            ("'\u{1c} a \\n'.strip()", "a"),
            ("'xxaxy'.strip('xy')", "a"),
            ("'xxaxy'.lstrip('x')", "axy"),
            ("'xxaxy'.rstrip('xy')", "xxa"),
            ("'abc'.replace('', '-')", "-a-b-c-"),
            ("'aaa'.replace('a', 'b', 2)", "bba"),
            ("'aaa'.replace('a', 'b', 0)", "aaa"),
            ("'{} {1}'.replace('{', '<')", "<} <1}"),
            ("'{0}-{name}'.format('a', name='b')", "a-b"),
            ("[1, 2, 1].count(1)", "2"),
            ("[1, 2, 1].index(1, 1)", "2"),
            ("['a', 'b'].index('b')", "1"),
            ("(1, 2).index(2)", "1"),
            ("{'a': 1}.get('a')", "1"),
            ("{'a': 1}.get('b')", "None"),
            ("{'a': 1}.get('b', 2)", "2"),
            ("{'a': 1, 'b': 2}.items() | list", "[('a', 1), ('b', 2)]"),
            ("{'a': 1, 'b': 2}.keys() | list", "['a', 'b']"),
            ("{'a': 1, 'b': 2}.values() | list", "[1, 2]"),
            ("{'a': 1}.copy()", "{'a': 1}"),
            ("[1].copy()", "[1]"),
        ] {
            assert_eq!(render(expression).as_deref(), Ok(wanted), "{expression}");
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for expression in [
            "'abc'.index('x')",
            "'abc'.rindex('x', 1)",
            "'abc'.split('')",
            "'abc'.rsplit('')",
            "'abc'.partition('')",
            "'abc'.startswith(['a'])",
            "'abc'.startswith(('a', 1)[1:])",
            "'abc'.center(9, 'xy')",
            "'abc'.zfill('5')",
            "'abc'.zfill()",
            "'abc'.ljust(5, '.', 1)",
            "'abc'.removeprefix(1)",
            "','.join([1])",
            "'abc'.strip(1)",
            "'abc'.split(1)",
            "'abc'.split(',', 'a')",
            "'abc'.split(separator=',')",
            "'abc'.upper('x')",
            "'abc'.count()",
            "[1].index(2)",
            "[1, 2].index(1, 1)",
            "[1].append(2)",
            "[1].pop()",
            "{'a': 1}.update({'b': 2})",
            "'abc'.nosuch()",
            "'abc'.encode()",
            "'abc'.translate({})",
        ] {
            let method = expression.rsplit_once('(').map_or("", |(before, _)| before);
            let method = method.split('.').next_back().unwrap_or_default();
            let method = method.split('(').next().unwrap_or_default();
            let error = render(expression).expect_err(expression);
            assert!(error.contains(method), "{expression}: {error}");
        }
    }

    /// What would take too much memory is refused before it is made.
    #[test]
    fn wide_texts_are_charged() {
        for expression in [
            "'a'.zfill(10 ** 12)",
            "'a'.center(10 ** 12)",
            "'\\t'.expandtabs(10 ** 12)",
            "('a' * 99999).join(range(99999) | map('string'))",
            "'aaaa'.replace('a', 'b' * 9999999)",
        ] {
            let error = render(expression).expect_err(expression);
            assert!(error.contains("does it loop?"), "{expression}: {error}");
        }
    }
}
