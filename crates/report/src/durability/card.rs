//! The card of a durability test as text.

use super::{Criterion, Reached};
use crate::text_table::TextTable;

/// Attacks shown in a table.
const SHOWN: usize = 8;

/// The card as text.
pub fn card(
    method: &str,
    criteria: &[Criterion],
    defended: &[Reached],
    plain: &[Reached],
) -> String {
    let failed = criteria.iter().filter(|it| it.holds == Some(false)).count();
    let unknown = criteria.iter().filter(|it| it.holds.is_none()).count();
    let verdict = match (failed, unknown) {
        (0, 0) => "pass".to_owned(),
        (0, unknown) => {
            format!("not decided: {unknown} of {} could not be measured", criteria.len())
        }
        (failed, _) => format!("fail: {failed} of {} do not hold", criteria.len()),
    };
    let mut text = format!("Durability of {method}: {verdict}\n\n");
    for Criterion { name, holds, evidence } in criteria {
        let word = match holds {
            Some(true) => "holds",
            Some(false) => "FAILS",
            None => "open",
        };
        text += &format!("  {name:<14} {word:<6} {evidence}\n");
    }
    for (title, reached) in [(method, defended), ("plain alignment", plain)] {
        if !reached.is_empty() {
            text += &format!("\nAttacks on {title}, the strongest first ({})\n\n", tried(reached));
            text += &table(reached);
        }
    }
    text
}

fn tried(reached: &[Reached]) -> String {
    let counted = reached.iter().filter(|it| it.passed_over.is_none()).count();
    match counted > SHOWN {
        true => format!("{SHOWN} of {} tried; `--json` lists all", reached.len()),
        false => format!("{} tried", reached.len()),
    }
}

fn table(reached: &[Reached]) -> String {
    let header = ["attack", "p", "HS %", "helpful %"].map(str::to_owned);
    let mut table = TextTable::new(header);
    for it in reached.iter().filter(|it| it.passed_over.is_none()).take(SHOWN) {
        let interval =
            it.interval.map_or(String::new(), |[low, high]| format!(" ({low:.0}-{high:.0})"));
        table.row([
            it.name.clone(),
            it.ratio.to_string(),
            format!("{:.1}{interval}", it.harmful),
            it.useful.map_or("-".to_owned(), |useful| format!("{useful:.1}")),
        ]);
    }
    let mut text = table.render();
    let over: Vec<_> = reached.iter().filter(|it| it.passed_over.is_some()).collect();
    if !over.is_empty() {
        text += "\n  passed over, because they leave a useless model:\n";
        for it in over {
            let why = it.passed_over.as_deref().unwrap_or_default();
            text += &format!(
                "    {} (p = {}, harmful score {:.1} %): {why}\n",
                it.name, it.ratio, it.harmful
            );
        }
    }
    text
}
