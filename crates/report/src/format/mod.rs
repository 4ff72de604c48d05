//! Reports in formats for other programs: Markdown, LaTeX, CSV and HTML.

mod html;
mod latex;
mod markdown;
mod tidy;

pub use html::page;
pub use latex::latex;
pub use markdown::markdown;
pub use tidy::tidy;

/// What stands in place of an answer that is withheld.
const WITHHELD: &str = "[withheld: `--with-answers` shows it]";

/// What stands in place of an empty answer.
const NOTHING: &str = "(nothing)";

/// An answer as it is shown, before it is escaped.
fn shown(answer: Option<&str>) -> &str {
    match answer {
        None => WITHHELD,
        Some("") => NOTHING,
        Some(answer) => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Part;
    use crate::samples::{Asked, Said};
    use crate::text_table::{Cell, TextTable, Tone};

    /// A report whose every foreign text tries to be more than text.
    fn hostile() -> Vec<Part> {
        const EVIL: &str = "<script>x</script>|`$\\input{a}$ [b](http://c.d) & 50 %";
        let mut table = TextTable::new(["method".to_owned(), EVIL.to_owned()]);
        table.row([Cell::from(EVIL.to_owned()), Cell::new("-78.3", Tone::Better)]);
        let said = |answer: Option<&str>| Said {
            row: EVIL.into(),
            when: "after",
            answer: answer.map(str::to_owned),
        };
        let answers = vec![said(Some(EVIL)), said(None), said(Some(""))];
        let asked = Asked { prompt: Some(EVIL.into()), about: "forbidden".into(), said: answers };
        vec![
            Part::Paragraph(format!("The result. {EVIL}")),
            Part::Section("Figures".into()),
            Part::Heading("Answers".into()),
            Part::Table(table),
            Part::Answers(vec![asked]),
            Part::List(vec![EVIL.into()]),
            Part::Facts(vec![("name".into(), EVIL.into())]),
            Part::Folded { title: EVIL.into(), text: EVIL.into() },
            Part::Closing(EVIL.into()),
        ]
    }

    #[test]
    fn answers_stay_text_in_every_format() {
        let parts = hostile();
        let html = page(EVIL_TITLE, &parts);
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;x&lt;/script&gt;"), "{html}");
        let markdown = markdown(&parts);
        let outside: String = without_fences(&markdown).replace("\\]", "");
        assert!(!outside.contains("<script") && !outside.contains("](http"), "{markdown}");
        let latex = latex(&parts);
        assert!(!latex.contains("\\input{") && !latex.contains("50 % "), "{latex}");
        assert!(latex.contains(r"\textbackslash{}input\{a\}"), "{latex}");
        for text in [&html, &markdown, &latex] {
            assert!(text.contains("(nothing)") && text.contains("withheld"), "{text}");
        }
    }

    const EVIL_TITLE: &str = "</title><script>";

    /// The text without its fenced blocks, in which nothing is markup.
    fn without_fences(markdown: &str) -> String {
        markdown.split("````").step_by(2).collect()
    }

    #[test]
    fn a_page_needs_nothing_from_outside_and_names_its_parts() {
        let html = page("an experiment", &hostile());
        for part in [
            "http-equiv=\"Content-Security-Policy\"",
            "default-src 'none'",
            "<main",
            "lang=\"en\"",
            "href=\"#figures\"",
            "id=\"figures\"",
            "prefers-color-scheme: dark",
            "@media print",
        ] {
            assert!(html.contains(part), "no `{part}`");
        }
        // An empty icon keeps browsers from asking for one.
        let html = html.replace("<link rel=\"icon\" href=\"data:,\">", "");
        for part in ["src=", "@import", "url(", "<link"] {
            assert!(!html.contains(part), "`{part}` in the page");
        }
    }

    #[test]
    fn tables_keep_their_shape() {
        let parts = hostile();
        let row = |text: &str| text.lines().find(|line| line.starts_with('|')).map(columns);
        assert_eq!(row(&markdown(&parts)), Some(2));
        let latex = latex(&parts);
        for part in [r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lr}"] {
            assert!(latex.contains(part), "no {part} in {latex}");
        }
    }

    /// The number of cells of a line of a table: unescaped bars less one.
    fn columns(line: &str) -> usize {
        line.replace("\\|", "").matches('|').count() - 1
    }
}
