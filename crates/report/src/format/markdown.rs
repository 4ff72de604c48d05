//! Reports as Markdown, for issues, notebooks and cards.

use super::shown;
use crate::document::Part;
use crate::escape::markdown as escaped;
use crate::samples::{Asked, Said};
use crate::text_table::{Cell, TextTable, Tone};

/// Renders parts as GitHub's Markdown.
pub fn markdown(parts: &[Part]) -> String {
    let mut text = String::new();
    for part in parts {
        text += &match part {
            Part::Section(title) => format!("## {}\n", escaped(title)),
            Part::Heading(title) => format!("### {}\n", escaped(title)),
            Part::Paragraph(line) | Part::Closing(line) => format!("{}\n", escaped(line)),
            Part::List(items) => {
                items.iter().map(|item| format!("- {}\n", escaped(item))).collect::<String>()
            }
            Part::Table(table) => grid(table),
            Part::Answers(asked) => asked.iter().map(answers).collect::<Vec<_>>().join("\n"),
            Part::Facts(facts) => {
                let fact = |(name, value): &(String, String)| {
                    format!("- {}: {}\n", escaped(name), escaped(value))
                };
                facts.iter().map(fact).collect()
            }
            Part::Pictures(_) => continue,
            Part::Folded { title, text } => {
                // A fence that is longer than any in the text.
                let mut fence = "````".to_owned();
                while text.contains(&fence) {
                    fence.push('`');
                }
                let text = vxf_untrusted::printable(text.trim_end());
                format!("{}\n\n{fence}text\n{text}\n{fence}\n", escaped(title))
            }
        };
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn grid(table: &TextTable) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let cell = |cell: &Cell| match cell.tone {
        Tone::Best | Tone::Better | Tone::Worse if !cell.text.is_empty() => {
            format!("**{}**", escaped(cell.text.trim()))
        }
        _ => escaped(cell.text.trim()),
    };
    // Every row has as many cells as the widest.
    let columns = table.columns();
    let full = |cells: &[Cell]| {
        (0..columns).map(|index| cells.get(index).map_or(String::new(), cell)).collect::<Vec<_>>()
    };
    let marks = (0..columns).map(|column| match column == 0 || table.is_flush_left() {
        true => ":--".to_owned(),
        false => "--:".to_owned(),
    });
    let mut text = line(full(table.header())) + &line(marks.collect());
    table.body().iter().for_each(|row| text += &line(full(row)));
    text
}

fn answers(Asked { prompt, about, said }: &Asked) -> String {
    let prompt = prompt.as_deref().unwrap_or("[withheld]");
    let mut table = TextTable::new(["method", "when", "answer"].map(str::to_owned)).flush_left();
    for Said { row, when, answer } in said {
        let answer = shown(answer.as_deref()).to_owned();
        table.row([row.clone(), (*when).to_owned(), answer]);
    }
    format!("{} ({})\n\n{}", escaped(prompt), escaped(about), grid(&table))
}
