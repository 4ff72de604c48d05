//! The laws of defences and of settings hold for a correct method, and fail for broken ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::json;
use vxf_core::config::{DefenseConfig, Documented, Setting};
use vxf_core::defense::State;
use vxf_core::prelude::*;
use vxf_testkit::{config, defense};

/// Descends along a running mean of gradients: a method with state.
struct Smooth {
    keep: f64,
    flaw: Flaw,
    mean: Gradients,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
/// A possible flaw.
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// Saves no state in a checkpoint.
    Forgetful,
    /// Behaves differently each time.
    Erratic,
    /// Adds to every weight at the end.
    Grasping,
}

static CALLS: AtomicU32 = AtomicU32::new(0);

impl Defense for Smooth {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let gradients = step.gradients(&perturbation)?;
        self.mean = match self.mean.is_empty() {
            true => gradients,
            false => self.mean.scale(self.keep)?.add_scaled(&gradients, 1.0 - self.keep)?,
        };
        if self.flaw == Flaw::Erratic {
            let calls = f64::from(CALLS.fetch_add(1, Ordering::Relaxed));
            self.mean = self.mean.map(|mean| Ok((mean + calls)?))?;
        }
        Ok(self.mean.clone())
    }

    fn finish(&mut self, _: &mut Step<'_>, weights: Params) -> Result<Params> {
        match self.flaw {
            Flaw::Grasping => weights.map(|weight| Ok((weight + 0.01)?)),
            _ => Ok(weights),
        }
    }

    fn state(&self) -> Result<State> {
        if self.flaw == Flaw::Forgetful {
            return Ok(State::default());
        }
        Ok(State { tensors: self.mean.clone(), ..State::default() })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.mean = state.tensors;
        Ok(())
    }
}

vxf_core::config! {
    /// Settings of `smooth`.
    pub struct SmoothConfig {
        /// How much of the mean is kept.
        pub keep: f64 = 0.5,
        /// Its flaw.
        pub flaw: Flaw = Flaw::None,
    }
}

#[typetag::serde(name = "smooth")]
impl DefenseConfig for SmoothConfig {
    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Smooth { keep: self.keep, flaw: self.flaw, mean: Gradients::new() }))
    }
}

vxf_core::register! {
    defense "smooth" => SmoothConfig,
    summary: "A running mean of gradients",
    paper: "-",
    stages: [Alignment, FineTuning],
}

vxf_testkit::defense_laws!("smooth", json!({ "keep": 0.25 }));

/// Returns the running mean of the trained weights, but does not save it.
#[derive(Default)]
struct Average {
    mean: Option<Params>,
}

impl Defense for Average {
    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.mean = Some(match &self.mean {
            None => step.weights().copy()?,
            Some(mean) => mean.scale(0.5)?.add_scaled(step.weights(), 0.5)?,
        });
        Ok(())
    }

    fn finish(&mut self, _: &mut Step<'_>, weights: Params) -> Result<Params> {
        Ok(self.mean.take().unwrap_or(weights))
    }
}

vxf_core::config! {
    /// Settings of `average`.
    pub struct AverageConfig {}
}

#[typetag::serde(name = "average")]
impl DefenseConfig for AverageConfig {
    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Average::default()))
    }
}

vxf_core::register! {
    defense "average" => AverageConfig,
    summary: "A running mean of weights",
    paper: "-",
    stages: [FineTuning],
}

/// Descends along the alignment stream without recording its loss.
struct Silent;

impl Defense for Silent {
    fn gradients(&mut self, _: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        step.on("alignment").gradients()
    }
}

vxf_core::config! {
    /// Settings of `silent`.
    pub struct SilentConfig {}
}

#[typetag::serde(name = "silent")]
impl DefenseConfig for SilentConfig {
    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Silent))
    }
}

vxf_core::register! {
    defense "silent" => SilentConfig,
    summary: "Does not record its loss",
    paper: "-",
    stages: [FineTuning],
}

/// Leaves out the sample of the highest loss, and may forget which one that was.
struct Picky {
    forgetful: bool,
    kept: Option<Vec<usize>>,
}

impl Defense for Picky {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        let main = step.main();
        let mut losses = Vec::new();
        for sample in 0..step.samples_of(&main)? {
            let batch = step.pick(&main, &[sample])?;
            losses.push(step.on(&main).reading(&batch).role(Role::Evaluation).loss()?);
        }
        let highest = losses.iter().copied().fold(f64::MIN, f64::max);
        self.kept = Some((0..losses.len()).filter(|at| losses[*at] < highest).collect());
        Ok(())
    }

    fn keeps(&self) -> Option<Vec<usize>> {
        self.kept.clone()
    }

    fn state(&self) -> Result<State> {
        let values = if self.forgetful { json!(null) } else { json!(self.kept) };
        Ok(State { values, ..State::default() })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        let kept = serde_json::from_value(state.values);
        self.kept = kept.map_err(|error| Error::State(error.to_string()))?;
        Ok(())
    }
}

vxf_core::config! {
    /// Settings of `picky`.
    pub struct PickyConfig {
        /// Whether a resumed training reads all samples.
        pub forgetful: bool = false,
    }
}

#[typetag::serde(name = "picky")]
impl DefenseConfig for PickyConfig {
    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Picky { forgetful: self.forgetful, kept: None }))
    }
}

vxf_core::register! {
    defense "picky" => PickyConfig,
    summary: "Leaves a sample out",
    paper: "-",
    stages: [FineTuning],
}

/// Settings that differ from their documentation and accept unknown keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LooseConfig {
    #[serde(default)]
    keep: f64,
}

impl Default for LooseConfig {
    fn default() -> Self {
        Self { keep: 0.5 }
    }
}

impl Documented for LooseConfig {
    fn settings() -> Vec<Setting> {
        vec![Setting { name: "keep", meaning: "How much is kept.".into(), default: json!(0.5) }]
    }
}

#[typetag::serde(name = "loose")]
impl DefenseConfig for LooseConfig {
    fn build(&self, context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        SmoothConfig::default().build(context)
    }
}

vxf_core::register! {
    defense "loose" => LooseConfig,
    summary: "Settings with wrong documentation",
    paper: "-",
    stages: [Alignment],
}

fn refused(law: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(law)).is_err(), "the law accepted a broken method");
}

#[test]
fn each_flaw_is_found() {
    refused(|| defense::resumes_to_the_bit("smooth", &json!({ "flaw": "forgetful" })));
    refused(|| defense::repeats_itself("smooth", &json!({ "flaw": "erratic" })));
    refused(|| defense::leaves_frozen_weights_alone("smooth", &json!({ "flaw": "grasping" })));
    refused(|| defense::resumes_to_the_bit("average", &json!({})));
    defense::resumes_to_the_bit("picky", &json!({}));
    refused(|| defense::resumes_to_the_bit("picky", &json!({ "forgetful": true })));
    refused(|| config::documents_its_defaults::<dyn DefenseConfig>("loose"));
    refused(|| config::refuses_unknown_keys::<dyn DefenseConfig>("loose"));
    refused(|| config::documents_its_defaults::<dyn DefenseConfig>("not registered"));
}

/// If the loss is missing, the law says what the method must do.
#[test]
fn a_missing_loss_is_explained() {
    let law = || defense::repeats_itself("silent", &json!({}));
    let panic = catch_unwind(AssertUnwindSafe(law)).expect_err("no loss to look at");
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("step.on_main().gradients()"), "{message}");
}
