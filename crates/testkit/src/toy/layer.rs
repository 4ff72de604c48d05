//! One layer of the toy: a causal mixer and a feed-forward block, each with a residual connection.

use candle_core::{DType, Tensor};
use vxf_core::backbone::{Location, Parameter, Part};
use vxf_core::{Key, Params, Pass, Result, Site, SiteKind, Trainable};

use super::projection::Projection;

/// The decay of a token's weight per position of distance.
const DECAY: f64 = 0.6;

/// The weights of one layer.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    layer: usize,
    dropout: f64,
    value: Projection,
    output: Projection,
    up: Projection,
    down: Projection,
}

impl Layer {
    pub(super) fn random(
        layer: usize,
        width: usize,
        inner: usize,
        dropout: f64,
        dtype: DType,
        key: &Key,
    ) -> Result<Self> {
        let projection = |name: &str, out, input| {
            Projection::random(&format!("layers.{layer}.{name}"), out, input, dtype, key)
        };
        Ok(Self {
            layer,
            dropout,
            value: projection("mixer.v_proj", width, width)?,
            output: projection("mixer.o_proj", width, width)?,
            up: projection("mlp.up_proj", inner, width)?,
            down: projection("mlp.down_proj", width, inner)?,
        })
    }

    pub(super) fn forward(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let name = format!("layers.{}.mixer", self.layer);
        let input = match pass.dropout(&name, self.dropout, hidden)? {
            Some(mask) => (hidden * mask)?,
            None => hidden.clone(),
        };
        let site = |kind| Site { layer: self.layer, kind };
        let input = pass.tap(site(SiteKind::AttentionInput), &input)?;
        let value = self.value.forward(&input, pass)?.tanh()?;
        let mixed = mixer(&value, pass.rows().seen())?.matmul(&value)?;
        let mixed = pass.tap(site(SiteKind::AttentionMixed), &mixed)?;
        let mixed = self.output.forward(&mixed, pass)?;
        let hidden = (hidden + pass.tap(Site::attention_output(self.layer), &mixed)?)?;

        let input = pass.tap(site(SiteKind::MlpInput), &hidden)?;
        let inner = self.up.forward(&input, pass)?.silu()?;
        let fed = self.down.forward(&pass.tap(site(SiteKind::MlpInner), &inner)?, pass)?;
        let fed = pass.tap(Site::mlp_output(self.layer), &fed)?;
        pass.tap(Site::block_output(self.layer), &(hidden + fed)?)
    }

    /// The toy has no attention weights that depend on its input: the logistic function of its values stands
    /// in for them, a head for each, so that methods which read attention can be tested.
    pub(super) fn first_token_attention(&self, input: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let value = self.value.forward(input, pass)?;
        Ok((value.neg()?.exp()? + 1.0)?.recip()?)
    }

    fn projections(&self) -> [&Projection; 4] {
        [&self.value, &self.output, &self.up, &self.down]
    }

    pub(super) fn tensors(&self) -> Vec<(&str, &Tensor)> {
        self.projections().map(Projection::named).to_vec()
    }

    pub(super) fn parameters(&self) -> Vec<Parameter> {
        let weight = |projection: &Projection| vec![projection.parameter()];
        self.located(weight)
    }

    pub(super) fn adapters(&self) -> Vec<Parameter> {
        self.located(Projection::adapter)
    }

    fn located(&self, parameters: impl Fn(&Projection) -> Vec<Parameter>) -> Vec<Parameter> {
        let parts = [Part::Attention, Part::Attention, Part::Mlp, Part::Mlp];
        let of = |(projection, part)| {
            let location = Location { layer: Some(self.layer), part };
            parameters(projection).into_iter().map(move |it| it.at(location))
        };
        self.projections().into_iter().zip(parts).flat_map(of).collect()
    }

    pub(super) fn initial(&self, key: &Key, fresh: &mut Params) -> Result<()> {
        self.projections().into_iter().try_for_each(|projection| projection.initial(key, fresh))
    }

    pub(super) fn with_trainable(&self, trainable: &Trainable) -> Self {
        let same = |projection: &Projection| projection.with_trainable(trainable);
        Self {
            value: same(&self.value),
            output: same(&self.output),
            up: same(&self.up),
            down: same(&self.down),
            ..*self
        }
    }
}

/// Weights `[batch, sequence, sequence]` of each position over itself and the past.
fn mixer(value: &Tensor, seen: &[usize]) -> Result<Tensor> {
    let (rows, columns, _) = value.dims3()?;
    let mut weights = vec![0.0f64; rows * columns * columns];
    for row in 0..rows {
        let real = seen[row];
        for to in 0..columns {
            for from in 0..=to.min(real - 1) {
                weights[(row * columns + to) * columns + from] = DECAY.powi((to - from) as i32);
            }
        }
    }
    let weights = Tensor::from_vec(weights, (rows, columns, columns), crate::device())?;
    Ok(weights.to_dtype(value.dtype())?)
}
