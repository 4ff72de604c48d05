//! Chat templates as `transformers` renders them, with bounds on what they may do.
//!
//! A template comes with a model and is nobody's to trust. It sees the conversation and the names
//! of special tokens; it cannot load anything; steps, length and depth are limited. What the engine
//! does not charge for (turning a list into text that holds one list many times over) is ended by
//! [`watch`](super::watch).

use std::io;
use std::sync::Arc;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::python;

/// The longest template, in bytes; those of large tool-using models have some ten thousand.
const LONGEST_TEMPLATE: usize = 128 << 10;
/// The most words and signs in one tag. The engine bounds how deep brackets and blocks nest, but goes
/// down once more for each sign of `- - - 1` and each term of `a + b + c`, and looks at all of those
/// before it again.
const LONGEST_TAG: usize = 1000;
/// The most branches `elif` of a template, for each of which it goes down too.
const MOST_BRANCHES: usize = 1000;
/// The stack on which a template is taken apart, for what these bounds allow.
const STACK: usize = 32 << 20;
/// Steps of one rendering; ordinary conversations take a few thousand.
const FUEL: u64 = 1_000_000;
/// What one rendering may write beside the conversation, in bytes. Taking a text apart takes some hundred
/// times its length in memory.
const BESIDE: usize = 64 << 10;
/// How often one rendering may write the whole conversation.
const TIMES: usize = 8;
/// How deep a template may nest what it does.
const DEPTH: usize = 200;

/// A compiled template.
#[derive(Clone, Debug)]
pub(super) struct Compiled(Arc<Environment<'static>>);

impl Compiled {
    /// # Errors
    /// Says what is wrong with the template, and on which line.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        if source.len() > LONGEST_TEMPLATE {
            return Err(format!("is longer than {LONGEST_TEMPLATE} bytes"));
        }
        std::thread::scope(|scope| {
            let compiling = std::thread::Builder::new().stack_size(STACK);
            let compiling = compiling.spawn_scoped(scope, || Self::compile(source));
            let compiled = compiling.map_err(|error| error.to_string())?.join();
            compiled.unwrap_or_else(|_| Err("cannot be taken apart".to_owned()))
        })
    }

    fn compile(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| said(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", python::tojson);
        environment.add_function("strftime_now", python::strftime_now);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let source = without_generation(source);
        let syntax = environment.syntax().clone();
        chains(&source, syntax)?;
        environment.add_template_owned("chat", source).map_err(|error| said(&error))?;
        Ok(Self(Arc::new(environment)))
    }

    /// The text that the template makes of `context`, which holds a conversation of `given` bytes.
    ///
    /// # Errors
    /// Says what the template said, or which bound it met.
    pub(super) fn render(&self, context: Value, given: usize) -> Result<String, String> {
        let mut text = Bounded { text: Vec::new(), most: BESIDE + given.saturating_mul(TIMES) };
        let template = self.0.get_template("chat").map_err(|error| said(&error))?;
        template.render_captured_to(context, &mut text).map_err(|error| said(&error))?;
        String::from_utf8(text.text).map_err(|error| error.to_string())
    }
}

/// Refuses what is too long to be taken apart; what is no template is left to the engine.
fn chains(source: &str, syntax: SyntaxConfig) -> Result<(), String> {
    let (mut tag, mut branches, mut opened) = (0, 0, false);
    for (token, span) in tokenize(source, false, syntax).map_while(Result::ok) {
        branches += usize::from(opened && matches!(token, Token::Ident("elif")));
        opened = matches!(token, Token::BlockStart);
        tag = match token {
            Token::BlockStart | Token::VariableStart | Token::TemplateData(_) => 0,
            _ => tag + 1,
        };
        if tag > LONGEST_TAG {
            return Err(format!(
                "has a tag of more than {LONGEST_TAG} words and signs (line {})",
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

/// `{% generation %}` marks what a model writes, for masks that are not made this way here.
fn without_generation(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut left = source;
    while let Some(start) = left.find("{%") {
        let (before, tag) = left.split_at(start);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        text.push_str(before);
        let (tag, after) = tag.split_at(end);
        let inside = tag.trim_start_matches("{%").trim_end_matches("%}");
        match inside.trim_matches(|c: char| "-+".contains(c) || c.is_whitespace()) {
            "generation" => text.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endif")),
            _ => text.push_str(tag),
        }
        left = after;
    }
    text.push_str(left);
    text
}

/// What happened, and on which line.
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

/// Takes so much text and no more.
struct Bounded {
    text: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let turn = context! { role => "user", content => "Straße <b>" };
        Compiled::new(source)?.render(context! { messages => vec![turn] }, 12)
    }

    #[test]
    fn python_is_spoken() {
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
        ] {
            assert_eq!(render(source).as_deref(), Ok(wanted), "{source}");
        }
    }

    #[test]
    fn a_template_may_refuse() {
        let error =
            render("a\n{{ raise_exception('roles must alternate') }}").expect_err("said no");
        assert_eq!(error, "roles must alternate (line 2)");
        assert!(render("{% include 'x' %}").is_err() && render("{% if %}").is_err());
        assert!(render("{{ messages | nosuch }}").expect_err("no such").contains("nosuch"));
    }

    #[test]
    fn bounds_are_met_quickly() {
        let start = std::time::Instant::now();
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
                // As long as may be, and as long as a file may be: each comes to an end.
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
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
