//! Renders chat templates as `transformers` does, with limits for untrusted templates.
//!
//! A template comes with a model and is not trusted. It sees the conversation and the names of
//! special tokens, and it cannot load anything. Steps, length and depth are limited. [`charge`]
//! charges for what the engine does not.
//!
//! [`charge`]: super::charge

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::machinery::{
    CodeGenerator, Instructions, Token, eval, make_string_output, parse, tokenize,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, Value};

use vxf_untrusted::caught;

use super::marks::{MARKED, MARKS, with_marks, without_marks};
use super::{charge, methods, python};

/// The longest template in bytes; those of large tool-using models have about ten thousand.
const LONGEST_TEMPLATE: usize = 128 << 10;
/// The most tokens in one tag. The engine limits the nesting of brackets and blocks. But its parser
/// recurses for each sign of `- - - 1` and each term of `a + b + c`, in quadratic time.
const LONGEST_TAG: usize = 1000;
/// The most `elif` branches of a template, for which the parser recurses too.
const MOST_BRANCHES: usize = 1000;
/// The stack size of the parser, enough for these limits.
const STACK: usize = 32 << 20;
/// Steps of one rendering, plus one for each byte of the conversation; ordinary templates take a few
/// thousand.
const FUEL: u64 = 1_000_000;
/// Bytes that one rendering may write in addition to conversations. Tokenising a text takes about a
/// hundred times its length in memory.
const BESIDE: usize = 64 << 10;
/// How often one rendering may write the whole conversation, including captures in blocks and macros.
const TIMES: usize = 16;
/// The template's name in the engine.
const NAME: &str = "chat";
/// The maximum recursion depth of a template.
const DEPTH: usize = 200;

/// Functions that every template can call.
const GLOBALS: [&str; 8] =
    ["caller", "debug", "dict", "loop", "namespace", "raise_exception", "range", "strftime_now"];

/// A compiled template.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    environment: Environment<'static>,
    program: Arc<Program>,
}

self_cell::self_cell!(
    /// The source of a template and the instructions that point into it.
    struct Program {
        owner: String,
        #[covariant]
        dependent: Code,
    }
);

struct Code<'a> {
    instructions: Instructions<'a>,
    blocks: BTreeMap<&'a str, Instructions<'a>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(self.borrow_owner()).finish()
    }
}

