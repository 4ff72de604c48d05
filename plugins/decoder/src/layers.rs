//! Layers with frozen weights of their own and trainable weights from the pass.

use candle_core::Tensor;
use vxf_core::{Lora, Pass, Result, Trainable};

use vxf_nn::ops::{self, Layer, Matrix, Values};
use vxf_tensor::autograd::add;

/// A frozen tensor, and the name under which a pass may have a trained one.
#[derive(Clone, Debug)]
struct Weight {
    name: String,
    frozen: Tensor,
}

impl Weight {
    fn new(name: String, frozen: Tensor) -> Self {
        Self { name, frozen }
    }

    fn of(&self, pass: &Pass<'_>) -> Result<Tensor> {
        pass.weight_or(&self.name, &self.frozen)
    }
}

/// A linear layer with an optional low-rank adapter.
///
/// `y = x W^T + b`, and with an adapter `y = x W^T + scale * dropout(x) A^T B^T + b` (Hu et al.
/// 2021). Which of W, b, A and B are trained depends on what the pass has under `<name>.weight`,
/// `<name>.bias`, `<name>.lora_A` and `<name>.lora_B`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    name: String,
    /// The name of its weight.
    weight_name: String,
    weight: Matrix,
    bias: Option<Weight>,
    adapter: Option<Adapter>,
}

#[derive(Clone, Debug)]
struct Adapter {
    a_name: String,
    b_name: String,
    dropout: f64,
    scale: f64,
}

impl Linear {
    /// The layer called `name` with the frozen weight `[out, in]` and bias `[out]`.
    pub(crate) fn new(name: &str, weight: Matrix, bias: Option<Tensor>) -> Self {
        Self {
            name: name.to_owned(),
            weight_name: format!("{name}.weight"),
            weight,
            bias: bias.map(|bias| Weight::new(format!("{name}.bias"), bias)),
            adapter: None,
        }
    }

    /// `[positions, in]` to `[positions, out]`.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.applied(x, pass, Values::Read)
    }

    /// The same; zeros with the same gradients if the output is not used.
    pub(crate) fn applied(&self, x: &Tensor, pass: &Pass<'_>, values: Values) -> Result<Tensor> {
        let trained = match &self.weight {
            Matrix::Dense(frozen) => Some(pass.weight_or(&self.weight_name, frozen)?),
            Matrix::Quantized(_) => None,
        };
        let weight = trained.as_ref().map_or((&self.weight).into(), ops::Weight::from);
        let y = match self.adapter_of(pass) {
            None if values == Values::Unread => ops::linear_unread(x, weight)?,
            None => ops::linear(x, weight)?,
            Some((adapter, a, b)) => {
                let layers = [self.side(x, pass)?];
                ops::lora_linears(x, weight, [a, b], &layers, adapter.scale, values)?
            }
        };
        match &self.bias {
            None => Ok(y),
            Some(bias) => Ok(ops::add_bias(&y, &bias.of(pass)?)?),
        }
    }

    /// The adapter and its matrices A and B, if the pass has them.
    fn adapter_of<'a>(&'a self, pass: &Pass<'a>) -> Option<(&'a Adapter, &'a Tensor, &'a Tensor)> {
        let adapter = self.adapter.as_ref()?;
        Some((adapter, pass.weight(&adapter.a_name)?, pass.weight(&adapter.b_name)?))
    }

    /// Whether the pass has a trained weight or bias.
    fn is_replaced(&self, pass: &Pass<'_>) -> bool {
        let bias = self.bias.as_ref().map(|bias| &bias.name);
        let mut names = std::iter::once(&self.weight_name).chain(bias);
        names.any(|name| pass.weight(name).is_some())
    }

    /// This layer as one of several of the same input.
    fn side(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Layer> {
        let out = self.weight.dims()[0];
        let mask = match self.adapter_of(pass) {
            Some((adapter, ..)) => pass.mask(&adapter.a_name, adapter.dropout, x.dim(1)?, x)?,
            None => None,
        };
        Ok(Layer { out, adapted: self.adapter_of(pass).is_some(), mask })
    }

    /// The layer with an adapter, if `trainable` targets it.
    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        let adapter = match trainable {
            Trainable::Lora(config) if config.targets(&self.name) => Some(Adapter {
                a_name: Lora::a_of(&self.name),
                b_name: Lora::b_of(&self.name),
                dropout: config.dropout,
                scale: config.scale(),
            }),
            _ => None,
        };
        Self { adapter, ..self.clone() }
    }
}

