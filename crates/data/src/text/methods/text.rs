//! Python's methods of texts.

use std::sync::LazyLock;

use minijinja::value::Tuple;
use minijinja::{State, Value};
use regex::Regex;

use super::call::{Call, charge};
use super::characters::{
    ALNUM, ALPHA, DECIMAL, DIGIT, NUMERIC, folded, is_cased, is_space, is_title, lowered, titled,
};
use super::{Result, unknown};

/// Calls a method of a text.
pub(super) fn of_text(state: &State<'_, '_>, text: &str, call: &Call<'_>) -> Result<Value> {
    match call.method {
        "count" | "find" | "index" | "rfind" | "rindex" | "startswith" | "endswith" => {
            call.takes(3, &[])?;
            search(text, call)
        }
        "split" | "rsplit" => split(text, call),
        "splitlines" => {
            call.takes(1, &["keepends"])?;
            let keep = call.get(0, "keepends").is_some_and(|keep| keep.is_true());
            Ok(lines(text, keep).into_iter().map(Value::from).collect())
        }
        "partition" | "rpartition" => partition(text, call),
        "join" => join(state, text, call),
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

/// The parts of a text between a separator, or between white space.
fn split(text: &str, call: &Call<'_>) -> Result<Value> {
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

/// A text before, at and after a separator.
fn partition(text: &str, call: &Call<'_>) -> Result<Value> {
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

/// The items of a list with `between` between them.
fn join(state: &State<'_, '_>, between: &str, call: &Call<'_>) -> Result<Value> {
    call.takes(1, &[])?;
    let lacks = || call.error("lacks argument 1");
    let mut joined = String::new();
    for (at, item) in call.get(0, "").ok_or_else(lacks)?.try_iter()?.enumerate() {
        if at > 0 {
            charge(state, between.len())?;
            joined.push_str(between);
        }
        let item = call.text_of(&item)?;
        charge(state, item.len())?;
        joined.push_str(&item);
    }
    Ok(Value::from(joined))
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
