//! The errors of the core, each with the offending value and the rule it broke.

use crate::lineage::Reference;
use crate::registry::ConfigError;
use vxf_tensor::device::OutOfMemory;

/// The core's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[source] candle_core::Error),
    /// The GPU has too little memory.
    #[error(
        "the GPU's memory does not suffice{}: {free} MiB of {total} MiB are free",
        .asked.map_or(String::new(), |asked| format!(" for {asked} MiB more"))
    )]
    OutOfMemory {
        /// MiB requested, if known.
        asked: Option<usize>,
        /// MiB that were free.
        free: usize,
        /// MiB in all.
        total: usize,
    },
    /// A loss, norm or weight is NaN or infinite.
    #[error("{quantity} is {value} at step {step}{place}; training cannot go on")]
    NotFinite {
        /// What was measured, for example `loss`.
        quantity: String,
        /// The value found.
        value: f64,
        /// Zero-based optimiser step.
        step: u64,
        /// Stream or tensor, as ` on stream ...`.
        place: String,
    },
    /// A step has no `loss` among its figures.
    #[error(
        "step {step} has no `loss`: the defence computed no gradient of the main stream in the outer \
         role; call `step.gradients(..)` or `step.on_main().gradients()`, or, if it trains on other \
         streams, `step.record(\"loss\", ..)`"
    )]
    NoLoss {
        /// Zero-based optimiser step.
        step: u64,
    },
    /// A batch has no labelled token.
    #[error(
        "stream `{stream}` gave a batch without a labelled token: every sample in it is prompt \
         only after truncation"
    )]
    NothingLabelled {
        /// The stream's name.
        stream: String,
    },
    /// A defence asked for a stream that the stage does not have.
    #[error("there is no stream `{name}` in this stage; it has: {known}")]
    UnknownStream {
        /// The requested name.
        name: String,
        /// The existing streams.
        known: String,
    },
    /// A stream has no sample.
    #[error("stream `{name}` has no samples; give it at least one")]
    EmptyStream {
        /// The stream's name.
        name: String,
    },
    /// A sample was requested that a stream does not have.
    #[error("no sample has the index {index}; the stream has {all} samples, from index 0")]
    NoSample {
        /// The index.
        index: usize,
        /// The number of samples.
        all: usize,
    },
    /// A snapshot was requested before it was taken.
    #[error("no snapshot is called `{name}`; take it with `step.snapshot(\"{name}\")` first")]
    UnknownSnapshot {
        /// The requested name.
        name: String,
    },
    /// Weights that should replace the trained ones are not a complete set.
    #[error("`{verb}` needs every trained weight and no other: {problem}")]
    WeightSet {
        /// The verb that received or returned them.
        verb: &'static str,
        /// Which weight is missing, unknown or of another shape, and what to do.
        problem: String,
    },
    /// A method asked for a reference model that the run does not have.
    #[error(
        "this stage has no `{reference}` model to compare with; the method's settings must declare \
         that it needs one"
    )]
    NoReference {
        /// Which one.
        reference: Reference,
    },
    /// A requested module is not in the model.
    #[error("the model has no module `{module}`; it has such as {}", .known.join(", "))]
    UnknownModule {
        /// The requested name.
        module: String,
        /// Similar names, or some of the existing ones.
        known: Vec<String>,
    },
    /// A query has settings that its verb does not support.
    #[error("`{verb}` {problem}")]
    Query {
        /// The verb.
        verb: &'static str,
        /// The reason, and what to write instead.
        problem: String,
    },
    /// A requested site is not in the backbone.
    #[error("site `{site}` was never visited; this backbone has {known}")]
    UnknownSite {
        /// The requested site.
        site: String,
        /// What the backbone has.
        known: String,
    },
    /// A site or a selection of sites could not be read.
    #[error(
        "`{text}` is not a site; write embedding, attention_output, mlp_output or block_output, with `.7` for one layer"
    )]
    BadSite {
        /// What was given.
        text: String,
    },
    /// Two sets of named tensors have different names.
    #[error("parameter sets differ: `{name}` is in one of them only")]
    ParameterMismatch {
        /// The name without a partner.
        name: String,
    },
    /// No plugin of this name is registered.
    #[error("no {kind} is called `{name}`{}", suggestion(.nearest, .known))]
    UnknownPlugin {
        /// `defense`, `perturber`, `metric`, `backbone` or `judge`.
        kind: &'static str,
        /// The requested name.
        name: String,
        /// Registered names close to it.
        nearest: Vec<String>,
        /// All registered names.
        known: Vec<String>,
    },
    /// Two plugins registered one name.
    #[error("two {kind}s are called `{name}`: one in {first}, one in {second}; rename one of them")]
    DuplicatePlugin {
        /// The kind of plugin.
        kind: &'static str,
        /// The name both took.
        name: String,
        /// The first plugin's crate.
        first: &'static str,
        /// The second plugin's crate.
        second: &'static str,
    },
    /// A plugin's settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A method does not belong to this stage.
    #[error("{kind} `{name}` belongs to the {belongs} stage, not to {stage}")]
    WrongStage {
        /// The kind of plugin.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it belongs.
        belongs: String,
        /// Where it was put.
        stage: String,
    },
    /// A model directory or tensor file is invalid.
    #[error("{path}: {problem}")]
    Checkpoint {
        /// The file or directory.
        path: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A model is valid, but no registered plugin reads its kind.
    #[error("{path}: {problem}")]
    Unsupported {
        /// The model.
        path: String,
        /// What is missing.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A metric compares with a model that this evaluation does not have.
    #[error(
        "metric `{metric}` needs the `{name}` model to compare with, which this evaluation does not have"
    )]
    MissingReference {
        /// The metric's name.
        metric: String,
        /// The model to compare with.
        name: String,
    },
    /// A method, a metric or a backbone cannot work on what it is given.
    #[error("{0}")]
    Unsuitable(String),
    /// Saved state does not belong to this method or model.
    #[error("saved state does not fit: {0}")]
    State(String),
    /// A metric lacks data that it needs.
    #[error("metric `{metric}` needs {need}, which this evaluation does not have")]
    MissingData {
        /// The metric's name.
        metric: String,
        /// The missing data.
        need: String,
    },
    /// Asked to stop between two steps or two answers; what is done is kept.
    #[error("stopped as asked")]
    Stopped,
    /// A plugin failed with an error of its own.
    #[error("{plugin}: {source}")]
    Plugin {
        /// The plugin's name.
        plugin: &'static str,
        /// Its own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        match vxf_tensor::device::out_of_memory(&error) {
            Some(OutOfMemory { asked, free, total }) => {
                let mib = |bytes: usize| bytes.div_ceil(1 << 20);
                Self::OutOfMemory { asked: asked.map(mib), free: mib(free), total: mib(total) }
            }
            None => Self::Tensor(error),
        }
    }
}

impl Error {
    /// Adds the stream that was trained on to an error about a non-finite number.
    pub(crate) fn on_stream(mut self, stream: &str) -> Self {
        if let Self::NotFinite { place, .. } = &mut self {
            place.push_str(&format!(" on stream `{stream}`"));
        }
        self
    }
}

fn suggestion(nearest: &[String], known: &[String]) -> String {
    match (nearest.is_empty(), known.is_empty()) {
        (false, _) => format!("; did you mean {}?", nearest.join(" or ")),
        (true, false) => format!("; registered are {}", known.join(", ")),
        (true, true) => {
            "; none is registered: a crate that is only listed in Cargo.toml registers \
                         nothing, name it once with `use that_crate as _;`"
                .to_owned()
        }
    }
}

/// The core's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
