//! Random cases, and the runner that checks a law on them.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::DType;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vxf_core::adapter::{Lora, Trainable};
use vxf_core::engine::Recompute;
use vxf_core::{Backbone, Batch, Key, Padding, Params, Result, Site, SiteSelection};

use crate::batches::{Rows, paddings};
use crate::toy::{Toy, ToyShape};

/// A random case: a toy, its trainable set, samples and sites.
#[derive(Clone, Debug)]
pub struct Case {
    /// The toy's dimensions.
    pub shape: ToyShape,
    /// Whether it computes in f64 instead of f32.
    pub double: bool,
    /// Whether an adapter is trained, not all weights.
    pub lora: bool,
    /// Number of samples.
    pub rows: usize,
    /// The most tokens in a sample.
    pub longest: usize,
    /// How padding is treated.
    pub padding: Padding,
    /// Sites that are asked for, as a recipe spells them.
    pub sites: Vec<String>,
    /// Whether each block is computed again in the backward pass.
    pub blockwise: bool,
    /// The seed of all randomness.
    pub seed: u64,
}

impl Case {
    /// The toy.
    pub fn backbone(&self) -> Result<Arc<dyn Backbone>> {
        let dtype = if self.double { DType::F64 } else { DType::F32 };
        let trainable = match self.lora {
            false => Trainable::Full,
            true => Trainable::Lora(Lora {
                rank: 2,
                alpha: 4.0,
                dropout: self.shape.dropout,
                ..Lora::default()
            }),
        };
        Toy::new(&self.shape, dtype, self.seed)?.with_trainable(&trainable)
    }

    /// Weights for it.
    pub fn weights(&self, backbone: &dyn Backbone) -> Result<Params> {
        crate::training::weights(backbone, self.seed)
    }

    /// The samples.
    pub fn samples(&self) -> Rows {
        let key = Key::root(self.seed).child("samples");
        Rows::random(self.rows, self.longest, self.shape.vocabulary, &key)
            .with_padding(self.padding)
    }

    /// The samples as one batch.
    pub fn batch(&self) -> Result<Batch> {
        self.samples().batch(crate::device())
    }

    /// The requested selection.
    pub fn selection(&self) -> Result<SiteSelection> {
        SiteSelection::try_from(self.sites.clone())
    }

    /// The requested sites.
    pub fn sites(&self) -> Result<Vec<Site>> {
        self.selection()?.resolve(self.shape.layers)
    }

    /// What the loop keeps for the backward pass.
    pub fn recompute(&self) -> Recompute {
        if self.blockwise { Recompute::Block } else { Recompute::None }
    }

    /// The unit roundoff: the relative rounding error of a hidden embedding plus its perturbation.
    pub fn rounding(&self) -> f64 {
        if self.double { f64::EPSILON / 2.0 } else { f64::from(f32::EPSILON) / 2.0 }
    }

    /// The same case without dropout.
    pub fn without_dropout(mut self) -> Self {
        self.shape.dropout = 0.0;
        self
    }
}

/// Cases of all kinds, most with dropout.
pub fn cases() -> impl Strategy<Value = Case> {
    let shape = (1usize..=3, 2usize..=8, prop_oneof![Just(0.0), Just(0.3)]);
    let samples = (1usize..=4, 2usize..=7, paddings());
    let sites = proptest::sample::subsequence(
        vec!["embedding", "attention_output", "mlp_output", "block_output", "block_output.0"],
        1..=3,
    );
    let modes = (any::<bool>(), any::<bool>(), any::<bool>());
    (shape, samples, sites, modes, any::<u64>()).prop_map(|(shape, samples, sites, modes, seed)| {
        let (layers, width, dropout) = shape;
        let (rows, longest, padding) = samples;
        let (double, lora, blockwise) = modes;
        Case {
            shape: ToyShape { layers, width, dropout, ..ToyShape::default() },
            double,
            lora,
            rows,
            longest,
            padding,
            sites: sites.into_iter().map(str::to_owned).collect(),
            blockwise,
            seed,
        }
    })
}

/// Checks `law` on `count` random values (`PROPTEST_CASES` overrides the count).
///
/// # Panics
/// When it fails, with the smallest failing value found.
pub fn property<S: Strategy>(count: u32, values: S, law: impl Fn(S::Value) -> Result<()>)
where
    S::Value: Debug,
{
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: asked.unwrap_or(count),
        max_shrink_iters: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config)
        .run(&values, |value| law(value).map_err(|error| TestCaseError::fail(error.to_string())));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
