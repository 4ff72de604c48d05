//! Embeddings of tokens and positions.

use crate::layers::Linear;
use candle_core::{DType, Tensor};
use half::{bf16, f16};
use vxf_core::backbone::Pass;
use vxf_core::{Error, Result, Trainable};
use vxf_nn::ops;
use vxf_tensor::autograd::add;

use crate::design::Position;
use crate::parts::Parts;

/// The embedding layer.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    name: String,
    table: Tensor,
    /// The token whose row gets no gradient from here.
    padding: Option<u32>,
    /// The projection to the width of the model.
    project: Option<Linear>,
    learned: Option<Learned>,
    /// The factor on the rows.
    scale: Option<f64>,
    positions: usize,
}

/// A table of positions.
#[derive(Clone, Debug)]
struct Learned {
    name: String,
    table: Tensor,
    offset: usize,
}

impl Embedding {
    pub(crate) fn new(parts: &Parts<'_>) -> Result<Self> {
        let design = parts.design;
        let name = format!("{}.weight", design.name("embed_tokens"));
        let learned = match design.position {
            Position::Rotary(_) => None,
            Position::Learned { offset } => {
                let name = format!("{}.weight", design.name("embed_positions"));
                Some(Learned { table: parts.tensor(&name)?, name, offset })
            }
        };
        Ok(Self {
            table: parts.tensor(&name)?,
            name,
            padding: design.padding,
            project: match design.projects() {
                true => Some(parts.linear(&design.name("project_in"))?),
                false => None,
            },
            learned,
            scale: design.embedding_scale.map(|scale| rounded(scale, parts.dtype)),
            positions: design.positions,
        })
    }

    /// Token ids `[positions]` to `[positions, width]`.
    pub(crate) fn forward(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let length = pass.rows().furthest();
        if length > self.positions {
            return Err(Error::Checkpoint {
                path: "config.json".into(),
                problem: format!(
                    "a sequence of {length} tokens is longer than `max_position_embeddings` ({})",
                    self.positions
                ),
            });
        }
        let table = &pass.weight_or(&self.name, &self.table)?;
        let hidden = ops::embedding(table, tokens, self.padding)?;
        let hidden = match self.scale {
            Some(scale) => ops::scaled(&hidden, scale)?,
            None => hidden,
        };
        let hidden = match &self.project {
            Some(project) => project.forward(&hidden, pass)?,
            None => hidden,
        };
        let Some(learned) = &self.learned else { return Ok(hidden) };
        Ok(add(&hidden, &learned.rows(pass)?)?)
    }

    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        let project = self.project.as_ref().map(|project| project.with_trainable(trainable));
        Self { project, ..self.clone() }
    }
}

/// A number as `dtype` stores it; Hugging Face rounds the factor too.
fn rounded(number: f64, dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => bf16::from_f64(number).to_f64(),
        DType::F16 => f16::from_f64(number).to_f64(),
        DType::F32 => f64::from(number as f32),
        _ => number,
    }
}

impl Learned {
    /// The rows of the table for all positions, `[positions, width]`.
    fn rows(&self, pass: &Pass<'_>) -> Result<Tensor> {
        let table = &pass.weight_or(&self.name, &self.table)?;
        let (seen, past) = (pass.rows().seen(), pass.rows().past());
        let index = |(sample, at): (usize, usize)| match past[sample] + at {
            position if position < seen[sample] => (self.offset + position) as u32,
            _ => self.offset as u32 - 1,
        };
        let indices: Vec<u32> = pass.rows().positions().map(index).collect();
        Ok(ops::embedding(table, &Tensor::new(indices, table.device())?, None)?)
    }
}
