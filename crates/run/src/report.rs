//! The report on the files of a run.

use vxf_core::Key;
use vxf_data::{DataReport, SetReport};

use crate::Result;
use crate::dataset::{Corpus, SeedData, Set, user_samples};
use vxf_recipe::data_settings::Part;
use vxf_recipe::{Data, Recipe};

/// The report on what `corpus` gave and `data` made of it; none for the embedded world.
///
/// # Errors
/// When the user's set cannot be mixed.
pub fn of(
    recipe: &Recipe,
    corpus: &Corpus,
    data: &SeedData,
    seed: u64,
) -> Result<Option<DataReport>> {
    let Data::Files(settings) = &recipe.data else { return Ok(None) };
    let key = Key::root(seed).child("data");
    let learned = |report: SetReport, set: &Set| {
        report.with_examples(&set.examples, set.truncated, set.dropped)
    };
    let mut mixed = Vec::new();
    for (&ratio, set) in recipe.settings.harmful_ratios.iter().zip(&data.user) {
        let samples = user_samples(settings, corpus, ratio, &key)?;
        mixed.push((format!("user at p = {ratio}"), samples, set));
    }
    let mut sets = Vec::new();
    for (part, loaded) in corpus.parts() {
        let report = SetReport::of(part.key(), &loaded.samples, Some(loaded));
        let report = match part {
            Part::Alignment => learned(report, &data.alignment),
            Part::Simulated => learned(report, &data.harmful),
            _ => report,
        };
        sets.push((report, loaded.samples.as_slice()));
    }
    for (name, samples, set) in &mixed {
        let parts = [Part::Harmful, Part::User, Part::Guide].map(Part::key);
        let report = learned(SetReport::of(name, samples, None).made_of(&parts), set);
        sets.push((report, samples.as_slice()));
    }
    Ok(Some(DataReport::of(sets)))
}
