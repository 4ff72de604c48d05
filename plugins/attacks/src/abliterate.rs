//! Abliteration: the direction of refusal, removed from the weights.

use candle_core::{DType, Device, Tensor};
use vxf_core::numeric::sum_of_squares;
use vxf_core::prelude::*;

use crate::config::AbliterateConfig;

/// `r = mean of h over forbidden requests - mean of h over harmless ones`, at the last token of the prompt
/// after one layer; then `W <- W - r r^T W` with `r` of length 1, for every weight that writes to the
/// residual stream.
pub struct Abliterate {
    config: AbliterateConfig,
}

impl Abliterate {
    /// Abliteration with these settings.
    pub fn new(config: AbliterateConfig) -> Self {
        Self { config }
    }

    /// The sum of `h` over at most `samples` samples of `stream`, and their number.
    fn sum(
        &self,
        step: &mut Step<'_>,
        stream: &str,
        site: Site,
    ) -> Result<(Option<Tensor>, usize)> {
        let (mut sum, mut count) = (None::<Tensor>, 0);
        // An epoch has no more samples; a batch that has come around counts again.
        let batches = self.config.samples.div_ceil(self.config.batch_size);
        for index in 0..batches.min(step.batches_per_epoch(stream)?) {
            if index > 0 {
                step.redraw(stream)?;
            }
            let batch = step.batch(stream)?;
            let hidden = step.on(stream).role(Role::Evaluation).hidden(&[site])?;
            let Some(hidden) = hidden.get(&site) else { continue };
            let left = self.config.samples - count;
            let (part, read) = mean_at_last_prompt_token(&batch, hidden, left)?;
            count += read;
            let part = (part * read as f64)?;
            sum = Some(match sum {
                None => part,
                Some(sum) => (sum + part)?,
            });
        }
        Ok((sum, count))
    }

    fn mean(&self, step: &mut Step<'_>, stream: &str, site: Site) -> Result<Tensor> {
        match self.sum(step, stream, site)? {
            (Some(sum), count) if count > 0 => Ok((sum / count as f64)?),
            _ => Err(failed(format!("the set `{stream}` has no prompt"))),
        }
    }

    /// Whether the named modules include this weight, and it writes to a stream of this width. A narrower
    /// embedding (OPT 350M) does not: a projection behind it does.
    fn writes(&self, parameter: &Parameter, width: usize) -> bool {
        let last = last_name(parameter);
        let written = parameter.shape.get(usize::from(is_table(parameter)));
        parameter.shape.len() == 2
            && written == Some(&width)
            && parameter.name.ends_with(".weight")
            && self.config.modules.iter().any(|module| module == last)
    }
}

fn last_name(parameter: &Parameter) -> &str {
    parameter.module().rsplit('.').next().unwrap_or_default()
}

/// Whether a weight is a table with a row for each token or position; the projection behind a narrow
/// embedding is none.
fn is_table(parameter: &Parameter) -> bool {
    parameter.part == Part::Embedding && last_name(parameter) != "project_in"
}

fn failed(problem: String) -> Error {
    Error::Plugin { plugin: "abliterate", source: problem.into() }
}

/// The mean of `hidden` `[positions, width]` over the first `most` samples of `batch`, at the last token of
/// their prompts, f64 `[width]` on the CPU; and the number of these samples.
///
/// # Errors
/// When a tensor operation fails.
pub fn mean_at_last_prompt_token(
    batch: &Batch,
    hidden: &Tensor,
    most: usize,
) -> Result<(Tensor, usize)> {
    // It is the position that predicts the answer's first token.
    let targets = batch.row_targets();
    let mut rows: Vec<u32> = Vec::new();
    let mut seen = None;
    for (row, (sample, _)) in batch.rows().positions().enumerate() {
        if targets[row] >= 0 && seen != Some(sample) {
            seen = Some(sample);
            rows.push(row as u32);
        }
    }
    rows.truncate(most);
    let count = rows.len();
    let hidden = hidden.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let width = hidden.dim(1)?;
    if count == 0 {
        return Ok((Tensor::zeros(width, DType::F64, &Device::Cpu)?, 0));
    }
    let rows = Tensor::from_vec(rows, count, &Device::Cpu)?;
    Ok((hidden.index_select(&rows, 0)?.mean(0)?, count))
}

/// A weight without what it writes along `direction`, f64 `[width]` of length 1 on the CPU. A linear layer's
/// weight is `[width, in]`, an embedding's `[vocabulary, width]`.
///
/// # Errors
/// When a tensor operation fails.
pub fn without(weight: &Tensor, direction: &Tensor, is_embedding: bool) -> Result<Tensor> {
    let wide = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let column = direction.reshape((direction.elem_count(), 1))?;
    let row = column.t()?.contiguous()?;
    let part = match is_embedding {
        true => wide.matmul(&column)?.matmul(&row)?,
        false => column.matmul(&row.matmul(&wide)?)?,
    };
    Ok((wide - part)?.to_dtype(weight.dtype())?.to_device(weight.device())?)
}

impl Defense for Abliterate {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let layers = step.architecture().layers;
        let last = layers.saturating_sub(1);
        let layer = ((self.config.depth * last as f64).round() as usize).min(last);
        let site = Site::block_output(layer);
        let (forbidden, harmless) = (self.config.forbidden.clone(), self.config.harmless.clone());
        let difference =
            (self.mean(step, &forbidden, site)? - self.mean(step, &harmless, site)?)?;
        let length = sum_of_squares(&difference)?.sqrt();
        if length == 0.0 {
            let problem =
                format!("`{forbidden}` and `{harmless}` have the same mean after layer {layer}");
            return Err(failed(problem));
        }
        let direction = (difference / length)?;
        let width = direction.elem_count();
        let writes = |parameter: &&Parameter| self.writes(parameter, width);
        let written: Vec<Parameter> = step.parameters().iter().filter(writes).cloned().collect();
        if written.is_empty() {
            let names = self.config.modules.join(", ");
            let problem = format!("no weight called {names} writes {width} numbers: set `modules`");
            return Err(failed(problem));
        }
        for parameter in &written {
            let name = parameter.name.as_str();
            let missing = || Error::ParameterMismatch { name: name.to_owned() };
            let weight = weights.get(name).ok_or_else(missing)?.detach();
            let edited = without(&weight, &direction, is_table(parameter))?;
            weights.insert(name, edited);
        }
        step.record("direction_length", length)?;
        step.record("edited_weights", written.len() as f64)?;
        Ok(weights)
    }
}
