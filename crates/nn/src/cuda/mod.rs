//! The operations of [`crate::ops`] on a CUDA device: the same functions and gradients, with the
//! kernels of `vxf-cuda`.
//!
//! They take tensors of `f32` and `bf16`. With `bf16` activations the trained weights may be `f32`;
//! they then get `f32` gradients.

mod attention;
mod cross_entropy;
mod elementwise;
mod layer_norm;
mod linear;
mod lora;
mod rms_norm;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor,
    bail,
};
use vxf_cuda::{Operand, cast, tensor, with};
use vxf_tensor::autograd::{apply1, apply2, apply3};

pub(crate) use attention::{attend, attention};
pub(crate) use cross_entropy::linear_cross_entropy;
pub(crate) use elementwise::{add_bias, heads, masked, relu, swiglu};
pub(crate) use layer_norm::layer_norm;
pub(crate) use linear::linear;
pub(crate) use lora::lora_linear;
pub(crate) use rms_norm::{add_rms_norm, rms_norm};

/// Whether the kernels support this tensor.
pub(crate) fn takes(x: &Tensor) -> bool {
    vxf_tensor::numeric::in_kernels(x)
}

/// An operation of `N` operands with its backward.
trait Kernel<const N: usize>: Send + Sync + 'static {
    /// Its name in candle's graph.
    const NAME: &'static str;

    /// The result and its shape.
    fn forward(&self, operands: [Operand<'_>; N]) -> Result<(CudaStorage, Shape)>;

    /// The gradients of the tracked operands, for the gradient `dy` of the result `y`.
    fn backward(
        &self,
        operands: [&Tensor; N],
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; N]>;
}

/// A kernel as an operation of candle's graph.
struct Op<K>(K);

fn on_the_cpu(name: &str) -> Result<(CpuStorage, Shape)> {
    bail!("{name}: a CUDA operation was given a tensor on the CPU")
}

impl<K: Kernel<1>> CustomOp1 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(K::NAME)
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.0.forward([Operand::new(x, layout)?])
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = self.0.backward([x], y, &dy.detach().contiguous()?)?;
        Ok(dx)
    }
}

impl<K: Kernel<2>> CustomOp2 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(K::NAME)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        z: &CudaStorage,
        z_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.0.forward([Operand::new(x, x_layout)?, Operand::new(z, z_layout)?])
    }

    fn bwd(
        &self,
        x: &Tensor,
        z: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(self.0.backward([x, z], y, &dy.detach().contiguous()?)?.into())
    }
}

impl<K: Kernel<3>> CustomOp3 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(K::NAME)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        z: &CudaStorage,
        z_layout: &Layout,
        w: &CudaStorage,
        w_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        // Keys and values may be the first positions of a longer cache; callers make other operands
        // contiguous.
        let from = Operand::from_start;
        self.0.forward([Operand::new(x, x_layout)?, from(z, z_layout), from(w, w_layout)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        z: &Tensor,
        w: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok(self.0.backward([x, z, w], y, &dy.detach().contiguous()?)?.into())
    }
}

fn apply_one(x: &Tensor, kernel: impl Kernel<1>) -> Result<Tensor> {
    apply1(&x.contiguous()?, Op(kernel))
}

fn apply_two([x, z]: [&Tensor; 2], kernel: impl Kernel<2>) -> Result<Tensor> {
    apply2([&x.contiguous()?, &z.contiguous()?], Op(kernel))
}

fn apply_three([x, z, w]: [&Tensor; 3], kernel: impl Kernel<3>) -> Result<Tensor> {
    apply3([&x.contiguous()?, &z.contiguous()?, &w.contiguous()?], Op(kernel))
}

/// `make`'s result as a tensor of `like`'s shape, if `like` is tracked.
fn if_tracked(like: &Tensor, make: impl FnOnce() -> Result<CudaStorage>) -> Result<Option<Tensor>> {
    like.track_op().then(|| Ok(tensor(make()?, like.shape()))).transpose()
}

/// `x` converted to `dtype`, without a graph.
fn in_type(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let x = x.detach().contiguous()?;
    if x.dtype() == dtype {
        return Ok(x);
    }
    Ok(tensor(with([&x], |[x]| cast(x, dtype))?, x.shape()))
}
