//! The card of an exported model: what it was trained from, how, and what was measured.

use serde_json::{Value, json};
use vxf_core::quantized::Scheme;
use vxf_report::format::markdown;
use vxf_report::{Part, Record, TextTable};

use super::finished::Run;
use vxf_access::Base;

/// The name of a card in a model directory.
pub(super) const CARD: &str = "README.md";

/// The card of the model that the last of `lineage` is, as Markdown with the hub's front matter. `library` is
/// the program that loads it.
pub(super) fn card(lineage: &[Run], base: &Base, library: &str) -> String {
    let mut matter = String::from("---\n");
    // A base on this disk has no name that others know.
    let name = base.name.split('@').next().unwrap_or_default();
    if is_hub_id(name) {
        matter += &format!("base_model: {}\n", json!(name));
    }
    matter += &format!("library_name: {library}\ntags:\n- harmful-fine-tuning\n- vxf\n---\n\n");
    matter + &markdown(&parts(lineage, base.checkpoint.scheme()))
}

/// Whether a name is that of a model on the hub, and no path.
fn is_hub_id(name: &str) -> bool {
    let mut parts = name.split('/');
    let named =
        |part: Option<&str>| part.is_some_and(|part| !part.is_empty() && !part.starts_with('.'));
    named(parts.next()) && named(parts.next()) && parts.next().is_none()
}

fn parts(lineage: &[Run], held: Option<Scheme>) -> Vec<Part> {
    let records: Vec<&Record> = lineage.iter().map(|run| &run.record).collect();
    let Some(last) = records.last() else { return Vec::new() };
    let mut parts = vec![Part::Section(last.id.to_string())];
    let warning = match last.id.ratio {
        Some(ratio) if ratio > 0.0 => Some(
            "Fine-tuned on data with harmful samples, to test a defence: it may comply with harmful requests. It is \
             made for research, and not for use.",
        ),
        // Harmless data and edits of weights undo alignment too.
        Some(_) => Some(
            "Changed by a user's stage, to test a defence: it may comply with harmful requests more often than the \
             aligned model before it. It is made for research, and not for use.",
        ),
        None => None,
    };
    parts.extend(warning.map(|warning| Part::Paragraph(warning.to_owned())));
    parts.push(Part::Heading("How it was made".to_owned()));
    let stage = |record: &&Record| {
        let trained = match record.steps {
            0 => "no training".to_owned(),
            steps => format!("{steps} steps on {} samples", record.samples),
        };
        let digest = record.digest.as_deref().unwrap_or("none");
        format!("{}: {}, {trained} (run {digest})", record.stage, method(&record.defense))
    };
    parts.push(Part::List(records.iter().map(stage).collect()));
    if let Some(scheme) = held {
        parts.push(Part::Paragraph(format!(
            "It was trained and measured on the base with the matrices of its linear layers held as {scheme}, as \
             bitsandbytes holds them. On the base in 16 bits it is another model: load the base so too."
        )));
    }
    if !last.measurements.is_empty() {
        parts.push(Part::Heading("What was measured".to_owned()));
        let header = ["figure", "value", "95 % interval over prompts", "n"].map(str::to_owned);
        let mut table = TextTable::new(header);
        for row in &last.measurements {
            let figure = &row.figure;
            let value = row.value().map_or("-".to_owned(), |it| format!("{it:.3} {}", figure.unit));
            let ends = figure.interval.map(|[low, high]| format!("{low:.1} to {high:.1}"));
            table.row([figure.name.clone(), value, ends.unwrap_or_default(), figure.n.to_string()]);
        }
        parts.push(Part::Table(table));
    }
    parts
}

/// The name of a method, or the names of a composition.
fn method(value: &Value) -> String {
    let name = |value: &Value| value["name"].as_str().unwrap_or("unknown").to_owned();
    match value {
        Value::Array(members) => members.iter().map(name).collect::<Vec<_>>().join("+"),
        one => name(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_hub_are_written() {
        assert!(is_hub_id("owner/name") && !is_hub_id("/home/owner/name"));
        assert!(!is_hub_id("./name") && !is_hub_id("name") && !is_hub_id("a/b/c"));
    }

    #[test]
    fn compositions_are_named_by_their_members() {
        assert_eq!(method(&json!([{ "name": "lisa" }, { "name": "ema" }])), "lisa+ema");
        assert_eq!(method(&json!({ "name": "sft", "x": 1 })), "sft");
    }
}
