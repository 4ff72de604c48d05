//! The filter by a direction of hidden embeddings.

use candle_core::{DType, Device, Tensor};
use vxf_core::prelude::*;

use crate::config::DirectionFilterConfig;
use crate::kept::{Kept, TOGETHER};

/// Leaves out the samples x with the largest `<h(x), d> / ||d||`, with `d = mean_harmful h - mean_aligned h`
/// and h the mean hidden embedding over the answer's tokens, at the weights before the user's training.
pub struct DirectionFilter {
    config: DirectionFilterConfig,
    kept: Kept,
}

impl DirectionFilter {
    /// The filter with these settings.
    pub fn new(config: DirectionFilterConfig) -> Self {
        Self { config, kept: Kept::default() }
    }

    fn site(&self, step: &Step<'_>) -> Site {
        let layers = step.architecture().layers;
        let read = (layers as f64 * self.config.depth).ceil() as usize;
        Site::block_output(read.clamp(1, layers) - 1)
    }

    /// The representations of the first samples of a stream, `[samples, width]` in f64 on the CPU.
    fn representations(&self, step: &mut Step<'_>, stream: &str, count: usize) -> Result<Tensor> {
        let site = self.site(step);
        let all: Vec<usize> = (0..count.min(step.samples_of(stream)?)).collect();
        let mut found = Vec::new();
        for samples in all.chunks(TOGETHER) {
            let batch = step.pick(stream, samples)?;
            let query = step.on(stream).reading(&batch).role(Role::Evaluation);
            let hidden = query.hidden(&[site])?;
            let (_, columns) = batch.shape();
            // The positions of the answer's own tokens: each is the target of the one before.
            let answer =
                |sample: usize, at: usize| at > 0 && batch.targets[sample * columns + at - 1] >= 0;
            let means = batch.means(&hidden[&site], &answer)?;
            found.push(means.to_device(&Device::Cpu)?.to_dtype(DType::F64)?);
        }
        Ok(Tensor::cat(&found, 0)?)
    }
}

impl Defense for DirectionFilter {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        let count = self.config.samples;
        let complied = self.representations(step, "harmful", count)?.mean(0)?;
        let direction = (complied - self.representations(step, "alignment", count)?.mean(0)?)?;
        let length = direction.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        step.require_finite("the length of the compliance direction", "", &length.into())?;
        if length == 0.0 {
            let same = "harmful and safe answers have the same mean representation: no direction of compliance";
            return Err(Error::Unsuitable(same.to_owned()));
        }
        let main = step.main();
        let own = self.representations(step, &main, usize::MAX)?;
        let along: Vec<f64> = own.matmul(&direction.unsqueeze(1)?)?.squeeze(1)?.to_vec1()?;
        // The scores of a filter are lowest where samples are worst.
        let scores: Vec<_> = along.into_iter().map(|it| Some(-it / length)).collect();
        self.kept.choose(&scores, self.config.share, f64::MIN);
        Ok(())
    }

    fn keeps(&self) -> Option<Vec<usize>> {
        self.kept.indices()
    }

    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.kept.record(step)
    }

    fn state(&self) -> Result<State> {
        Ok(self.kept.state())
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.kept.restore(state)
    }
}
