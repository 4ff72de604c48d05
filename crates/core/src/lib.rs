//! The four traits of vxf, its registry and its min-max loop: everything that a plugin needs.
//!
//! Read [`minmax`] first: the loop fits one screen. A method is a [`Defense`]; what it perturbs is
//! up to a [`Perturber`]; the model is a [`Backbone`], cut at its hidden-embedding sites; a
//! [`Metric`] measures the result.

pub mod adapter;
pub mod backbone;
pub mod batch;
mod composition;
pub mod config;
pub mod defense;
pub mod engine;
mod error;
mod finite;
pub mod generate;
pub mod lineage;
pub mod loss;
mod measurement;
pub mod metric;
pub mod minmax;
pub mod needs;
pub mod optimizer;
mod outcomes;
mod params;
pub mod perturber;
mod precision;
pub mod rectangular;
pub mod registry;
pub mod resume;
pub mod schedule;
pub mod site;
pub mod step;
pub mod stream;

/// The version of the arithmetic. It is raised whenever the bits of trained weights change; it is
/// part of every run's identity.
pub const NUMERICS: u32 = 3;

pub use adapter::{Lora, Trainable};
pub use backbone::{Backbone, Pass, Tap};
pub use batch::{Batch, Example, Padding};
pub use composition::Composition;
pub use defense::{Defense, Stage};
pub use error::{Error, Result};
pub use lineage::{Lineage, Reference};
pub use metric::{Measurement, Metric};
pub use needs::Needs;
pub use outcomes::Outcomes;
pub use params::{Gradients, Params};
pub use perturber::{Perturbation, Perturber};
pub use registry::ConfigError;
pub use site::{Hidden, Site, SiteKind, SiteSelection};
pub use step::Step;
pub use vxf_tensor::{Key, Mask, Rows, Scalar, numeric, quantized};

#[doc(hidden)]
pub use inventory;
pub use typetag;

/// What a plugin's files import.
pub mod prelude {
    pub use crate::backbone::{Parameter, Part};
    pub use crate::config::{
        BuildContext, Claim, Column, DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig,
        Reading,
    };
    pub use crate::defense::State;
    pub use crate::engine::{Lens, Objective};
    pub use crate::lineage::{Lineage, Reference};
    pub use crate::loss::{cross_entropy, log_softmax};
    pub use crate::optimizer::{AdamW, AdamWConfig};
    pub use crate::step::Role;
    pub use crate::{
        Backbone, Batch, ConfigError, Defense, Error, Gradients, Hidden, Key, Lora, Measurement,
        Metric, Needs, Outcomes, Padding, Params, Pass, Perturbation, Perturber, Result, Rows,
        Scalar, Site, SiteKind, SiteSelection, Stage, Step, Trainable,
    };
    pub use typetag;
}
