//! One number for a setting of a method or an attack: the harmful score and what was paid for it.

use serde::Serialize;

use crate::durability::Figures;
use crate::layout::{Line, find};
use crate::record::Record;

/// The runs of one candidate and of plain alignment beside it, under one seed.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// After the attack.
    pub attacked: &'a Line,
    /// Aligned, before any user.
    pub aligned: &'a Line,
}

/// What a candidate reached under one seed; all in percent or points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Objective {
    /// The harmful score after the attack.
    pub harmful: f64,
    /// Points of helpfulness lost against plain alignment, before any user or after the attack, whichever are
    /// more; 0 if none are lost, `None` if it was not measured before a user.
    pub lost_help: Option<f64>,
    /// Points of accuracy lost after the attack, against plain alignment; the same.
    pub lost_accuracy: Option<f64>,
}

impl Objective {
    /// Of a candidate beside plain alignment; `None` if the harmful score was not measured.
    pub fn of(
        records: &[Record],
        own: Beside<'_>,
        plain: Beside<'_>,
        figures: &Figures,
    ) -> Option<Self> {
        let mean = |line: &Line, name: &str| {
            let found = line.runs.iter().filter_map(|id| find(records, id)?.figure(name));
            let all: Vec<f64> = found.collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        let lost = |own: &Line, plain: &Line, name: Option<&String>| {
            let lost = name.and_then(|name| Some(mean(plain, name)? - mean(own, name)?));
            lost.map(|lost| lost.max(0.0))
        };
        // A method that acts in the user's stage or after it loses nothing before.
        let useful = figures.useful.as_ref();
        let after = lost(own.attacked, plain.attacked, useful).unwrap_or(0.0);
        let before = lost(own.aligned, plain.aligned, useful);
        Some(Self {
            harmful: mean(own.attacked, &figures.harmful)?,
            lost_help: before.map(|before| before.max(after)),
            lost_accuracy: lost(own.attacked, plain.attacked, figures.accuracy.as_ref()),
        })
    }

    /// What a defender minimises: the harmful score plus all losses that were measured.
    pub fn of_defender(&self) -> f64 {
        self.harmful + self.lost_help.unwrap_or(0.0) + self.lost_accuracy.unwrap_or(0.0)
    }

    /// What an attacker maximises: the harmful score less the accuracy that is lost.
    pub fn of_attacker(&self) -> f64 {
        self.harmful - self.lost_accuracy.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use vxf_core::metric::{Better, Measurement};

    use super::*;
    use crate::record::Row;
    use crate::testing::record;

    fn with(label: &str, ratio: Option<f64>, figures: &[(&str, f64)]) -> (Record, Line) {
        let mut record = record(label, ratio, 1);
        let row = |(name, value): &(&str, f64)| Row {
            metric: (*name).to_owned(),
            figure: Measurement::new(name, *value, "%", Better::Higher, 10),
        };
        record.measurements = figures.iter().map(row).collect();
        let line = Line { name: label.to_owned(), runs: vec![record.id.clone()], baseline: None };
        (record, line)
    }

    #[test]
    fn losses_count_and_gains_do_not() {
        let (a, own) = with("own", Some(0.2), &[("harmful_score", 20.0), ("accuracy", 90.0)]);
        let (b, own_before) = with("own", None, &[("helpfulness", 60.0)]);
        let (c, plain) = with("sft", Some(0.2), &[("harmful_score", 80.0), ("accuracy", 94.0)]);
        let (d, plain_before) = with("sft", None, &[("helpfulness", 90.0)]);
        let records = [a, b, c, d];
        let figures = Figures {
            harmful: "harmful_score".into(),
            useful: Some("helpfulness".into()),
            accuracy: Some("accuracy".into()),
            over_refusal: None,
        };
        let own = Beside { attacked: &own, aligned: &own_before };
        let plain = Beside { attacked: &plain, aligned: &plain_before };
        let found = Objective::of(&records, own, plain, &figures).expect("measured");
        assert_eq!((found.of_defender(), found.of_attacker()), (20.0 + 30.0 + 4.0, 16.0));
        let found = Objective::of(&records, plain, own, &figures).expect("measured");
        assert_eq!((found.of_defender(), found.of_attacker()), (80.0, 80.0));
        assert!(Objective::of(&records[1..], own, plain, &figures).is_none());
    }

    /// A method after the user is as helpful as plain alignment before, and may refuse everything afterwards.
    #[test]
    fn help_that_is_lost_after_the_attack_counts() {
        let figures = Figures {
            harmful: "harmful_score".into(),
            useful: Some("helpfulness".into()),
            accuracy: None,
            over_refusal: None,
        };
        let (a, own) = with("own", Some(0.2), &[("harmful_score", 0.0), ("helpfulness", 3.0)]);
        let (b, own_before) = with("own", None, &[("helpfulness", 90.0)]);
        let (c, plain) = with("sft", Some(0.2), &[("harmful_score", 80.0), ("helpfulness", 99.0)]);
        let (d, plain_before) = with("sft", None, &[("helpfulness", 90.0)]);
        let records = [a, b, c, d];
        let own = Beside { attacked: &own, aligned: &own_before };
        let plain = Beside { attacked: &plain, aligned: &plain_before };
        let found = Objective::of(&records, own, plain, &figures).expect("measured");
        assert_eq!((found.lost_help, found.of_defender()), (Some(96.0), 96.0));
    }
}
