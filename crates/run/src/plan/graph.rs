//! The graph of runs: each stage of each pipeline once, shared where pipelines agree.
//!
//! A node is one stage with its settings, seed and parent. Two pipelines that agree up to a stage share
//! its node: a model is aligned once for all harmful ratios, and plain fine-tuning is run once beside
//! many defences.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use vxf_core::{Stage, Trainable};
use vxf_recipe::{Experiment, Recipe, StageRecipe, digest};
use vxf_report::{Block, Layout, Line, RunId, When};

use super::pipelines::{BASELINE, Pipeline, UNDEFENDED, pipelines};
use crate::Result;

/// A run from which pipelines start instead of the base model.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Identifies the run.
    pub id: RunId,
    /// The digest of what decides its weights.
    pub digest: String,
    /// The kinds of its stage and of those before it.
    pub stages: Vec<Stage>,
    /// What was trained last; none if it is the base model.
    pub trained: Option<Trainable>,
}

/// One planned run.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// Identifies the run.
    pub id: RunId,
    /// Its position in the pipeline, from 0.
    pub depth: usize,
    /// The number of earlier stages of the same kind, those of the source too.
    pub earlier: usize,
    /// Index of its parent; `None` if it starts from the base model or the source.
    pub parent: Option<usize>,
    /// Its stage. With `continue_adapter` it trains what was trained last before it; that is off where nothing was.
    pub stage: StageRecipe,
    /// Index of its point of the experiment.
    pub point: usize,
    /// What decides its weights, as far as the recipe says.
    key: String,
}

/// Which pipeline of a point it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The model that is never aligned.
    Undefended,
    /// Plain training.
    Baseline,
    /// The method of the recipe.
    Tested,
}

/// The last runs of a pipeline.
#[derive(Clone, Debug)]
pub struct Final {
    /// Index of its point of the experiment.
    pub point: usize,
    /// Which pipeline it is. Plain training that is under test itself is [`Role::Tested`].
    pub role: Role,
    /// Indices of the runs of its last stage, for each ratio and seed.
    pub runs: Vec<usize>,
}

/// All runs of an experiment.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The runs; parents come before children.
    pub runs: Vec<RunSpec>,
    /// The last runs of each pipeline.
    pub finals: Vec<Final>,
    /// Which runs are compared with each other.
    pub layout: Layout,
}

impl Graph {
    /// The graph of `experiment`; pipelines start from `source`, if given.
    ///
    /// # Errors
    /// When a baseline method is not registered.
    pub fn of(experiment: &Experiment, source: Option<&Source>) -> Result<Self> {
        let (pipelines, tested) = pipelines(experiment, source)?;
        let mut graph = Self { runs: Vec::new(), finals: Vec::new(), layout: Layout::default() };
        let mut known = HashMap::new();
        // For each pipeline, its runs by depth, then by ratio and seed.
        let mut rows: Vec<Vec<Vec<usize>>> = Vec::new();
        for pipeline in &pipelines {
            let recipe = &experiment.points[pipeline.point].recipe;
            let mut row = vec![Vec::new(); pipeline.stages.len()];
            for &ratio in &recipe.settings.harmful_ratios {
                for &seed in &recipe.settings.seeds {
                    let path = graph.walk(pipeline, recipe, source, (ratio, seed), &mut known);
                    for (runs, run) in row.iter_mut().zip(path) {
                        if !runs.contains(&run) {
                            runs.push(run);
                        }
                    }
                }
            }
            rows.push(row);
        }
        let roles = pipelines.iter().enumerate().map(|(index, pipeline)| {
            match (tested.contains(&index), pipeline.label(0, None) == UNDEFENDED) {
                (true, _) => Role::Tested,
                (false, true) => Role::Undefended,
                (false, false) => Role::Baseline,
            }
        });
        let last = |row: &Vec<Vec<usize>>| row.last().cloned().unwrap_or_default();
        graph.finals = roles
            .zip(&pipelines)
            .zip(&rows)
            .map(|((role, pipeline), row)| Final { point: pipeline.point, role, runs: last(row) })
            .collect();
        graph.tell_apart(experiment);
        graph.layout = graph.compare(experiment, &pipelines, &rows, &tested);
        Ok(graph)
    }

