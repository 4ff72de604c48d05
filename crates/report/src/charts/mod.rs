//! The pictures of an experiment, made from its records and logs.

mod drift;
mod ratio;
mod steps;

use std::collections::BTreeMap;

use crate::layout::{Block, Layout};

pub use drift::{against_drift, by_layer};
pub use ratio::against_ratio;
pub use steps::over_steps;

/// The style of each row, the same in all pictures: the first for models that nothing is compared with, then
/// plain training, then the methods under test.
fn styles(layout: &Layout) -> BTreeMap<String, usize> {
    let mut styles = BTreeMap::new();
    let baselines: Vec<_> =
        layout.blocks.iter().flat_map(Block::baselines).map(|line| line.name.clone()).collect();
    let tested: Vec<_> = layout.blocks.iter().flat_map(|block| &block.tested).cloned().collect();
    let mut next = 1;
    for name in baselines.iter().chain(&tested) {
        if !styles.contains_key(name) {
            // Without plain training, its style stays free.
            next = if baselines.is_empty() { next.max(2) } else { next };
            styles.insert(name.clone(), next);
            next += 1;
        }
    }
    for line in layout.blocks.iter().flat_map(|block| &block.lines) {
        styles.entry(line.name.clone()).or_insert(0);
    }
    styles
}

/// The blocks of the last stage, one for each ratio, by ratio.
fn last_stage(layout: &Layout) -> Vec<(f64, &Block)> {
    let deepest = layout.blocks.iter().map(|block| block.when.depth).max();
    let last = layout.blocks.iter().filter(|block| Some(block.when.depth) == deepest);
    let mut last: Vec<_> = last.filter_map(|block| Some((block.when.ratio?, block))).collect();
    last.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    last
}

/// A figure's name in words.
fn words(figure: &str) -> String {
    figure.replace('_', " ")
}

/// The same with an upper-case first letter.
fn title(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>());
    first.unwrap_or_default() + letters.as_str()
}

/// A figure with its unit.
fn with_unit(figure: &str, unit: &str) -> String {
    match unit {
        "" | "ratio" => words(figure),
        unit => format!("{} ({unit})", words(figure)),
    }
}
