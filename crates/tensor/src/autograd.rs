//! A backward tape for operations with hand-written gradients.
//!
//! candle's `backward` adds each gradient to a tensor of zeros and so writes it three times, which
//! is a good part of the time of a language model's step. Here a single gradient is passed on
//! without a copy. Operations are recorded as they are applied, within [`record`]; a graph that
//! contains other operations, such as a backbone in plain candle, uses candle's own backward.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, TensorId,
    bail,
};
use rayon::prelude::*;

use crate::vectorised;

thread_local! {
    static RECORDING: RefCell<Option<Vec<Node>>> = const { RefCell::new(None) };
}

type Boxed<O> = Arc<Box<O>>;

/// A result and the operation that produced it.
struct Node {
    output: Tensor,
    made: Made,
}

/// An operation and its operands.
enum Made {
    One([Tensor; 1], Boxed<dyn CustomOp1 + Send + Sync>),
    Two([Tensor; 2], Boxed<dyn CustomOp2 + Send + Sync>),
    Three([Tensor; 3], Boxed<dyn CustomOp3 + Send + Sync>),
}

impl Made {
    fn operands(&self) -> &[Tensor] {
        match self {
            Self::One(operands, _) => operands,
            Self::Two(operands, _) => operands,
            Self::Three(operands, _) => operands,
        }
    }

    /// The gradients of the operands, in order, given the gradient of the output.
    fn backward(&self, output: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 3]> {
        Ok(match self {
            Self::One([x], op) => [op.bwd(x, output, gradient)?, None, None],
            Self::Two([x, y], op) => {
                let (dx, dy) = op.bwd(x, y, output, gradient)?;
                [dx, dy, None]
            }
            Self::Three([x, y, z], op) => op.bwd(x, y, z, output, gradient)?.into(),
        })
    }
}

/// The operations applied while a graph was built, in order.
pub struct Tape(Vec<Node>);

/// Runs `work` and records the operations that it applies.
///
/// # Errors
/// Those of `work`.
pub fn record<R, E>(
    work: impl FnOnce() -> std::result::Result<R, E>,
) -> std::result::Result<(R, Tape), E> {
    /// Restores the outer recording, also when `work` fails or panics.
    struct Outer(Option<Vec<Node>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            RECORDING.set(self.0.take());
        }
    }
    let _outer = Outer(RECORDING.replace(Some(Vec::new())));
    let result = work()?;
    Ok((result, Tape(RECORDING.take().unwrap_or_default())))
}

fn push_node(output: Tensor, made: impl FnOnce() -> Made) -> Tensor {
    if output.track_op() {
        RECORDING.with_borrow_mut(|recording| {
            if let Some(nodes) = recording {
                nodes.push(Node { output: output.clone(), made: made() });
            }
        });
    }
    output
}

/// Applies an operation of one operand.
///
/// # Errors
/// Those of the operation.
pub fn apply1(x: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    let op: Boxed<dyn CustomOp1 + Send + Sync> = Arc::new(Box::new(op));
    let output = x.apply_op1_arc(op.clone())?;
    Ok(push_node(output, || Made::One([x.clone()], op)))
}

/// Applies an operation of two operands.
///
/// # Errors
/// Those of the operation.
pub fn apply2([x, y]: [&Tensor; 2], op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    let op: Boxed<dyn CustomOp2 + Send + Sync> = Arc::new(Box::new(op));
    let output = x.apply_op2_arc(y, op.clone())?;
    Ok(push_node(output, || Made::Two([x.clone(), y.clone()], op)))
}

/// Applies an operation of three operands.
///
/// # Errors
/// Those of the operation.
pub fn apply3(
    [x, y, z]: [&Tensor; 3],
    op: impl CustomOp3 + Send + Sync + 'static,
) -> Result<Tensor> {
    let op: Boxed<dyn CustomOp3 + Send + Sync> = Arc::new(Box::new(op));
    let output = x.apply_op3_arc(y, z, op.clone())?;
    Ok(push_node(output, || Made::Three([x.clone(), y.clone(), z.clone()], op)))
}

/// Casts to another dtype; the gradient has the operand's dtype.
///
/// # Errors
/// When there is no conversion.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    apply1(x, Cast(dtype))
}

struct Cast(DType);