    /// The runs of one pipeline under one ratio and seed; adds missing nodes.
    fn walk(
        &mut self,
        pipeline: &Pipeline,
        recipe: &Recipe,
        source: Option<&Source>,
        (ratio, seed): (f64, u64),
        known: &mut HashMap<String, usize>,
    ) -> Vec<usize> {
        let (mut path, mut parent) = (Vec::new(), None::<usize>);
        let mut user_ratio = source.and_then(|source| source.id.ratio);
        for (depth, stage) in pipeline.stages.iter().enumerate() {
            if stage.is_user() {
                user_ratio = Some(ratio);
            }
            let below = match parent {
                Some(parent) => json!(self.runs[parent].key),
                None => json!([recipe.model, source.map(|source| &source.digest)]),
            };
            let key = digest(&json!([
                below,
                stage.value(),
                recipe.training_data(),
                seed,
                user_ratio.map(f64::to_bits),
            ]));
            let next = self.runs.len();
            let run = *known.entry(key.clone()).or_insert(next);
            if run == next {
                let before = source.into_iter().flat_map(|source| source.stages.iter().copied());
                let before = before.chain(pipeline.stages[..depth].iter().map(|it| it.kind));
                let earlier = before.filter(|kind| *kind == stage.kind).count();
                let label = pipeline.label(depth, source);
                let mut stage = stage.clone();
                if stage.training.continue_adapter {
                    match self.trained_last(parent, source) {
                        Some(last) => stage.training.trainable = last,
                        None => stage.training.continue_adapter = false,
                    }
                }
                self.runs.push(RunSpec {
                    id: RunId { label, ratio: user_ratio, seed, axes: Vec::new() },
                    depth,
                    earlier,
                    parent,
                    stage,
                    point: pipeline.point,
                    key,
                });
            }
            path.push(run);
            parent = Some(run);
        }
        path
    }

    /// What the run `parent` or the last one before it that changed a model trained.
    fn trained_last(
        &self,
        mut parent: Option<usize>,
        source: Option<&Source>,
    ) -> Option<Trainable> {
        while let Some(run) = parent.map(|run| &self.runs[run]) {
            if run.stage.label() != UNDEFENDED {
                return Some(run.stage.training.trainable.clone());
            }
            parent = run.parent;
        }
        source?.trained.clone()
    }

