//! A report as a list of parts, which every format renders in its own way.

use vxf_untrusted::printable;

use crate::picture::Picture;
use crate::samples::{Asked, Said};
use crate::text_table::{Cell, TextTable, Tone};

/// A part of a report.
#[derive(Clone, Debug)]
pub enum Part {
    /// A heading above other headings.
    Section(String),
    /// A heading.
    Heading(String),
    /// A paragraph.
    Paragraph(String),
    /// A list.
    List(Vec<String>),
    /// A table.
    Table(TextTable),
    /// Prompts and answers.
    Answers(Vec<Asked>),
    /// Names and values.
    Facts(Vec<(String, String)>),
    /// Pictures; a text has none.
    Pictures(Vec<Picture>),
    /// A long text that readers open if they want it.
    Folded {
        /// What it is.
        title: String,
        /// The text, with its line breaks.
        text: String,
    },
    /// A line after everything else.
    Closing(String),
}

/// How a report is printed to a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Whether tones are shown in colour.
    pub colour: bool,
    /// The width in characters, if tables must fit it.
    pub width: Option<usize>,
}

/// The parts that the text of [`summary`](crate::summary::summary) consists of.
pub fn lead(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("  "), parts.last_mut()) {
            (Some(item), Some(Part::List(items))) => items.push(item.to_owned()),
            (Some(item), _) => parts.push(Part::List(vec![item.to_owned()])),
            (None, _) => parts.push(Part::Paragraph(line.to_owned())),
        }
    }
    parts
}

/// Renders parts as text. Control characters of foreign text are replaced, so that the result can be
/// written to a terminal as it is.
pub fn text(parts: &[Part], terminal: Terminal) -> String {
    let mut text = String::new();
    let mut seen_heading = false;
    for part in parts {
        match part {
            Part::Section(title) | Part::Heading(title) => {
                gap(&mut text);
                text += &terminal.wrapped(title, "");
                gap(&mut text);
                seen_heading = true;
            }
            Part::Paragraph(line) => {
                let bold = !seen_heading && text.is_empty();
                let wrapped = terminal.wrapped(line, "");
                text += &if bold { terminal.bold(&wrapped) } else { wrapped };
            }
            Part::List(items) => {
                items.iter().for_each(|item| text += &terminal.wrapped(item, "  "));
            }
            Part::Table(table) => {
                for part in terminal.fitted(table) {
                    text += &part.render_with(&|cell, header| terminal.cell(cell, header));
                    gap(&mut text);
                }
            }
            Part::Answers(asked) => {
                for each in asked {
                    gap(&mut text);
                    text += &answers(each, terminal);
                }
            }
            Part::Facts(facts) => {
                let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
                for (name, value) in facts {
                    text += &terminal.wrapped(&format!("{name:<width$}  {value}"), "  ");
                }
            }
            Part::Pictures(_) => {}
            Part::Folded { title, text: folded } => {
                gap(&mut text);
                text += &format!("{}\n\n{}\n", printable(title), printable(folded.trim_end()));
            }
            Part::Closing(line) => {
                gap(&mut text);
                text += &terminal.wrapped(line, "");
            }
        }
    }
    text.truncate(text.trim_end().len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Ends with an empty line, unless there is nothing to separate.
fn gap(text: &mut String) {
    if !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
}

fn answers(Asked { prompt, about, said }: &Asked, terminal: Terminal) -> String {
    let prompt = prompt.as_deref().unwrap_or("[withheld]");
    let mut text = terminal.wrapped(&format!("{prompt} ({about})"), "  ");
    let width = said.iter().map(|said| said.row.chars().count()).max().unwrap_or(0);
    for Said { row, when, answer } in said {
        let answer = match answer.as_deref() {
            None => "[withheld: `--log-samples` shows it]",
            Some("") => "(nothing)",
            Some(answer) => answer,
        };
        text += &terminal.wrapped(&format!("{row:<width$}  {when:<6}  {answer}"), "    ");
    }
    text
}

impl Terminal {
    /// Renders parts as text: see [`text`].
    pub fn text(self, parts: &[Part]) -> String {
        text(parts, self)
    }

    /// The text with `indent` before each line, broken into lines that fit.
    fn wrapped(self, text: &str, indent: &str) -> String {
        let text = printable(text);
        let Some(width) = self.width else { return format!("{indent}{text}\n") };
        let (mut lines, mut line) = (String::new(), indent.to_owned());
        for word in text.split_inclusive([' ', '\n']) {
            let fits = line.chars().count() + word.trim_end().chars().count() <= width;
            if !fits && line.trim() != "" {
                lines += line.trim_end();
                lines.push('\n');
                line = format!("{indent}  ");
            }
            line += word.trim_end_matches('\n');
            if word.ends_with('\n') {
                lines += line.trim_end();
                lines.push('\n');
                line = format!("{indent}  ");
            }
        }
        lines + line.trim_end() + "\n"
    }

    fn fitted(self, table: &TextTable) -> Vec<TextTable> {
        self.width.map_or_else(|| vec![table.clone()], |width| table.fit(width))
    }

    fn bold(self, text: &str) -> String {
        if self.colour { paint("1", text.trim_end()) + "\n" } else { text.to_owned() }
    }

    fn cell(self, cell: &Cell, header: bool) -> String {
        let text = printable(&cell.text);
        let code = match cell.tone {
            _ if !self.colour => return text,
            _ if header => "1",
            Tone::Plain => return text,
            Tone::Better => "32",
            Tone::Worse => "31",
            Tone::Best => "1",
            Tone::Doubt => "33",
            Tone::Quiet => "2",
        };
        paint(code, &text)
    }
}

/// The text in an ANSI style.
fn paint(code: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\u{1b}[{code}m{text}\u{1b}[0m") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        let mut table = TextTable::new(["method", "score"].map(str::to_owned));
        table.row([Cell::from("sft".to_owned()), Cell::new("-78.3", Tone::Better)]);
        let said = Said { row: "sft".into(), when: "after", answer: Some("\u{1b}[2Jred".into()) };
        let asked =
            Asked { prompt: Some("why ?".into()), about: "harmless".into(), said: vec![said] };
        let mut parts = lead("One sentence about everything.\n  a: 1\n  b: 2\nThe price.\n");
        parts.extend([
            Part::Heading("Figures".into()),
            Part::Table(table),
            Part::Paragraph("How they were made.".into()),
            Part::Heading("Answers".into()),
            Part::Answers(vec![asked]),
            Part::Closing("All files are here".into()),
        ]);
        parts
    }

    #[test]
    fn a_text_separates_its_parts_by_one_empty_line() {
        let wanted = "One sentence about everything.\n  a: 1\n  b: 2\nThe price.\n\nFigures\n\n  method   \
                      score\n  sft      -78.3\n\nHow they were made.\n\nAnswers\n\n  why ? (harmless)\n    \
                      sft  after   \u{fffd}[2Jred\n\nAll files are here\n";
        assert_eq!(text(&parts(), Terminal::default()), wanted);
    }

    #[test]
    fn colour_is_ours_alone_and_lines_fit() {
        let terminal = Terminal { colour: true, width: Some(24) };
        let shown = text(&parts(), terminal);
        assert!(shown.contains("\u{1b}[32m-78.3\u{1b}[0m"), "{shown:?}");
        assert!(!shown.contains("\u{1b}[2J"), "{shown:?}");
        let plain = text(&parts(), Terminal { colour: false, ..terminal });
        assert!(plain.lines().all(|line| line.chars().count() <= 24), "{plain}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&plain), words(&text(&parts(), Terminal::default())));
    }
}
