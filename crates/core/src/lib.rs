//! The four traits of vxf, its registry and its min-max loop: all that a plugin needs.
//!
//! Read [`minmax`] first: the loop fits one screen. A method is a [`Defense`]; what it perturbs is
//! up to a [`Perturber`]; the model is a [`Backbone`], cut at its hidden-embedding sites; what came
//! of it is measured by a [`Metric`].

pub mod adapter;
pub mod autograd;
pub mod backbone;
pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod defense;
pub mod engine;
mod error;
mod family;
mod finite;
pub mod generate;
pub mod lineage;
pub mod loss;
pub mod metric;
pub mod minmax;
pub mod numeric;
pub mod optimizer;
pub mod outside;
mod params;
pub mod peft;
pub mod perturber;
pub mod processor;
pub mod registry;
pub mod resume;
pub mod rng;
pub mod scalar;
pub mod schedule;
pub mod site;
pub mod step;
pub mod stream;

pub use adapter::{Lora, Trainable};
pub use backbone::{Backbone, Pass, Tap};
pub use batch::{Batch, Example};
pub use defense::{Defense, Stage};
pub use error::{Error, Result};
pub use metric::{Measurement, Metric};
pub use params::{Gradients, Params};
pub use perturber::{Perturbation, Perturber};
pub use registry::ConfigError;
pub use rng::Key;
pub use scalar::Scalar;
pub use site::{Hidden, Site, SiteKind, SiteSelection};
pub use step::Step;

#[doc(hidden)]
pub use inventory;
pub use typetag;

/// What a plugin's files import.
pub mod prelude {
    pub use crate::backbone::{Parameter, Part};
    pub use crate::config::{DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig};
    pub use crate::defense::State;
    pub use crate::engine::Objective;
    pub use crate::lineage::{Lineage, Reference};
    pub use crate::loss::{cross_entropy, log_softmax};
    pub use crate::optimizer::{AdamW, AdamWConfig};
    pub use crate::step::Role;
    pub use crate::{
        Backbone, Batch, ConfigError, Defense, Error, Gradients, Hidden, Key, Lora, Measurement,
        Metric, Params, Pass, Perturbation, Perturber, Result, Scalar, Site, SiteKind,
        SiteSelection, Stage, Step, Trainable,
    };
    pub use typetag;
}