impl CustomOp1 for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((x.to_dtype(layout, self.0)?, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((x.to_dtype(layout, self.0)?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        x.track_op().then(|| gradient.to_dtype(x.dtype())).transpose()
    }
}

/// The sum of two tensors of one shape.
///
/// # Errors
/// When the shapes, dtypes or devices differ.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let plain = x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64);
    #[cfg(feature = "cuda")]
    let plain = plain || crate::numeric::in_kernels(x);
    if !plain || x.shape() != y.shape() || x.dtype() != y.dtype() {
        return x + y;
    }
    apply2([&x.contiguous()?, &y.contiguous()?], Sum)
}

struct Sum;

impl CustomOp2 for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        /// Elements per unit of parallel work.
        const CHUNK: usize = 1 << 14;
        /// Up to this size, waking other threads costs more than it saves.
        const FEW: usize = 1 << 16;
        let part = |layout: &Layout| match layout.contiguous_offsets() {
            Some((start, end)) => Ok(start..end),
            None => bail!("sum: a strided operand"),
        };
        macro_rules! sum {
            ($x:expr, $y:expr) => {{
                let (x, y) = (&$x[part(x_layout)?], &$y[part(y_layout)?]);
                if x.len() <= FEW {
                    vectorised!(x.iter().zip(y).map(|(x, y)| x + y).collect())
                } else {
                    let mut sum = Vec::new();
                    let pairs = x.par_iter().zip(y).with_min_len(CHUNK);
                    pairs.map(|(x, y)| x + y).collect_into_vec(&mut sum);
                    sum
                }
            }};
        }
        let sum = match (x, y) {
            (CpuStorage::F32(x), CpuStorage::F32(y)) => CpuStorage::F32(sum!(x, y)),
            (CpuStorage::F64(x), CpuStorage::F64(y)) => CpuStorage::F64(sum!(x, y)),
            _ => bail!("sum: operands of other types than f32 and f64"),
        };
        Ok((sum, x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        use vxf_cuda::Operand;
        let sum = vxf_cuda::add(Operand::new(x, x_layout)?, Operand::new(y, y_layout)?)?;
        Ok((sum, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of = |operand: &Tensor| operand.track_op().then(|| gradient.clone());
        Ok((of(x), of(y)))
    }
}

/// Gradients of variables.
pub enum Store {
    /// From our own tape.
    Own(HashMap<TensorId, Tensor>),
    /// From candle's backward.
    Candle(GradStore),
}

impl Store {
    /// Removes the gradient of a variable and returns it, detached from any graph.
    pub fn remove(&mut self, variable: &Tensor) -> Option<Tensor> {
        match self {
            Self::Own(gradients) => gradients.remove(&variable.id()),
            Self::Candle(gradients) => gradients.remove(variable).map(|gradient| gradient.detach()),
        }
    }
}

impl Tape {
    /// Backpropagates from tensors with known gradients to the variables.
    ///
    /// Recorded tensors are freed on the way.
    ///
    /// # Errors
    /// When an operation has no backward, or its backward fails.
    pub fn backward(self, known: Vec<(Tensor, Tensor)>) -> Result<Store> {
        if !self.holds_all_below(&known) {
            return Store::of_candle(&known);
        }
        let mut gradients = HashMap::new();
        let give = |gradients: &mut HashMap<TensorId, Tensor>, to: &Tensor, gradient: Tensor| {
            if !to.track_op() {
                return Ok(());
            }
            let sum = match gradients.remove(&to.id()) {
                Some(sum) => add(&sum, &gradient)?,
                None => gradient,
            };
            gradients.insert(to.id(), sum.detach());
            Ok::<_, candle_core::Error>(())
        };
        for (tensor, gradient) in known {
            give(&mut gradients, &tensor, gradient)?;
        }
        for Node { output, made } in self.0.into_iter().rev() {
            let Some(gradient) = gradients.remove(&output.id()) else { continue };
            let parts = made.backward(&output, &gradient)?;
            for (operand, gradient) in made.operands().iter().zip(parts) {
                if let Some(gradient) = gradient {
                    give(&mut gradients, operand, gradient)?;
                }
            }
        }
        Ok(Store::Own(gradients))
    }

    /// Whether the tape holds every result between `known` and the variables.
    fn holds_all_below(&self, known: &[(Tensor, Tensor)]) -> bool {
        let made: HashSet<_> = self.0.iter().map(|node| node.output.id()).collect();
        let operands = self.0.iter().flat_map(|node| node.made.operands());
        operands
            .chain(known.iter().map(|(tensor, _)| tensor))
            .all(|x| !x.track_op() || x.is_variable() || made.contains(&x.id()))
    }
}

impl Store {
    fn of_candle(known: &[(Tensor, Tensor)]) -> Result<Self> {
        let mut total = Tensor::zeros((), DType::F32, &candle_core::Device::Cpu)?;
        for (i, (tensor, gradient)) in known.iter().enumerate() {
            let seeded = seed(tensor, gradient)?;
            total = if i == 0 { seeded } else { (total + seeded)? };
        }
        total.backward().map(Self::Candle)
    }
}

/// A scalar zero whose gradient with respect to `output` is `cotangent`.
///
/// candle starts a backward pass at a scalar whose gradient is one. This starts it at a known
/// gradient, without the multiplication and the reduction of `(output * cotangent).sum()`.
pub fn seed(output: &Tensor, cotangent: &Tensor) -> Result<Tensor> {
    match output.device().is_cpu() {
        true => output.apply_op1(Seed(cotangent.detach())),
        false => (output * cotangent.detach())?.sum_all(),
    }
}

struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, input: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let zero = match input {
            CpuStorage::F64(_) => CpuStorage::F64(vec![0.0]),
            _ => CpuStorage::F32(vec![0.0]),
        };
        Ok((zero, Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}
