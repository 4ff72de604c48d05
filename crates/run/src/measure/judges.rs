//! The judges of a recipe, built once and shared by all seeds.

use std::sync::Arc;

use vxf_core::config::BuildContext;
use vxf_core::metric::{Findings, Generation, Judge, NamedJudge, Verdict};

use vxf_recipe::Recipe;

use crate::Result;
use vxf_access::{Access, Base};

/// Judges by name, in the recipe's order.
#[derive(Clone)]
pub struct Judges(Vec<(String, Arc<dyn Judge>)>);

impl Judges {
    /// The judges of `recipe`.
    ///
    /// # Errors
    /// When a judge cannot be built.
    pub fn build(recipe: &Recipe, base: &Base, access: &Access) -> Result<Self> {
        let locate = |name: &str| access.model_for_plugin(name);
        let context = BuildContext { device: base.device(), model: &locate };
        let mut judges = Vec::new();
        for chosen in &recipe.judges {
            judges.push((chosen.name.to_owned(), Arc::from(chosen.config.build(&context)?)));
        }
        Ok(Self(judges))
    }

    /// The judges in the form that metrics take.
    pub(super) fn named(&self) -> Vec<NamedJudge> {
        let named = |(name, judge): &(String, Arc<dyn Judge>)| NamedJudge {
            name: name.clone(),
            judge: Box::new(Shared(judge.clone())),
        };
        self.0.iter().map(named).collect()
    }
}

/// A judge shared by several owners.
struct Shared(Arc<dyn Judge>);

impl Judge for Shared {
    fn verdicts(&self, generations: &[Generation]) -> vxf_core::Result<Vec<Verdict>> {
        self.0.verdicts(generations)
    }

    fn findings(&self, generations: &[Generation]) -> vxf_core::Result<Findings> {
        self.0.findings(generations)
    }

    fn tells_refusals(&self) -> bool {
        self.0.tells_refusals()
    }

    fn grades(&self, generations: &[Generation]) -> vxf_core::Result<Vec<Option<bool>>> {
        self.0.grades(generations)
    }

    fn openings(&self) -> Option<(&[&'static str], &[&'static str])> {
        self.0.openings()
    }
}