    /// Where several runs share a name, appends the values of the axes on which they differ.
    fn tell_apart(&mut self, experiment: &Experiment) {
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, run) in self.runs.iter().enumerate() {
            groups.entry(run.id.path().display().to_string()).or_default().push(index);
        }
        for runs in groups.into_values().filter(|runs| runs.len() > 1) {
            for (axis, _) in experiment.axes.iter().enumerate() {
                let value = |run: &usize| &experiment.points[self.runs[*run].point].values[axis];
                let values: Vec<_> = runs.iter().map(value).cloned().collect();
                if values.iter().all(|value| *value == values[0]) {
                    continue;
                }
                for (run, (key, value)) in runs.iter().zip(values) {
                    self.runs[*run].id.axes.push((key, short(&value)));
                }
            }
        }
        // Runs that still share a name are stages of one pipeline.
        let mut taken = BTreeMap::new();
        for run in &mut self.runs {
            let count = taken.entry(run.id.path()).or_insert(0);
            *count += 1;
            if *count > 1 {
                run.id.axes.push(("stage".to_owned(), (run.depth + 1).to_string()));
            }
        }
    }

    fn compare(
        &self,
        experiment: &Experiment,
        pipelines: &[Pipeline],
        rows: &[Vec<Vec<usize>>],
        tested: &[usize],
    ) -> Layout {
        let recipe = experiment.recipe();
        let depths = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut blocks: Vec<Block> = Vec::new();
        for depth in 0..depths {
            let mut whens: Vec<When> = Vec::new();
            for run in rows.iter().filter_map(|row| row.get(depth)).flatten() {
                let RunSpec { id, stage, earlier, .. } = &self.runs[*run];
                let (stage, again) = (stage.kind, *earlier > 0);
                let when = When { stage, depth, ratio: id.ratio, again };
                if !whens.contains(&when) {
                    whens.push(when);
                }
            }
            blocks.extend(whens.into_iter().map(|when| self.block(when, pipelines, rows, tested)));
        }
        let columns = recipe.metrics.iter().flat_map(|metric| {
            metric.config.columns().iter().map(|column| (metric.name.to_owned(), *column))
        });
        Layout {
            blocks,
            columns: columns.collect(),
            seeds: recipe.settings.seeds.clone(),
            ratios: recipe.settings.harmful_ratios.clone(),
        }
    }

    /// The rows of one block. After post-tuning, each repaired model stands next to its parent.
    fn block(
        &self,
        when: When,
        pipelines: &[Pipeline],
        rows: &[Vec<Vec<usize>>],
        tested: &[usize],
    ) -> Block {
        let mut block = Block { when, lines: Vec::new(), tested: Vec::new() };
        let name_at = |index: usize, depth: usize| {
            let here = rows[index].get(depth)?.iter().map(|run| &self.runs[*run].id);
            here.filter(|id| id.ratio == when.ratio).map(RunId::row).next()
        };
        // Plain training under the settings of a point of the axes, at this block's moment.
        let baseline_of = |point: usize| {
            let (index, plain) = pipelines.iter().enumerate().find(|(_, pipeline)| {
                // Later stages of plain training may have names of their own.
                pipeline.beside && pipeline.point == point && pipeline.label(0, None) == BASELINE
            })?;
            name_at(index, when.depth.min(plain.stages.len() - 1))
        };
        for (index, row) in rows.iter().enumerate() {
            let repaired = when.repairs();
            let last = row.len().saturating_sub(1);
            let depths = match row.get(when.depth) {
                Some(_) if repaired && when.depth > 0 => vec![when.depth - 1, when.depth],
                Some(_) => vec![when.depth],
                None if when.ratio.is_some() => vec![last],
                None => Vec::new(),
            };
            for depth in depths {
                let here = row[depth].iter().map(|run| &self.runs[*run].id);
                let runs: Vec<_> = here.filter(|id| id.ratio == when.ratio).cloned().collect();
                let Some(name) = runs.first().map(RunId::row) else { continue };
                if block.line(&name).is_none() {
                    let baseline = baseline_of(pipelines[index].point);
                    block.lines.push(Line { name: name.clone(), runs, baseline });
                }
                let tested = tested.contains(&index) && depth == when.depth.min(last);
                if tested && !block.tested.contains(&name) {
                    block.tested.push(name);
                }
            }
        }
        block
    }

    /// The run and its ancestors, the first stage first.
    pub fn lineage(&self, run: usize) -> Vec<usize> {
        let mut path = vec![run];
        while let Some(parent) = self.runs[*path.last().unwrap_or(&run)].parent {
            path.push(parent);
        }
        path.reverse();
        path
    }

    /// The runs that start from `parent`; from the base model or source for `None`.
    pub fn children(&self, parent: Option<usize>) -> impl Iterator<Item = usize> {
        let all = self.runs.iter().enumerate();
        all.filter(move |(_, run)| run.parent == parent).map(|(index, _)| index)
    }
}

/// The value of an axis as part of a path.
pub(crate) fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => match map.get("name").and_then(Value::as_str) {
            Some(name) => format!("{name}-{}", &digest(value)[..6]),
            None => digest(value)[..8].to_owned(),
        },
        Value::Array(_) => digest(value)[..8].to_owned(),
        // Writes 1.0 and 1 alike.
        Value::Number(number) => number.as_f64().map_or(number.to_string(), |it| it.to_string()),
        other => other.to_string(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    text.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}
