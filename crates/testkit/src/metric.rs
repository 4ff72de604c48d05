//! For tests of metrics: a model whose logits are a table, and probes that need no tokenizer.
//!
//! Every figure can then be computed by hand from a few numbers in the test.
//!
//! ```
//! use std::collections::BTreeMap;
//! use vxf_core::metric::{Model, View};
//! use vxf_core::{Example, Params};
//! use vxf_testkit::metric::{Table, probes};
//!
//! let table = Table::new(&[[0.0, 0.0], [3f32.ln(), 0.0]])?;
//! let samples = vec![Example { tokens: vec![1, 0], prompt: 1, ..Example::default() }];
//! let probes = probes(BTreeMap::from([("alignment".to_owned(), samples)]), 4);
//! let weights = Params::new();
//! let view = View::new(Model { backbone: &table, weights: &weights }, &probes);
//! // After token 1, token 0 is three times as likely as token 1.
//! let loss = view.model.loss(&view.batches("mine", "alignment")?[0])?;
//! assert!((loss + 0.75f64.ln()).abs() < 1e-6);
//! # Ok::<(), vxf_core::Error>(())
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use vxf_core::backbone::{Architecture, Parameter};
use vxf_core::generate::Greedy;
use vxf_core::metric::{Generation, Judge, NamedJudge, Probes, Text, Verdict};
use vxf_core::{Backbone, Example, Key, Params, Pass, Result, Trainable};

/// A layer: maps its number, the hidden embeddings and the pass to the output.
pub type Block = fn(usize, &Tensor, &Pass<'_>) -> Result<Tensor>;

/// A model whose logits are a table: they depend on the last token alone.
///
/// A token's hidden embedding is its row of the table, and the head returns it as logits. There are
/// no parameters, and no layers unless [`Table::with_blocks`] adds some.
#[derive(Clone, Debug)]
pub struct Table {
    architecture: Architecture,
    rows: Tensor,
    block: Block,
}

impl Table {
    /// A model with a row of f32 logits per token.
    pub fn new<const VOCABULARY: usize>(rows: &[[f32; VOCABULARY]; VOCABULARY]) -> Result<Self> {
        let architecture = Architecture {
            family: "table".into(),
            layers: 0,
            width: VOCABULARY,
            vocabulary: VOCABULARY,
            positions: 8,
            labels: None,
        };
        let rows = Tensor::new(rows, &Device::Cpu)?;
        Ok(Self { architecture, rows, block: |_, hidden, _| Ok(hidden.clone()) })
    }

    /// Adds `layers` layers, each of which is `block`.
    ///
    /// The block may visit any sites, and may read any weights from the pass.
    pub fn with_blocks(mut self, layers: usize, block: Block) -> Self {
        self.architecture.layers = layers;
        Self { block, ..self }
    }
}

impl Backbone for Table {
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn embed(&self, tokens: &Tensor, _pass: &Pass<'_>) -> Result<Tensor> {
        Ok(self.rows.index_select(tokens, 0)?)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        (self.block)(layer, hidden, pass)
    }

    fn head(&self, hidden: &Tensor, _pass: &Pass<'_>) -> Result<Tensor> {
        Ok(hidden.clone())
    }

    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    fn initial(&self, _key: &Key) -> Result<Params> {
        Ok(Params::new())
    }

    fn with_trainable(&self, _trainable: &Trainable) -> Result<Arc<dyn Backbone>> {
        Ok(Arc::new(self.clone()))
    }

    fn trainable(&self) -> &Trainable {
        &Trainable::Full
    }

    fn tensors(&self) -> Params {
        Params::new()
    }
}

/// An empty text and judge, for metrics that need neither.
///
/// Every answer decodes to an empty text, ends with token 0 and is [`Verdict::Other`].
#[derive(Clone, Copy, Debug)]
pub struct Mute;

impl Text for Mute {
    fn decode(&self, _tokens: &[u32]) -> Result<String> {
        Ok(String::new())
    }

    fn is_end(&self, token: u32) -> bool {
        token == 0
    }

    fn opening(&self, _word: &str) -> Option<u32> {
        None
    }
}

impl Judge for Mute {
    fn verdicts(&self, generations: &[Generation]) -> Result<Vec<Verdict>> {
        Ok(vec![Verdict::Other; generations.len()])
    }
}

/// Probes with these samples, by purpose, in batches of `batch_size`.
///
/// There are no prompts, [`Mute`] is text and judge, and decoding is greedy. A test of a metric
/// over answers sets its own: `Probes { questions, text, judges, ..probes(examples, batch_size) }`.
pub fn probes(examples: BTreeMap<String, Vec<Example>>, batch_size: usize) -> Probes {
    Probes {
        examples,
        questions: BTreeMap::new(),
        text: Box::new(Mute),
        judges: vec![NamedJudge { name: "mute".into(), judge: Box::new(Mute) }],
        grader: None,
        sampler: Box::new(Greedy),
        draws: 1,
        batch_size,
    }
}
