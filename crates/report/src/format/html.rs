//! Reports as a page: one file, without scripts and without anything from outside.

use std::fmt::Write;

use super::shown;
use crate::document::Part;
use crate::escape::html as escaped;
use crate::picture::{COLOURS, Ink, Picture};
use crate::samples::{Asked, Said};
use crate::text_table::{Cell, TextTable, Tone};

const STYLE: &str = include_str!("page.css");

/// Renders parts as a whole page.
pub fn page(title: &str, parts: &[Part]) -> String {
    let variables = |ground: usize| -> String {
        let colour = |(index, pair): (usize, &[&str; 2])| format!("--s{index}:{};", pair[ground]);
        COLOURS.iter().enumerate().map(colour).collect()
    };
    let style =
        STYLE.replace("/* light rows */", &variables(0)).replace("/* dark rows */", &variables(1));
    let sections = parts.iter().filter_map(|part| match part {
        Part::Section(name) => Some(name),
        _ => None,
    });
    let link = |name: &String| format!("<a href=\"#{}\">{}</a>\n", anchor(name), escaped(name));
    let links: String = sections.map(link).collect();
    let mut body = String::new();
    let (mut open, mut seen_lead) = (false, false);
    for part in parts {
        if let Part::Section(name) = part {
            let close = if open { "</section>\n" } else { "" };
            open = true;
            let _ = write!(
                body,
                "{close}<section aria-labelledby=\"{0}\">\n<h2 id=\"{0}\">{1}</h2>\n",
                anchor(name),
                escaped(name)
            );
            continue;
        }
        body += &match part {
            Part::Paragraph(line) if !open && !seen_lead => {
                seen_lead = true;
                format!("<p class=\"lead\">{}</p>\n", prose(line))
            }
            part => rendered(part),
        };
    }
    if open {
        body += "</section>\n";
    }
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the result</a>\n<header>\n<h1>{title}</h1>\n\
         <nav aria-label=\"Sections\">\n{links}</nav>\n</header>\n<main id=\"main\">\n{body}</main>\n\
         </body>\n</html>\n"
    )
}

fn rendered(part: &Part) -> String {
    match part {
        Part::Section(title) | Part::Heading(title) => format!("<h3>{}</h3>\n", escaped(title)),
        Part::Paragraph(line) => format!("<p>{}</p>\n", prose(line)),
        Part::Closing(line) => format!("<p class=\"quiet\">{}</p>\n", escaped(line)),
        Part::List(items) => {
            let items: String =
                items.iter().map(|item| format!("<li>{}</li>\n", prose(item))).collect();
            format!("<ul>\n{items}</ul>\n")
        }
        Part::Table(table) => grid(table),
        Part::Answers(asked) => asked.iter().map(answers).collect(),
        Part::Facts(facts) => {
            let fact = |(name, value): &(String, String)| {
                format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(value))
            };
            format!("<dl>\n{}</dl>\n", facts.iter().map(fact).collect::<String>())
        }
        Part::Pictures(pictures) => {
            format!(
                "<div class=\"pictures\">\n{}</div>\n",
                pictures.iter().map(figure).collect::<String>()
            )
        }
        Part::Folded { title, text } => format!(
            "<details>\n<summary>{}</summary>\n<pre tabindex=\"0\">{}</pre>\n</details>\n",
            escaped(title),
            escaped(text.trim_end())
        ),
    }
}

/// A sentence: what stands in backquotes is code, and a number stays with its unit.
fn prose(text: &str) -> String {
    let escaped = escaped(text).replace(" %", "\u{a0}%");
    let parts: Vec<_> = escaped.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return escaped;
    }
    let part = |(index, part): (usize, &&str)| match index % 2 {
        0 => (*part).to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    parts.iter().enumerate().map(part).collect()
}

fn figure(picture: &Picture) -> String {
    let note = match picture.note.is_empty() {
        true => String::new(),
        false => format!("<figcaption>{}</figcaption>\n", prose(&picture.note)),
    };
    format!("<figure>\n{}{note}</figure>\n", picture.svg(Ink::Page))
}

fn grid(table: &TextTable) -> String {
    let class = |cell: &Cell| match cell.tone {
        Tone::Plain => "",
        Tone::Better => " class=\"better\"",
        Tone::Worse => " class=\"worse\"",
        Tone::Best => " class=\"best\"",
        Tone::Doubt => " class=\"doubt\"",
        Tone::Quiet => " class=\"quiet\"",
    };
    let head: String = table
        .header()
        .iter()
        .map(|cell| format!("<th scope=\"col\">{}</th>", escaped(&cell.text)))
        .collect();
    let row = |cells: &Vec<Cell>| {
        let cell = |(index, cell): (usize, &Cell)| {
            let (class, text) = (class(cell), escaped(cell.text.trim()));
            match index {
                0 => format!("<th scope=\"row\"{class}>{text}</th>"),
                _ => format!("<td{class}>{text}</td>"),
            }
        };
        format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
    };
    let words = if table.is_flush_left() { " class=\"words\"" } else { "" };
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Table\" tabindex=\"0\">\n<table{words}>\n\
         <thead><tr>{head}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n</div>\n",
        table.body().iter().map(row).collect::<String>()
    )
}

fn answers(Asked { prompt, about, said }: &Asked) -> String {
    let prompt = escaped(prompt.as_deref().unwrap_or("[withheld]"));
    let one = |Said { row, when, answer }: &Said| {
        let quiet = if answer.is_none() { " class=\"quiet\"" } else { "" };
        format!(
            "<dt>{} <span class=\"quiet\">{when}</span></dt><dd{quiet} dir=\"auto\">{}</dd>\n",
            escaped(row),
            escaped(shown(answer.as_deref()))
        )
    };
    format!(
        "<div class=\"asked\">\n<h4 dir=\"auto\">{prompt} <span class=\"quiet\">({})</span></h4>\n<dl>\n{}</dl>\n\
         </div>\n",
        escaped(about),
        said.iter().map(one).collect::<String>()
    )
}

/// The anchor of a section: its name in small letters, joined by hyphens.
fn anchor(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(letter).collect()
}
