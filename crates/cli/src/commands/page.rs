//! The page of `vxf report --format html`: its sections, in order.

use std::time::Duration;

use vxf_report::charts::{against_drift, against_ratio, by_layer, over_steps};
use vxf_report::document::lead;
use vxf_report::{Part, Picture, Record, TextTable, doubts, samples, summary};
use vxf_run::Stored;
use vxf_run::measure::health;

use crate::commands::findings::{Findings, figures};
use crate::error::CommandError;

/// Pictures with the sections that they belong to.
type Pictures = Vec<(&'static str, Vec<Picture>)>;

/// All pictures of an experiment.
pub(crate) fn pictures(stored: &Stored) -> Result<Pictures, CommandError> {
    let (layout, records, curves) = (&stored.layout, &stored.records, stored.curves()?);
    let drift = [by_layer(layout, records, &curves), against_drift(layout, records)];
    Ok(vec![
        ("Against the harmful share", against_ratio(layout, records)),
        ("Drift", drift.into_iter().flatten().collect()),
        ("Training", over_steps(layout, &curves)),
    ])
}

/// The page.
pub(crate) fn parts(
    findings: &Findings<'_>,
    stored: &Stored,
    pictures: &Pictures,
    unfinished: Option<String>,
) -> Result<Vec<Part>, CommandError> {
    let Findings { experiment, layout, records, .. } = *findings;
    let found = health::doubts(layout, records);
    // The verdict stands alone; what to type for more seeds comes below it.
    let summary = summary::summary(layout, records, &found);
    let mut page = Page(lead(&summary.replacen(" For more seeds:", "\nFor more seeds:", 1)));
    page.0.extend(unfinished.map(Part::Paragraph));
    page.0.push(Part::Paragraph(about(findings, stored)));
    for (title, pictures) in pictures.iter().filter(|(_, pictures)| !pictures.is_empty()) {
        page.section(title, [Part::Pictures(pictures.clone())]);
    }
    page.section("Figures", figures(experiment, layout, records, findings.full));
    page.0.push(Part::Paragraph(
        "✓ marks a difference that is better than plain training beyond chance, ✗ one that is worse, and ! a \
         row in doubt. ↑ means that higher is better, ↓ that lower is."
            .to_owned(),
    ));
    page.listed("Rows of one method", findings.names());
    if !found.is_empty() {
        page.section("In doubt", [Part::List(doubts::lines(&found))]);
    }
    page.section("Cost", cost(findings));
    let answers =
        samples::closing(layout, findings.open, findings.overlaps, |run| stored.answers(run))?;
    if !answers.is_empty() {
        page.section("Answers", answers);
    }
    page.section("Data", data(stored));
    let deviations = findings.deviations();
    if !deviations.is_empty() {
        let note = Part::Paragraph("The paper's values are in brackets.".to_owned());
        page.section("Settings unlike the paper", [note, Part::List(deviations)]);
    }
    page.listed("Caveats", findings.caveats().into_iter().map(str::to_owned).collect());
    page.section("Provenance", provenance(stored));
    Ok(page.0)
}

struct Page(Vec<Part>);

impl Page {
    fn section(&mut self, title: &str, parts: impl IntoIterator<Item = Part>) {
        self.0.push(Part::Section(title.to_owned()));
        self.0.extend(parts);
    }

    fn listed(&mut self, title: &str, lines: Vec<String>) {
        if !lines.is_empty() {
            self.section(title, [Part::List(lines)]);
        }
    }
}

/// Model, data and seeds in a line.
fn about(findings: &Findings<'_>, stored: &Stored) -> String {
    let recipe = findings.experiment.recipe();
    let seeds: Vec<_> = findings.layout.seeds.iter().map(u64::to_string).collect();
    let plural = if seeds.len() == 1 { "seed" } else { "seeds" };
    format!(
        "Model {} ({}, {} weights), data source {}, {plural} {}, {}.",
        recipe.model.path,
        stored.manifest.family,
        stored.manifest.weights,
        recipe.data.name,
        seeds.join(", "),
        stored.manifest.program
    )
}

/// What each row cost: samples, steps and time, by stage.
fn cost(findings: &Findings<'_>) -> Vec<Part> {
    let header = ["stage", "p", "method", "runs", "samples", "steps", "seconds per run"];
    let mut table = TextTable::new(header.map(str::to_owned)).flush_left();
    for block in &findings.layout.blocks {
        for line in &block.lines {
            let of_line = |record: &&Record| line.runs.contains(&record.id);
            let done: Vec<_> = findings.records.iter().filter(of_line).collect();
            let Some(first) = done.first() else { continue };
            let seconds = done.iter().map(|record| record.seconds).sum::<f64>() / done.len() as f64;
            table.row([
                block.when.stage.to_string().replace('_', " "),
                block.when.ratio.map_or("-".to_owned(), |ratio| ratio.to_string()),
                line.name.clone(),
                done.len().to_string(),
                first.samples.to_string(),
                first.steps.to_string(),
                format!("{seconds:.1}"),
            ]);
        }
    }
    let all: f64 = findings.records.iter().map(|record| record.seconds).sum();
    let all = Duration::try_from_secs_f64(all).unwrap_or_default().as_secs();
    let all = format!(
        "All runs together took {all} s of training and measuring, added up over runs that may have run at \
         the same time."
    );
    vec![Part::Table(table), Part::Paragraph(all)]
}

/// What was read and dropped of the user's files.
fn data(stored: &Stored) -> Vec<Part> {
    match &stored.manifest.report {
        None => {
            let source = &stored.experiment.recipe().data.name;
            let text = format!("The data source `{source}` makes its data; no file was read.");
            vec![Part::Paragraph(text)]
        }
        Some(report) => {
            let mut notes = report.losses();
            notes.extend(report.warnings.clone());
            let title = "Sets, lengths and overlaps".to_owned();
            let mut parts = vec![Part::Folded { title, text: report.to_string() }];
            if !notes.is_empty() {
                parts.insert(0, Part::List(notes));
            }
            parts
        }
    }
}

/// What made the figures, and what makes them again.
fn provenance(stored: &Stored) -> Vec<Part> {
    let manifest = &stored.manifest;
    let host = &manifest.host;
    let mut facts = vec![
        ("program", manifest.program.clone()),
        ("started", manifest.started.clone()),
        ("finished", manifest.finished.clone().unwrap_or_else(|| "not yet".to_owned())),
        ("resumed", format!("{} times", manifest.resumed.len())),
        ("device", format!("{}, {} threads", manifest.device, manifest.threads)),
        ("processor", format!("{} {} {}", host.system, host.architecture, host.instructions)),
        ("recipe", manifest.recipe.clone()),
        ("weights", manifest.model.weights.clone()),
        ("tokenizer", manifest.model.tokenizer.clone()),
    ];
    facts.extend(manifest.source.clone().map(|source| ("starts from", source)));
    facts.push(("again", "vxf run config.resolved.toml --output-dir DIR".to_owned()));
    facts.push(("check", "vxf verify EXPERIMENT".to_owned()));
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut digests = String::new();
    for (seed, sets) in &manifest.data {
        for (set, digest) in sets {
            digests += &format!("seed {seed}  {set}  {digest}\n");
        }
    }
    for record in &stored.records {
        let digest = record.digest.as_deref().unwrap_or("-");
        digests += &format!("run {}  {digest}\n", record.id.path().display());
    }
    let folded = |title: &str, text: String| Part::Folded { title: title.to_owned(), text };
    vec![
        Part::Facts(facts),
        folded("The recipe as resolved (config.resolved.toml)", stored.experiment.toml()),
        folded("SHA-256 of data sets and runs", digests),
    ]
}