impl Compiled {
    /// # Errors
    /// Says what is wrong with the template, with the line.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        if source.len() > LONGEST_TEMPLATE {
            return Err(format!("is longer than {LONGEST_TEMPLATE} bytes"));
        }
        std::thread::scope(|scope| {
            let compiling = std::thread::Builder::new().stack_size(STACK);
            let compiling = compiling.spawn_scoped(scope, || caught(|| Self::compile(source)));
            let compiled = compiling.map_err(|error| error.to_string())?.join();
            // The engine counts columns in 16 bits, which may overflow in an error.
            let compiled = compiled.ok().flatten();
            compiled.unwrap_or_else(|| Err("cannot be parsed".to_owned()))
        })
    }

    fn compile(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| said(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(DEPTH);
        environment.set_unknown_method_callback(methods::call);
        environment.add_filter("tojson", python::tojson);
        // As Python has them: `none` cannot be walked, texts and tables have an order, and what is not
        // defined is empty.
        environment
            .add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_test("sequence", |value: &Value| {
            let kinds = [ValueKind::Seq, ValueKind::String, ValueKind::Map, ValueKind::Undefined];
            kinds.contains(&value.kind())
        });
        environment.add_function(charge::FUNCTION, charge::charge);
        environment.add_function(charge::SHOWN, |value: &Value| match value.kind() {
            ValueKind::Number => Value::from(python::text(value)),
            _ => value.clone(),
        });
        for name in charge::ESCAPES {
            environment.add_filter(name, python::escape);
        }
        environment.add_filter(charge::ESCAPED_WITHIN, |_: &Value| -> Result<Value, Error> {
            let problem = "the filter `escape` is only supported as the last one in `{{ … }}`, whose \
                           text is written at once";
            Err(Error::new(ErrorKind::InvalidOperation, problem))
        });
        environment.add_function("strftime_now", python::strftime_now);
        let [open, close] = MARKS;
        environment.add_filter(MARKED, move |text: &str| format!("{open}{text}{close}"));
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        // Jinja reads every line break as a line feed.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let source = with_marks(&source);
        let syntax = environment.syntax().clone();
        chains(&source, syntax)?;
        let program = Program::try_new(source, |source| {
            let syntax = environment.syntax().clone();
            let tree =
                charge::template(&parse(source, NAME, syntax).map_err(|error| said(&error))?);
            let mut generator = CodeGenerator::new(NAME, source);
            generator.compile_stmt(&tree);
            let (instructions, blocks) = generator.finish();
            Ok::<_, String>(Code { instructions, blocks })
        })?;
        Ok(Self { environment, program: Arc::new(program) })
    }

    /// The variables that the template reads and that none of `known` supplies, sorted.
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<String> {
        let source = self.program.borrow_owner();
        let Ok(template) = self.environment.template_from_str(source) else { return Vec::new() };
        let read = template.undeclared_variables(false);
        let mut unknown: Vec<_> = read
            .into_iter()
            .filter(|name| !known.contains(&name.as_str()) && !GLOBALS.contains(&name.as_str()))
            .collect();
        unknown.sort_unstable();
        unknown
    }

    /// Renders the template with `context`, which has a conversation of `given` bytes; also returns the
    /// places of the answers in bytes, where the template marks them with `{% generation %}`.
    ///
    /// # Errors
    /// The error of the template, or the limit that it exceeds.
    pub(super) fn render(
        &self,
        context: Value,
        given: usize,
    ) -> Result<(String, Vec<Range<usize>>), String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + given as u64));
        let (most, written) = (BESIDE + given.saturating_mul(TIMES), AtomicUsize::new(0));
        environment.set_formatter(move |out, _, value| write(out, value, most, &written));
        let Code { instructions, blocks } = self.program.borrow_dependent();
        let (mut text, none) = (String::new(), AutoEscape::None);
        let mut output = make_string_output(&mut text);
        eval(&environment, instructions, context, blocks, &mut output, none)
            .map_err(|error| said(&error))?;
        without_marks(&text)
    }
}

/// Writes `value`, unless `written` would exceed `most` bytes.
fn write(
    out: &mut Output<'_>,
    value: &Value,
    most: usize,
    written: &AtomicUsize,
) -> Result<(), Error> {
    let mut put = |text: &str| {
        let before = written.fetch_add(text.len(), Ordering::Relaxed);
        match before.saturating_add(text.len()) > most {
            true => Err(Error::from(ErrorKind::WriteFailure)),
            false => Ok(out.write_str(text)?),
        }
    };
    match value.as_str() {
        Some(text) => put(text),
        None => put(&python::text(value)),
    }
}

/// Rejects templates that are too long for the parser. Syntax errors are left to the engine.
fn chains(source: &str, syntax: SyntaxConfig) -> Result<(), String> {
    let (mut tag, mut branches, mut opened) = (0, 0, false);
    for (token, span) in tokenize(source, false, syntax).map_while(Result::ok) {
        branches += usize::from(opened && matches!(token, Token::Ident("elif")));
        if opened && matches!(token, Token::Ident("autoescape")) {
            return Err(format!(
                "has `{{% autoescape %}}` (line {}), which is not supported; use the filter `e`",
                span.start_line
            ));
        }
        opened = matches!(token, Token::BlockStart);
        tag = match token {
            Token::BlockStart | Token::VariableStart | Token::TemplateData(_) => 0,
            _ => tag + 1,
        };
        if tag > LONGEST_TAG {
            return Err(format!(
                "has a tag of more than {LONGEST_TAG} tokens (line {})",
                span.start_line
            ));
        }
        if branches > MOST_BRANCHES {
            return Err(format!(
                "has more than {MOST_BRANCHES} branches (line {})",
                span.start_line
            ));
        }
    }
    Ok(())
}

