//! The model that a run starts from.

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use vxf_access::Base;
use vxf_core::metric::Model;
use vxf_core::{Backbone, Lineage, Params};
use vxf_hf::Checkpoint;

use crate::Result;
use crate::store::finished::{self, Run, StageWeights};

/// A start model, with the adapter to train further, if any.
pub(crate) struct Start {
    /// The model.
    pub(crate) model: Arc<dyn Backbone>,
    /// The parent's adapter.
    pub(crate) adapter: Option<Params>,
}

impl Start {
    /// The last model of `lineage`, merged into the base; with `continues`, its adapter stays separate.
    pub(crate) fn of(base: &Base, lineage: &[Run], continues: bool) -> Result<Self> {
        let mut layers = finished::layers(lineage);
        let last = if continues { layers.pop() } else { None };
        let merged = match layers.as_slice() {
            [] => base.model()?,
            layers => base.load(&finished::merged(base, layers)?)?,
        };
        let Some(StageWeights { trainable, .. }) = &last else {
            return Ok(Self { model: merged, adapter: None });
        };
        let adapter = last.as_ref().map(|layer| layer.weights(base)).transpose()?;
        Ok(Self { model: merged.with_trainable(trainable)?, adapter })
    }
}

/// A reference model: the base with what runs have trained.
pub(crate) struct Ancestor {
    base: Arc<Base>,
    /// Its weights; none if they are those of the base.
    trained: Option<Checkpoint>,
}

impl Ancestor {
    /// The model after `runs`.
    pub(crate) fn of(base: &Arc<Base>, runs: &[Run]) -> Result<Self> {
        let trained = match finished::layers(runs).as_slice() {
            [] => None,
            layers => Some(finished::merged(base, layers)?),
        };
        Ok(Self { base: base.clone(), trained })
    }
}

impl Lineage for Ancestor {
    fn weight(&self, module: &str) -> vxf_core::Result<Tensor> {
        self.trained.as_ref().unwrap_or(&self.base.checkpoint).weight(module)
    }

    fn model(&self) -> vxf_core::Result<(Arc<dyn Backbone>, Params)> {
        let model = match &self.trained {
            None => self.base.model(),
            Some(trained) => self.base.load(trained),
        };
        let model = model.map_err(|error| vxf_core::Error::Unsuitable(error.to_string()))?;
        Ok((model, Params::new()))
    }
}

/// The aligned model that a user's model, and models of later stages, are compared with.
pub(crate) struct Aligned<'a> {
    base: &'a Base,
    /// The model before the first step, if the run is a user's or later.
    begun: Option<Model<'a>>,
    /// The runs up to the aligned model, where the run did not start from it.
    runs: Option<&'a [Run]>,
    /// That model, which is loaded when it is first asked for.
    apart: OnceCell<Start>,
    none: Params,
}

impl<'a> Aligned<'a> {
    pub(crate) fn of(base: &'a Base, begun: Option<Model<'a>>, runs: Option<&'a [Run]>) -> Self {
        Self { base, begun, runs, apart: OnceCell::new(), none: Params::new() }
    }

    /// Whether the run started from a later model.
    pub(crate) fn is_apart(&self) -> bool {
        self.runs.is_some()
    }

    pub(crate) fn model(&self) -> Result<Option<Model<'_>>> {
        let Some(runs) = self.runs else { return Ok(self.begun) };
        let apart = match self.apart.get() {
            Some(apart) => apart,
            None => {
                let loaded = Start::of(self.base, runs, false)?;
                self.apart.get_or_init(|| loaded)
            }
        };
        Ok(Some(Model { backbone: &*apart.model, weights: &self.none }))
    }
}

/// The start models shared by the children of a run: loaded on first use, freed with the last clone. Children that
/// train its adapter further start from another one than those that do not.
#[derive(Clone, Default)]
pub(crate) struct SharedStart(Arc<[Mutex<Option<Arc<Start>>>; 2]>);

impl SharedStart {
    pub(crate) fn get(
        &self,
        continues: bool,
        load: impl FnOnce() -> Result<Start>,
    ) -> Result<Arc<Start>> {
        // The lock is held while loading, so that no other thread loads the model too.
        let mut start =
            self.0[usize::from(continues)].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = &*start {
            return Ok(start.clone());
        }
        let loaded = Arc::new(load()?);
        *start = Some(loaded.clone());
        Ok(loaded)
    }
}
