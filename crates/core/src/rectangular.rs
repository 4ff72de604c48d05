//! Backbones written on rectangles `[batch, sequence, width]`.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::adapter::Trainable;
use crate::backbone::{Architecture, Backbone, Decoder, Parameter, Pass, Tap};
use crate::site::Site;
use crate::{Params, Result};
use vxf_tensor::{Key, Rows};

/// Adapts a backbone whose code works on rectangles.
///
/// The wrapped backbone implements the same trait with other shapes: tokens `[batch, sequence]`, hidden
/// embeddings `[batch, sequence, width]`, logits `[batch, sequence, vocabulary]`, and at a tap
/// `[batch, sequence, width]`. Its pass has the rows of the rectangle: `pass.rows().seen()` says how many
/// keys of each sample are visible to attention. Padding is computed and removed again, which costs
/// time; taps, losses and gradients are those of the dense layout.
#[derive(Clone)]
pub struct Rectangular(Arc<dyn Backbone>);

/// The rectangle around `rows`, with the same visible keys.
fn rectangle(rows: &Rows) -> Rows {
    Rows::rectangle(rows.samples(), rows.longest()).hiding(rows.seen())
}

/// Applies a tap for rows to rectangles.
struct OnRows<'a> {
    tap: &'a dyn Tap,
    rows: &'a Rows,
}

impl Tap for OnRows<'_> {
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        Ok(self.rows.padded(&self.tap.tap(site, &self.rows.packed(hidden)?)?)?)
    }
}

impl Rectangular {
    /// Wraps a backbone that works on rectangles.
    pub fn new(inner: impl Backbone + 'static) -> Self {
        Self(Arc::new(inner))
    }

    /// Runs a part of the wrapped backbone from rectangle to rectangle.
    fn within(
        &self,
        pass: &Pass<'_>,
        run: impl FnOnce(&dyn Backbone, &Pass<'_>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let wide = rectangle(pass.rows());
        let tap = OnRows { tap: pass.taps(), rows: pass.rows() };
        run(&*self.0, &pass.with_rows(&wide).with_tap(&tap))
    }
}

impl Backbone for Rectangular {
    fn architecture(&self) -> &Architecture {
        self.0.architecture()
    }

    fn device(&self) -> &Device {
        self.0.device()
    }

    fn dtype(&self) -> DType {
        self.0.dtype()
    }

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let rows = pass.rows();
        let mut wide = vec![0; rows.samples() * rows.longest()];
        for (token, (sample, at)) in tokens.to_vec1::<u32>()?.into_iter().zip(rows.positions()) {
            wide[sample * rows.longest() + at] = token;
        }
        let wide = Tensor::from_vec(wide, (rows.samples(), rows.longest()), tokens.device())?;
        Ok(rows.packed(&self.within(pass, |inner, pass| inner.embed(&wide, pass))?)?)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let wide = pass.rows().padded(hidden)?;
        let wide = self.within(pass, |inner, pass| inner.block(layer, &wide, pass))?;
        Ok(pass.rows().packed(&wide)?)
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        Ok(self.0.head(&hidden.unsqueeze(0)?, pass)?.squeeze(0)?)
    }

    fn head_loss(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        self.0.head_loss(&hidden.unsqueeze(0)?, targets, pass)
    }

    fn last_norm(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        Ok(self.0.last_norm(&hidden.unsqueeze(0)?, pass)?.squeeze(0)?)
    }

    fn first_token_attention(
        &self,
        layer: usize,
        input: &Tensor,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let wide = pass.rows().padded(input)?;
        let wide =
            self.within(pass, |inner, pass| inner.first_token_attention(layer, &wide, pass))?;
        Ok(pass.rows().packed(&wide)?)
    }

    fn decoder<'a>(&'a self, weights: &'a Params) -> Option<Box<dyn Decoder + 'a>> {
        self.0.decoder(weights)
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.0.parameters()
    }

    fn initial(&self, key: &Key) -> Result<Params> {
        self.0.initial(key)
    }

    fn with_trainable(&self, trainable: &Trainable) -> Result<Arc<dyn Backbone>> {
        Ok(Arc::new(Self(self.0.with_trainable(trainable)?)))
    }

    fn trainable(&self) -> &Trainable {
        self.0.trainable()
    }

    fn tensors(&self) -> Params {
        self.0.tensors()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        self.0.tensor(name)
    }
}
