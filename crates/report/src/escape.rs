//! Escapes foreign text, such as a model's answers, in each format.

use vxf_untrusted::printable;

/// For HTML and SVG, in text and in quoted attributes.
pub fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // XML has no such characters.
            '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

/// For LaTeX in text mode; line breaks become spaces.
pub fn latex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '\\' => escaped += r"\textbackslash{}",
            '{' | '}' | '$' | '&' | '#' | '_' | '%' => escaped.extend(['\\', c]),
            '~' => escaped += r"\textasciitilde{}",
            '^' => escaped += r"\textasciicircum{}",
            '<' => escaped += r"\textless{}",
            '>' => escaped += r"\textgreater{}",
            '|' => escaped += r"\textbar{}",
            '"' => escaped += r"\textquotedbl{}",
            '`' => escaped += r"\textasciigrave{}",
            '↓' => escaped += r"$\downarrow$",
            '↑' => escaped += r"$\uparrow$",
            '±' => escaped += r"$\pm$",
            '\n' | '\t' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// For Markdown, in a paragraph or in a cell of a table; line breaks become `<br>`.
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '!' | '~' | '$' | '@' => {
                escaped.extend(['\\', c]);
            }
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            // `https://` and `www.` would become links.
            '/' if escaped.ends_with(":/") => escaped += "\\/",
            '.' if escaped.to_ascii_lowercase().ends_with("www") => escaped += "\\.",
            '\n' => escaped += "<br>",
            '\t' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// For a cell of CSV: quoted where needed. A text that a spreadsheet would read as a formula gets an
/// apostrophe in front; a number stays one.
pub fn csv(text: &str) -> String {
    let text = printable(text);
    let begins = text.trim_start().chars().next();
    let is_formula = begins.is_some_and(|c| "=+-@＝＋－＠".contains(c)) || text.starts_with('\t');
    let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
    let text = if is_formula && !is_number { format!("'{text}") } else { text };
    match text.contains(['"', ',', ';', '\n', '\r', '\t']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// One line of CSV.
pub fn csv_line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    cells.into_iter().map(csv).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_has_no_tag_and_no_attribute_of_an_answer() {
        let answer = "<script>alert('1')</script> \" onload=\"x & y";
        let escaped = html(answer);
        assert!(!escaped.contains(['<', '>', '"', '\'']), "{escaped}");
        assert_eq!(html("a & b"), "a &amp; b");
        assert_eq!(html("\u{1b}[2J\u{202e}"), "\u{fffd}[2J\u{fffd}");
    }

    #[test]
    fn latex_has_no_command_of_an_answer() {
        let escaped = latex(r"\input{/etc/passwd} 50 % of $x_1$ & ~^ #1 a|b");
        let wanted = r"\textbackslash{}input\{/etc/passwd\} 50 \% of \$x\_1\$ \& \textasciitilde{}\textasciicircum{} \#1 a\textbar{}b";
        assert_eq!(escaped, wanted);
        assert_eq!(latex("one\ntwo"), "one two");
    }

    #[test]
    fn markdown_has_no_link_no_tag_and_no_further_cell() {
        let escaped = markdown("[x](http://a.b) <img src=x> | *bold* https://c.d WWW.e.f");
        // An escaped bracket begins no link.
        assert!(!escaped.contains('<') && !escaped.replace("\\]", "").contains("]("), "{escaped}");
        assert!(!escaped.contains("://") && !escaped.contains("WWW.e"), "{escaped}");
        assert!(escaped.contains(r"\|") && escaped.contains(r"\*bold\*"), "{escaped}");
        assert_eq!(markdown("one\ntwo"), "one<br>two");
    }

    #[test]
    fn csv_has_no_formula_and_keeps_numbers() {
        for formula in ["=1+1", "+cmd", "-cmd", "@SUM(A1)", " =1", "\t=1", "-1+cmd|' /C calc'!A0"] {
            assert!(csv(formula).trim_start_matches('"').starts_with('\''), "{}", csv(formula));
        }
        assert_eq!(csv("-78.3"), "-78.3");
        assert_eq!(csv("1e-5"), "1e-5");
        assert_eq!(csv("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(csv_line(["a", "=b", "-2"]), "a,'=b,-2\n");
    }
}
