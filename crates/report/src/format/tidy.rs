//! The figures of all runs as tidy CSV: one line for each figure of each run.

use vxf_core::metric::Better;

use crate::escape::csv_line;
use crate::record::Record;

const HEADER: [&str; 15] = [
    "experiment",
    "run",
    "digest",
    "stage",
    "method",
    "p",
    "seed",
    "metric",
    "figure",
    "value",
    "unit",
    "better",
    "n",
    "low",
    "high",
];

/// Renders records as CSV with a header. `low` and `high` are the ends of the 95 % interval over prompts; a
/// figure that is no number is left empty.
pub fn tidy(experiment: &str, records: &[Record]) -> String {
    let mut text = csv_line(HEADER);
    for record in records {
        for row in &record.measurements {
            let end =
                |index: usize| row.figure.interval.map_or(String::new(), |i| i[index].to_string());
            let better = match row.figure.better {
                Better::Higher => "higher",
                Better::Lower => "lower",
            };
            let cells = [
                experiment.to_owned(),
                record.id.path().display().to_string(),
                record.digest.clone().unwrap_or_default(),
                record.stage.to_string(),
                record.id.row(),
                record.id.ratio.map_or(String::new(), |ratio| ratio.to_string()),
                record.id.seed.to_string(),
                row.metric.clone(),
                row.figure.name.clone(),
                row.value().map_or(String::new(), |value| value.to_string()),
                row.figure.unit.clone(),
                better.to_owned(),
                row.figure.n.to_string(),
                end(0),
                end(1),
            ];
            text += &csv_line(cells.iter().map(String::as_str));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use vxf_core::Measurement;

    use super::*;
    use crate::record::Row;
    use crate::testing::record;

    #[test]
    fn each_figure_is_a_line_and_no_name_is_a_formula() {
        let mut one = record("=cmd", Some(0.2), 1);
        let figures = [
            Measurement::rate("harmful_score", 3, 60, Better::Lower),
            Measurement::new("margin", -2.5, "nats", Better::Higher, 60),
            Measurement::new("perplexity", f64::NAN, "ppl", Better::Lower, 60),
        ];
        for figure in figures {
            one.measurements.push(Row { metric: "m".into(), figure });
        }
        let text = tidy("@here", &[one, record("sft", None, 1)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines.iter().all(|line| line.split(',').count() == HEADER.len()), "{text}");
        assert!(
            lines[1].starts_with("'@here,'=cmd/0.2/1,,fine_tuning,'=cmd,0.2,1,m,harmful_score,5,%"),
            "{text}"
        );
        assert!(lines[2].contains(",margin,-2.5,nats,higher,60,,"), "{text}");
        assert!(lines[3].contains(",perplexity,,ppl,"), "{text}");
    }
}
