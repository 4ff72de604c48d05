//! What an experiment consists of: methods, arms, chains and cells.

use std::fmt;
use std::path::PathBuf;

use vxf_core::Stage;

use crate::{Error, Result};
use vxf_recipe::settings::EMBEDDED;
use vxf_recipe::{Method, Recipe};

/// A way to align: done once per seed, shared by all harmful ratios.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// What it is called in tables and directories.
    pub label: String,
    /// The method.
    pub method: Method,
}

/// A row of the table: a way to align with a way to fine-tune.
#[derive(Clone, Debug)]
pub struct Arm {
    /// What it is called in tables and directories.
    pub label: String,
    /// Index of its [`Alignment`].
    pub alignment: usize,
    /// The method in the user's stage.
    pub fine_tuning: Method,
}

/// One result: an aligned model, or one that its user has fine-tuned at a ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct CellId {
    /// The alignment's or the arm's label.
    pub label: String,
    /// The harmful ratio; none for the aligned model.
    pub ratio: Option<f64>,
    /// The seed.
    pub seed: u64,
}

impl CellId {
    /// Where it lies within the experiment.
    pub fn path(&self) -> PathBuf {
        let ratio = self.ratio.map_or("aligned".to_owned(), |ratio| ratio.to_string());
        [self.label.clone(), ratio, self.seed.to_string()].iter().collect()
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ratio {
            None => write!(f, "{} aligned, seed {}", self.label, self.seed),
            Some(ratio) => write!(f, "{} p={ratio}, seed {}", self.label, self.seed),
        }
    }
}

/// All that a recipe asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The ways to align, baselines first.
    pub alignments: Vec<Alignment>,
    /// The rows of the table, baselines first; none when alignment alone is asked for.
    pub arms: Vec<Arm>,
    /// Label of the arm under test.
    pub tested: String,
    /// Label of plain fine-tuning, if it is run beside.
    pub baseline: Option<String>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Ratios.
    pub ratios: Vec<f64>,
    /// Whether aligned models are measured here, or taken from another experiment.
    pub aligns: bool,
}

/// Streams that a stage has beside its main one.
const OFFERED: [(Stage, &[&str]); 2] =
    [(Stage::Alignment, &["alignment", "harmful"]), (Stage::FineTuning, &["user", "alignment"])];

impl Plan {
    /// The plan of `recipe`.
    ///
    /// # Errors
    /// When a method needs a stream that its stage does not have.
    pub fn of(recipe: &Recipe) -> Result<Self> {
        let embedded = recipe.model.path == EMBEDDED;
        let settings = &recipe.settings;
        let from = !settings.from.is_empty();
        let plain = vxf_recipe::method("sft", embedded)?;
        let (tested, user) = (&recipe.alignment_method, &recipe.fine_tuning_method);

        let mut rows = Vec::new();
        if settings.undefended && !from {
            rows.push(("none".to_owned(), vxf_recipe::method("none", embedded)?, plain.clone()));
        }
        if settings.baseline && !from {
            rows.push(("sft".to_owned(), plain.clone(), plain));
        }
        let baseline = (settings.baseline && !from).then(|| "sft".to_owned());
        let same = |(_, a, b): &(String, Method, Method)| a.same_as(tested) && b.same_as(user);
        let label = match rows.iter().find(|row| same(row)) {
            Some((label, _, _)) => label.clone(),
            None => {
                let mut label = recipe.label();
                while rows.iter().any(|(taken, _, _)| *taken == label) {
                    label.push_str("-custom");
                }
                rows.push((label.clone(), tested.clone(), user.clone()));
                label
            }
        };

        let mut plan = Self {
            alignments: Vec::new(),
            arms: Vec::new(),
            tested: label,
            baseline,
            seeds: settings.seeds.clone(),
            ratios: settings.harmful_ratios.clone(),
            aligns: settings.stages.include(Stage::Alignment),
        };
        let attacked = settings.stages.include(Stage::FineTuning);
        for (label, method, fine_tuning) in rows {
            offered(&method, Stage::Alignment)?;
            offered(&fine_tuning, Stage::FineTuning)?;
            let known = plan.alignments.iter().position(|known| known.method.same_as(&method));
            let alignment = known.unwrap_or_else(|| {
                let own = label.split('+').next().unwrap_or(&label).to_owned();
                plan.alignments.push(Alignment { label: own, method });
                plan.alignments.len() - 1
            });
            if attacked {
                plan.arms.push(Arm { label, alignment, fine_tuning });
            }
        }
        Ok(plan)
    }

    /// All pairs of alignment and seed; the method under test first, as it takes longest.
    pub fn chains(&self) -> Vec<(usize, u64)> {
        let alignments = (0..self.alignments.len()).rev();
        alignments.flat_map(|index| self.seeds.iter().map(move |&seed| (index, seed))).collect()
    }

    /// The aligned model of a chain.
    pub fn aligned(&self, alignment: usize, seed: u64) -> CellId {
        CellId { label: self.alignments[alignment].label.clone(), ratio: None, seed }
    }

    /// The cells of a chain after its alignment, each with its arm and the index of its ratio.
    pub fn attacks(&self, alignment: usize, seed: u64) -> Vec<(CellId, &Arm, usize)> {
        let arms = self.arms.iter().filter(|arm| arm.alignment == alignment);
        arms.flat_map(|arm| {
            self.ratios.iter().enumerate().map(move |(index, &ratio)| {
                (CellId { label: arm.label.clone(), ratio: Some(ratio), seed }, arm, index)
            })
        })
        .collect()
    }

    /// Every cell, aligned models first.
    pub fn cells(&self) -> Vec<CellId> {
        let each = |&(index, seed): &(usize, u64)| self.aligned(index, seed);
        let chains = self.chains();
        let aligned = chains.iter().filter(|_| self.aligns).map(each);
        let attacks = chains.iter().flat_map(|&(index, seed)| self.attacks(index, seed));
        aligned.chain(attacks.map(|(cell, _, _)| cell)).collect()
    }
}

/// Whether the stage has every stream that the method reads, be it the defence or its perturber.
fn offered(method: &Method, stage: Stage) -> Result<()> {
    let defense = method.defense.config.build();
    let perturber = method.perturber.config.build();
    let offered = OFFERED.iter().find(|(known, _)| *known == stage);
    let known = offered.map_or(&[][..], |(_, streams)| *streams);
    let mut read = defense.streams().iter().chain(perturber.streams());
    match read.find(|stream| !known.contains(stream)) {
        None => Ok(()),
        Some(stream) => Err(Error::Core(vxf_core::Error::UnknownStream {
            name: (*stream).to_owned(),
            known: known.join(", "),
        })),
    }
}