/// The error of a template, with its line.
fn said(error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(" (line {line})"));
    match error.kind() {
        ErrorKind::OutOfFuel => format!("takes more than {FUEL} steps{line}; does it loop?"),
        ErrorKind::WriteFailure => {
            format!("writes more than {TIMES} conversations and {BESIDE} bytes{line}")
        }
        kind => format!("{}{line}", error.detail().map_or(kind.to_string(), str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let turn = context! { role => "user", content => "Straße <b>" };
        Ok(Compiled::new(source)?.render(context! { messages => vec![turn] }, 12)?.0)
    }

    #[test]
    fn pythons_methods_and_filters_work() {
        for (source, wanted) in [
            ("{{ messages[0]['content'].strip().upper() }}", "STRASSE <B>"),
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "Straße <b>"}"#),
            (
                "{{ messages | tojson(indent=1, ensure_ascii=true) }}",
                "[\n {\n  \"role\": \"user\",\n  \"content\": \"Stra\\u00dfe <b>\"\n }\n]",
            ),
            ("{{ [1, {}] | tojson(separators=(',', ':')) }}", "[1,{}]"),
            ("{{ {'b': none, 'a': 1.5} | tojson(sort_keys=true) }}", r#"{"a": 1.5, "b": null}"#),
            ("{{ none }}{{ true }}{{ nothing }}", "NoneTrue"),
            ("  {% if true %}\nyes\n  {% endif %}\nend\n", "yes\nend"),
            ("a{%- generation -%} b {%- endgeneration %}\nc", "abc"),
            ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
            ("{% for m in messages %}{% break %}{% endfor %}ok", "ok"),
            ("{% if true %}\r\na\r\nb\rc{% endif %}", "a\nb\nc"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(wanted), "{source}");
        }
    }

    #[test]
    fn a_template_can_raise_an_error() {
        let error =
            render("a\n{{ raise_exception('roles must alternate') }}").expect_err("said no");
        assert_eq!(error, "roles must alternate (line 2)");
        assert!(render("{% include 'x' %}").is_err() && render("{% if %}").is_err());
        assert!(render("{{ messages | nosuch }}").expect_err("no such").contains("nosuch"));
    }

    #[test]
    fn templates_have_limits() {
        let nested =
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        let deep = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
        let long = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
        let double = "{% set ns = namespace(x='ab') %}{% for a in range(99) %}\
                      {% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}";
        let json = "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}\
                    {% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}";
        for (source, problem) in [
            (nested, "does it loop?"),
            (deep, "recursion"),
            (long, "more than"),
            (double, "does it loop?"),
            (json, ""),
            ("{{ 'x' * 999999999999 }}", ""),
            ("{{ range(999999999) | list }}", "too many"),
            ("{{ 'x'.replace('', 'y' * 9999999) }}", ""),
            ("{{ [[[1]]] | tojson(indent=99999) }}", "indent"),
        ] {
            let error = render(source).expect_err(source);
            assert!(error.contains(problem), "{source}: {error}");
        }
        let links = ["-", "not ", "|e", "+x", "~x", " and x", ".x", "[0]", "(", " if x else "];
        for link in links {
            for around in ["{{ @x }}", "{{ x@ }}", "{% if x@ %}{% endif %}", "{{ x@"] {
                let chain = |length: usize| around.replace('@', &link.repeat(length));
                // At the limit of a tag and at the limit of a file; both must terminate.
                let _ = Compiled::new(&chain(LONGEST_TAG / 4));
                let long = chain((LONGEST_TEMPLATE - around.len()) / link.len());
                assert!(Compiled::new(&long).is_err(), "{link} {around}");
            }
        }
        let branches = |count| format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(count));
        assert!(Compiled::new(&branches(MOST_BRANCHES)).is_ok());
        let error = Compiled::new(&branches(MOST_BRANCHES + 1)).expect_err("too many");
        assert!(error.contains("more than 1000 branches (line 1)"), "{error}");
        let brackets = format!("{{{{ {}1{} }}}}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(render(&brackets).is_err());
        assert!(Compiled::new(&" ".repeat(LONGEST_TEMPLATE + 1)).is_err());
    }

    /// Lists that contain one list many times are small in memory, but large when printed or compared.
    #[test]
    fn shared_lists_are_charged() {
        let grow = |how: &str, then: &str| {
            format!(
                "{{% set ns = namespace(x=[1], y=[1]) %}}{{% for a in range(60) %}}{{% set ns.x = {how} \
                 %}}{{% set ns.y = {how} %}}{{% endfor %}}{then}"
            )
        };
        let ways = [
            "[ns.x, ns.x]",
            "(ns.x, ns.x)",
            "{'a': ns.x, 'b': ns.x}",
            "dict(a=ns.x, b=ns.x)",
            "namespace(a=ns.x, b=ns.x)",
            "[ns.x] * 2",
            "[ns.x] + [ns.x]",
            "[ns.x, ns.x] | batch(1) | list",
        ];
        for how in ways {
            for then in ["", "{{ ns.x }}", "{{ ns.x ~ '' }}", "{{ ns.x == ns.y }}"] {
                let error = render(&grow(how, then)).expect_err(how);
                assert!(error.contains("does it loop?"), "{how} {then}: {error}");
            }
        }
        // A chain of assignments grows without a loop.
        let chain: String =
            (0..40).map(|n| format!("{{% set x{} = [x{n}, x{n}] %}}", n + 1)).collect();
        assert!(render(&format!("{{% set x0 = [1] %}}{chain}")).is_err());
        // Large values within the limit are charged each time the whole value is used.
        let uses = [
            "x == y",
            "x != y",
            "x < y",
            "x in [y]",
            "x ~ ''",
            "{x: 1}",
            "{}[x]",
            "x is eq y",
            "x | upper",
            "x | join",
            "x | unique",
            "x | sort",
            "'a'.startswith(x)",
            "x.index(y)",
            "1 < x < y",
        ];
        for used in uses {
            let template = format!(
                "{{% set x = range(9999) | list %}}{{% set y = range(9999) | list %}}\
                 {{% for a in range(99999) %}}{{% if {used} %}}{{% endif %}}{{% endfor %}}"
            );
            assert!(render(&template).is_err(), "{used}");
        }
    }

    #[test]
    fn the_nesting_of_values_is_limited() {
        for (assignment, then) in [
            ("ns.x = [ns.x]", ""),
            ("ns.x = {'a': ns.x}", ""),
            ("ns.x = namespace(x=ns.x)", ""),
            ("ns.x = ns.x | batch(1) | list", ""),
            ("ns.x = ns", "{{ ns }}"),
        ] {
            let template = format!(
                "{{% set ns = namespace(x=[1]) %}}{{% for a in range(99999) %}}{{% set {assignment} \
                 %}}{{% endfor %}}{then}"
            );
            let error = render(&template).expect_err(assignment);
            assert!(error.contains("nested more than 64 deep"), "{assignment}: {error}");
        }
    }

    /// The texts are those of Jinja 3.1 with transformers' settings.
    #[test]
    fn rare_constructs_write_what_jinja_writes() {
        for (source, wanted) in [
            ("{% set m = 1 %}{% with m = 2, n = m %}{{ m }}{{ n }}{% endwith %}{{ m }}", "211"),
            ("{% with a = [1], b = a %}{{ a[0] }}{{ b }}{% endwith %}", "1"),
            ("{% with (a, b) = (1, 2), c = 3 %}{{ a }}{{ b }}{{ c }}{% endwith %}", "123"),
            ("{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x }}", "1"),
            (
                "{{ nope is iterable }} {{ nope is sequence }} {{ none is sequence }}",
                "True True False",
            ),
            ("{{ 1e20 }} {{ 1e-5 }} {{ -1e-7 }} {{ 1e16 }}", "1e+20 1e-05 -1e-07 1e+16"),
            ("{{ 1e15 }} {{ 2.5 }} {{ 1.0 }} {{ 3 }}", "1000000000000000.0 2.5 1.0 3"),
            ("{{ 'a' ~ 1e20 ~ none ~ 1 ~ [2] ~ nope }}", "a1e+20None1[2]"),
            (
                r#"{{ "<b>'x'/\"&" | e }} {{ ["a"] | escape }} {{ none | e }}|{{ nope | e }}"#,
                "&lt;b&gt;&#39;x&#39;/&#34;&amp; [&#39;a&#39;] None|",
            ),
            ("{{ '<' | safe | e }} {{ 1e20 | e }} {{ '<' | upper | e }}", "< 1e+20 &lt;"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(wanted), "{source}");
        }
        // There, Jinja escapes the text that the result is joined with.
        for source in [
            "{{ ('<' | e) + '<' }}",
            "{{ '<' ~ ('<' | e) }}",
            "{{ '<' | e | upper }}",
            "{% set x = '<' | escape %}{{ x }}",
            "{% filter e %}<{% endfilter %}",
        ] {
            let error = render(source).expect_err(source);
            assert!(
                error.contains("the filter `escape` is only supported as"),
                "{source}: {error}"
            );
        }
        let error = render("\n{%- autoescape true %}{{ x }}{% endautoescape %}").expect_err("no");
        assert!(
            error.contains("has `{% autoescape %}` (line 2), which is not supported"),
            "{error}"
        );
    }

    /// The charges do not change the output of a template.
    #[test]
    fn charged_templates_write_the_same() {
        for (source, wanted) in [
            (
                "{% for a in [1, [2, [3]]] recursive %}{{ loop(a) if a is iterable else a }}{% endfor %}",
                "123",
            ),
            (
                "{% macro m(a, b=[1, 2]) %}{{ a }}{{ b | join('-') }}{{ caller() }}{% endmacro %}{% call m('x') %}!{% endcall %}",
                "x1-2!",
            ),
            ("{% set a, (b, c) = 1, (2, 3) %}{{ a }}{{ b }}{{ c }}", "123"),
            ("{% filter upper | replace('A', 'b') %}aé{% endfilter %}", "bÉ"),
            ("{% set x | upper %}a{% endset %}{{ x }}", "A"),
            ("{% with a = [1] %}{{ a[0] }}{% endwith %}", "1"),
            ("{{ 1 < 2 <= 2 != 3 }}{{ 2 not in [1] }}{{ 'b' in 'abc' }}", "TrueTrueTrue"),
            ("{{ 'x' if false }}{{ nothing | default('d') }}{{ messages[0].role | length }}", "d4"),
            (
                "{{ [1, 2, 3][::-1][0] }}{{ {'a': {'b': 7}}.a.b }}{{ dict(a=1).items() | list }}",
                "37[('a', 1)]",
            ),
            (
                "{% for k, v in {'a': 1}.items() if v > 0 %}{{ k }}{{ v }}{% else %}-{% endfor %}",
                "a1",
            ),
            (
                "{{ [3, 1] | sort | join(', ') }}{{ messages | map(attribute='role') | list }}",
                "1, 3['user']",
            ),
            ("{{ -2 ** 2 }}{{ not true }}{{ 7 // 2 }}{{ 7 % 4 }}", "4False33"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(wanted), "{source}");
        }
    }
}
