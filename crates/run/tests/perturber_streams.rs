//! The streams that a perturber declares are checked before anything loads, like a defence's.

use vxf_builtins as _;
use vxf_core::prelude::*;
use vxf_run::access::Access;
use vxf_run::estimate::Prospect;
use vxf_run::plan::Plan;
use vxf_run::{recipe_file, resolve};

/// Perturbs the weights along the gradient on another stream.
struct Elsewhere {
    stream: [&'static str; 1],
}

impl Perturber for Elsewhere {
    fn streams(&self) -> &[&'static str] {
        &self.stream
    }

    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        Ok(Perturbation::Weights(step.on(self.stream[0]).gradients()?))
    }
}

vxf_core::config! {
    /// Settings of `elsewhere`.
    pub struct ElsewhereConfig {
        /// Whether it reads a stream that there is.
        pub known: bool = true,
    }
}

#[typetag::serde(name = "elsewhere")]
impl PerturberConfig for ElsewhereConfig {
    fn build(&self) -> Box<dyn Perturber> {
        Box::new(Elsewhere { stream: [if self.known { "harmful" } else { "nowhere" }] })
    }
}

vxf_core::register! {
    perturber "elsewhere" => ElsewhereConfig,
    summary: "Along the gradient on another stream",
    paper: "-",
}

fn recipe(text: &str) -> vxf_run::recipe::Recipe {
    let layer = recipe_file::parse(text, "recipe.toml").expect("a recipe");
    resolve::resolve(layer).expect("a recipe that can be resolved")
}

#[test]
fn a_stream_that_the_stage_does_not_have_is_refused_by_the_plan() {
    let recipe =
        recipe("[defense]\nname = \"sft\"\n[perturber]\nname = \"elsewhere\"\nknown = false\n");
    let error = Plan::of(&recipe).map(drop).expect_err("no such stream").to_string();
    assert!(error.contains("`nowhere`") && error.contains("alignment, harmful"), "{error}");
}

#[test]
fn a_stream_without_data_is_refused_by_the_data_it_needs() {
    let with = |perturber: &str| {
        format!(
            "[defense]\nname = \"sft\"\n[perturber]\nname = \"{perturber}\"\n[model]\npath = \"none\"\n\
             [data.alignment]\npath = \"none\"\n[data.user]\npath = \"none\"\n\
             [data.harmful]\npath = \"none\"\n"
        )
    };
    let told = |perturber: &str| {
        let access = Access::new(true).expect("nothing is asked for");
        let seen = Prospect::of(&recipe(&with(perturber)), &access);
        seen.map(drop).expect_err("neither model nor data are here").to_string()
    };
    let error = told("elsewhere");
    assert!(error.contains("the perturber `elsewhere`") && error.contains("simulated"), "{error}");
    assert!(!told("none").contains("simulated"));
}
