//! The streams that a perturber declares are checked before anything is loaded, as for a defence.

use vxf_access::Access;
use vxf_builtins as _;
use vxf_core::prelude::*;
use vxf_recipe::{Experiment, file};
use vxf_run::Estimate;

/// Perturbs the weights along the gradient on another stream.
struct Elsewhere {
    stream: &'static str,
}

impl Perturber for Elsewhere {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        Ok(Perturbation::Weights(step.on(self.stream).gradients()?))
    }
}

vxf_core::config! {
    /// Settings of `elsewhere`.
    pub struct ElsewhereConfig {
        /// Whether it reads an existing stream.
        pub known: bool = true,
    }
}

impl ElsewhereConfig {
    fn stream(&self) -> &'static str {
        if self.known { "harmful" } else { "nowhere" }
    }
}

#[typetag::serde(name = "elsewhere")]
impl PerturberConfig for ElsewhereConfig {
    fn needs(&self) -> Needs {
        Needs::none().stream(self.stream())
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Perturber>> {
        Ok(Box::new(Elsewhere { stream: self.stream() }))
    }
}

vxf_core::register! {
    perturber "elsewhere" => ElsewhereConfig,
    summary: "Along the gradient on another stream",
    paper: "-",
}

fn seen(text: &str) -> String {
    let layer = file::parse(text, "recipe.toml").expect("a recipe");
    let experiment = Experiment::of(layer).expect("a recipe that can be resolved");
    let access = Access::new(true).expect("nothing is asked for");
    Estimate::of(&experiment, access).map(drop).expect_err("refused").to_string()
}

#[test]
fn a_stream_that_the_data_does_not_have_is_refused() {
    let error =
        seen("[defense]\nname = \"sft\"\n[perturber]\nname = \"elsewhere\"\nknown = false\n");
    assert!(error.contains("the perturber `elsewhere`"), "{error}");
    assert!(error.contains("embedded world has no such set"), "{error}");
}

#[test]
fn a_stream_without_data_is_refused_by_the_data_it_needs() {
    let with = |perturber: &str| {
        seen(&format!(
            "[defense]\nname = \"sft\"\n[perturber]\nname = \"{perturber}\"\n[model]\npath = \"none\"\n\
             [data.alignment]\npath = \"none\"\n[data.user]\npath = \"none\"\n\
             [data.harmful]\npath = \"none\"\n"
        ))
    };
    let error = with("elsewhere");
    assert!(error.contains("the perturber `elsewhere`") && error.contains("simulated"), "{error}");
    assert!(!with("none").contains("simulated"));
}
