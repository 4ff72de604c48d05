//! Settings of the metric.

use serde::{Deserialize, Serialize};
use vxf_core::prelude::*;

use crate::algorithm::DriftMetric;

/// The norm of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// The L2 norm.
    #[default]
    L2,
    /// The squared L2 norm.
    L2Squared,
}

/// The span of one norm, and how norms are reduced to one figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// One norm per batch and site, over samples, positions and width; then the sum.
    Sum,
    /// One norm per sample, over sites, positions and width; then the mean over samples.
    #[default]
    MeanSample,
    /// One norm per token, over sites and width; then the mean over tokens.
    MeanToken,
}

/// A named definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The other settings define the figure.
    #[default]
    None,
    /// The published definition: see [`DriftConfig::reference`].
    Reference,
}

vxf_core::config! {
    /// Settings of the metric `drift`: the definition of the figure.
    pub struct DriftConfig {
        /// Sites where hidden embeddings are compared.
        pub sites: SiteSelection = SiteSelection::default(),
        /// The norm of the change: l2 or l2_squared.
        pub norm: Norm = Norm::L2,
        /// How norms are reduced. mean_sample: the mean of one norm per sample (over its sites and
        /// positions). mean_token: the mean of one norm per token (over sites). sum: the sum of one
        /// norm per batch and site.
        pub reduce: Reduce = Reduce::MeanSample,
        /// Mask padding in attention and leave it out; if false, padded positions are computed and
        /// counted, as in the published code.
        pub mask_padding: bool = true,
        /// Also report `relative_drift`: the drift divided by the same norm of the aligned model's
        /// own hidden embeddings.
        pub relative: bool = true,
        /// Maximum number of batches; 0 uses all.
        pub max_batches: usize = 0,
        /// none or reference. reference uses the published definition instead of all settings
        /// except `relative`: squared L2 norms at attention outputs, summed over layers and at most
        /// 10 batches, padding counted.
        pub preset: Preset = Preset::None,
    }
}

impl DriftConfig {
    /// The definition of the published code: `sum` of `l2_squared` over the attention outputs of
    /// at most 10 batches, without attention mask, padding counted.
    pub fn reference() -> Self {
        Self {
            sites: SiteSelection::all(SiteKind::AttentionOutput),
            norm: Norm::L2Squared,
            reduce: Reduce::Sum,
            mask_padding: false,
            relative: true,
            max_batches: 10,
            preset: Preset::Reference,
        }
    }

    /// These settings with the preset applied.
    pub fn resolved(&self) -> Self {
        match self.preset {
            Preset::None => self.clone(),
            Preset::Reference => Self { relative: self.relative, ..Self::reference() },
        }
    }
}

#[typetag::serde(name = "drift")]
impl MetricConfig for DriftConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let named = !Vec::<String>::from(self.sites.clone()).is_empty();
        ConfigError::unless(named, "sites", "must name at least one site", "[]")
    }

    fn needs(&self) -> Needs {
        Needs::none().samples("alignment").reference(Reference::Aligned)
    }

    fn columns(&self) -> &[Column] {
        &[
            Column { figure: "drift", header: "drift", decimals: 2, of_aligned: false },
            Column {
                figure: "relative_drift",
                header: "relative drift",
                decimals: 3,
                of_aligned: false,
            },
        ]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(DriftMetric { definition: self.resolved() }))
    }

    fn follows_training(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_overrides_the_definition() -> Result<()> {
        let entry = vxf_core::registry::find::<dyn MetricConfig>("drift")?;
        assert!((entry.parse)(serde_json::json!({ "preset": "reference" }))?.follows_training());
        let mixed = DriftConfig {
            preset: Preset::Reference,
            reduce: Reduce::MeanToken,
            relative: false,
            ..DriftConfig::default()
        };
        assert_eq!(mixed.resolved(), DriftConfig { relative: false, ..DriftConfig::reference() });
        assert_eq!(DriftConfig::default().resolved(), DriftConfig::default());
        Ok(())
    }

    #[test]
    fn invalid_settings_are_rejected() -> Result<()> {
        let parse = vxf_core::registry::find::<dyn MetricConfig>("drift")?.parse;
        for wrong in [
            serde_json::json!({ "sites": [] }),
            serde_json::json!({ "sites": ["attention"] }),
            serde_json::json!({ "norm": "l1" }),
            serde_json::json!({ "max_batches": -1 }),
            serde_json::json!({ "mask_pad": true }),
        ] {
            assert!(parse(wrong.clone()).is_err(), "{wrong}");
        }
        let given = serde_json::json!({ "sites": ["block_output.3"], "norm": "l2_squared" });
        let config = parse(given)?;
        let text = serde_json::to_string(&config).expect("settings are plain");
        let read: Box<dyn MetricConfig> = serde_json::from_str(&text).expect("it was just written");
        assert_eq!(format!("{read:?}"), format!("{config:?}"));
        Ok(())
    }
}
