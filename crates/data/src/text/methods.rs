//! Python's methods of texts, lists and tables, with Python's results and errors.

mod call;
mod characters;
mod text;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use call::{Call, charge};

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
        (ValueKind::String, Some(text)) => text::of_text(state, text, &Call::new(method, args)?),
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
