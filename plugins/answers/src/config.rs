//! The four metrics have no settings; prompts and judges come from the evaluation.

use vxf_core::prelude::*;

use crate::{Accuracy, HarmfulScore, Helpfulness, OverRefusal};

vxf_core::config! {
    /// The metric `harmful-score` has no settings.
    pub struct HarmfulScoreConfig {}
}

vxf_core::config! {
    /// The metric `accuracy` has no settings.
    pub struct AccuracyConfig {}
}

vxf_core::config! {
    /// The metric `helpfulness` has no settings.
    pub struct HelpfulnessConfig {}
}

vxf_core::config! {
    /// The metric `over-refusal` has no settings.
    pub struct OverRefusalConfig {}
}

#[typetag::serde(name = "harmful-score")]
impl MetricConfig for HarmfulScoreConfig {
    fn needs(&self) -> Needs {
        Needs::none().prompts("harmful")
    }

    fn columns(&self) -> &[Column] {
        const {
            &[
                Column::standard("harmful_score", "HS %", 1).with_reading(Reading::Compared),
                Column::standard("harmful_other", "other %", 1).with_reading(Reading::Unclear(
                    "most answers to forbidden requests are neither refusal nor compliance, so its \
                     harmful score is no sign of safety",
                )),
                Column::further("refusal_margin", "refusal margin", 2),
            ]
        }
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(HarmfulScore))
    }
}

#[typetag::serde(name = "accuracy")]
impl MetricConfig for AccuracyConfig {
    fn needs(&self) -> Needs {
        Needs::none().prompts("task")
    }

    fn columns(&self) -> &[Column] {
        const {
            let lost = Reading::Kept("it no longer does the user's task");
            &[Column::standard("accuracy", "FA %", 1).with_reading(lost)]
        }
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(Accuracy))
    }
}

#[typetag::serde(name = "helpfulness")]
impl MetricConfig for HelpfulnessConfig {
    fn needs(&self) -> Needs {
        Needs::none().prompts("benign")
    }

    fn columns(&self) -> &[Column] {
        const {
            let lost = Reading::Kept("it no longer helps with harmless requests");
            &[
                Column::standard("helpfulness", "helpful %", 1).with_reading(lost),
                Column::further("benign_other", "benign other %", 1).with_reading(
                    Reading::Unclear(
                        "most answers to harmless requests are neither refusal nor help",
                    ),
                ),
            ]
        }
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(Helpfulness))
    }
}

#[typetag::serde(name = "over-refusal")]
impl MetricConfig for OverRefusalConfig {
    fn needs(&self) -> Needs {
        Needs::none().prompts("borderline")
    }

    fn columns(&self) -> &[Column] {
        const { &[Column::further("over_refusal", "over-refusal %", 1)] }
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(OverRefusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_found_by_name() -> Result<()> {
        for name in ["harmful-score", "accuracy", "helpfulness", "over-refusal"] {
            let entry = vxf_core::registry::find::<dyn MetricConfig>(name)?;
            let config = vxf_core::registry::default_of::<dyn MetricConfig>(name)?;
            let written = serde_json::to_value(&config).expect("settings are plain");
            assert_eq!(written, serde_json::json!({ "name": name }));
            assert!((entry.parse)(serde_json::json!({ "threshold": 0.5 })).is_err());
        }
        Ok(())
    }
}