/// Linear layers of the same input: one product, if only adapters are trained.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    layers: Vec<Linear>,
    /// The stack of the frozen weights, if there is one.
    weight: Option<Matrix>,
    bias: Option<Tensor>,
}

impl Group {
    /// Layers whose frozen weights are parts of the stack `weight`, in order.
    pub(crate) fn new(layers: Vec<Linear>, weight: Option<Matrix>) -> Result<Self> {
        let biases: Vec<_> = layers.iter().filter_map(|layer| layer.bias.as_ref()).collect();
        let biases: Vec<_> = biases.into_iter().map(|bias| bias.frozen.clone()).collect();
        let bias = match biases.len() == layers.len() {
            true => Some(Tensor::cat(&biases, 0)?),
            false => None,
        };
        // With biases on some layers only, each is applied alone.
        let weight = weight.filter(|_| biases.is_empty() || bias.is_some());
        Ok(Self { layers, weight, bias })
    }

    /// The outputs of all layers side by side; `None` if they must be applied one by one.
    pub(crate) fn joined(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Option<Tensor>> {
        let Some(weight) = self.weight.as_ref().filter(|_| ops::joins(x)) else { return Ok(None) };
        if self.layers.iter().any(|layer| layer.is_replaced(pass)) {
            return Ok(None);
        }
        let adapters: Vec<_> =
            self.layers.iter().filter_map(|layer| layer.adapter_of(pass)).collect();
        let y = match adapters.first() {
            None => ops::linear(x, weight)?,
            Some((adapter, ..)) => {
                let a: Vec<_> = adapters.iter().map(|(_, a, _)| *a).collect();
                let b: Vec<_> = adapters.iter().map(|(.., b)| *b).collect();
                let sides = self.layers.iter().map(|layer| layer.side(x, pass));
                let sides = sides.collect::<Result<Vec<_>>>()?;
                let stacked = [&ops::stacked(&a)?, &ops::stacked(&b)?];
                ops::lora_linears(x, weight, stacked, &sides, adapter.scale, Values::Read)?
            }
        };
        Ok(Some(match &self.bias {
            None => y,
            Some(bias) => ops::add_bias(&y, bias)?,
        }))
    }

    /// The output of each layer, applied one by one.
    pub(crate) fn apart(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Vec<Tensor>> {
        self.layers.iter().map(|layer| layer.forward(x, pass)).collect()
    }

    /// The same layers with places for the adapters that `trainable` targets.
    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        let layers = self.layers.iter().map(|layer| layer.with_trainable(trainable)).collect();
        Self { layers, ..self.clone() }
    }
}

/// A normalisation of the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    gain: Weight,
    /// The bias of a layer norm; an RMS norm has none.
    bias: Option<Weight>,
    /// Whether one is added to the gain.
    offset: bool,
    epsilon: f64,
}

impl Norm {
    /// The root-mean-square norm called `name` with the frozen gain `[width]`, to which one is added
    /// if `offset` is set.
    pub(crate) fn rms(name: &str, gain: Tensor, offset: bool, epsilon: f64) -> Self {
        Self { gain: Weight::new(format!("{name}.weight"), gain), bias: None, offset, epsilon }
    }

    /// The layer norm called `name` with the frozen gain and bias, `[width]` each.
    pub(crate) fn layer(name: &str, gain: Tensor, bias: Tensor, epsilon: f64) -> Self {
        let bias = Some(Weight::new(format!("{name}.bias"), bias));
        Self { bias, ..Self::rms(name, gain, false, epsilon) }
    }

    /// Normalises `[..., width]`.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let gain = &self.gain(pass)?;
        Ok(match &self.bias {
            None => ops::rms_norm(x, gain, self.epsilon)?,
            Some(bias) => ops::layer_norm(x, gain, &bias.of(pass)?, self.epsilon)?,
        })
    }

    /// The sum of two tensors, and its norm.
    pub(crate) fn of_sum(&self, x: &Tensor, y: &Tensor, pass: &Pass<'_>) -> Result<[Tensor; 2]> {
        if self.bias.is_some() {
            let sum = add(x, y)?;
            let norm = self.forward(&sum, pass)?;
            return Ok([sum, norm]);
        }
        Ok(ops::add_rms_norm(x, y, &self.gain(pass)?, self.epsilon)?)
    }

    fn gain(&self, pass: &Pass<'_>) -> Result<Tensor> {
        let gain = self.gain.of(pass)?;
        Ok(if self.offset { add(&gain, &gain.ones_like()?)? } else { gain })
    }
}
