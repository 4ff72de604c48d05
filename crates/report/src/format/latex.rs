//! Reports as LaTeX, for papers.

use super::shown;
use crate::document::Part;
use crate::escape::latex as escaped;
use crate::samples::{Asked, Said};
use crate::text_table::{Cell, TextTable, Tone};

/// Renders parts as a part of a LaTeX document.
pub fn latex(parts: &[Part]) -> String {
    let mut text = "% For \\input. Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}; answers in other \
                    scripts need LuaLaTeX or XeLaTeX.\n\n"
        .to_owned();
    for part in parts {
        text += &match part {
            Part::Section(title) => format!("\\subsection*{{{}}}\n", escaped(title)),
            Part::Heading(title) => format!("\\paragraph{{{}}}\n", escaped(title)),
            Part::Paragraph(line) | Part::Closing(line) => format!("{}\n", escaped(line)),
            Part::List(items) => list(items.iter().map(|item| escaped(item))),
            Part::Table(table) => grid(table),
            Part::Answers(asked) => asked.iter().map(answers).collect::<Vec<_>>().join("\n"),
            Part::Facts(facts) => list(
                facts.iter().map(|(name, value)| format!("{}: {}", escaped(name), escaped(value))),
            ),
            Part::Pictures(_) => continue,
            Part::Folded { title, text } => {
                let lines = text.lines().map(|line| escaped(line) + "\\\\\n");
                format!("\\paragraph{{{}}}\n{}", escaped(title), lines.collect::<String>())
            }
        };
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: String = items.map(|item| format!("  \\item {item}\n")).collect();
    match items.is_empty() {
        true => String::new(),
        false => format!("\\begin{{itemize}}\n{items}\\end{{itemize}}\n"),
    }
}

fn grid(table: &TextTable) -> String {
    let cell = |cell: &Cell| {
        // A row that belongs to the one above is indented in a text.
        let indent = if cell.text.starts_with("  ") { "\\quad " } else { "" };
        let text = format!("{indent}{}", escaped(cell.text.trim()));
        match cell.tone {
            Tone::Best | Tone::Better | Tone::Worse => format!("\\textbf{{{text}}}"),
            _ => text,
        }
    };
    let columns = table.columns().max(1);
    let line = |cells: &[Cell]| {
        let cells = (0..columns).map(|index| cells.get(index).map_or(String::new(), cell));
        cells.collect::<Vec<_>>().join(" & ") + " \\\\\n"
    };
    let rest = if table.is_flush_left() { "l" } else { "r" };
    let shape = format!("l{}", rest.repeat(columns - 1));
    let mut text =
        format!("\\begin{{tabular}}{{{shape}}}\n\\toprule\n{}\\midrule\n", line(table.header()));
    table.body().iter().for_each(|row| text += &line(row));
    text + "\\bottomrule\n\\end{tabular}\n"
}

fn answers(Asked { prompt, about, said }: &Asked) -> String {
    let prompt = escaped(prompt.as_deref().unwrap_or("[withheld]"));
    let one = |Said { row, when, answer }: &Said| {
        let answer = escaped(shown(answer.as_deref()));
        format!("  \\item[{} {when}] {answer}\n", escaped(row))
    };
    let items: String = said.iter().map(one).collect();
    let about = escaped(about);
    match items.is_empty() {
        true => format!("\\noindent\\textit{{{prompt}}} ({about})\n"),
        false => format!(
            "\\noindent\\textit{{{prompt}}} ({about})\n\\begin{{description}}\n{items}\\end{{description}}\n"
        ),
    }
}
