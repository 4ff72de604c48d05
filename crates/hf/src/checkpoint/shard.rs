//! The tensors of one file, read on demand.

use std::path::Path;

use candle_core::pickle::PthTensors;
use candle_core::safetensors::{Load, MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};
use safetensors::View;

use vxf_core::{Error, Params, Result};
use vxf_untrusted::{caught, pickle, safetensors as header};

/// Dtype and shape of a stored tensor.
pub(crate) struct Info {
    /// `None` for dtypes that candle does not support.
    pub(crate) dtype: Option<DType>,
    pub(crate) shape: Vec<usize>,
}

/// The tensors of one file, or of memory.
pub(crate) enum Shard {
    Mapped(MmapedSafetensors),
    Pickled(PthTensors),
    Gguf(crate::gguf::Weights),
    Embedded(SliceSafetensors<'static>),
    Made(Params),
}

impl Shard {
    /// Opens a file: safetensors, or a pickle if its name ends in `.bin`, or GGUF.
    ///
    /// # Errors
    /// When it cannot be read, is truncated or has another format than its name says.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let fail =
            |problem: String| Error::Checkpoint { path: file.display().to_string(), problem };
        if file.extension().is_some_and(|extension| extension == "bin") {
            return pickled(file).map(Self::Pickled).map_err(fail);
        }
        if crate::gguf::is_gguf(file) {
            return crate::gguf::Weights::open(file).map(Self::Gguf).map_err(fail);
        }
        vxf_untrusted::no_lfs_pointer(file).map_err(fail)?;
        header::header(file)
            .map_err(|problem| fail(format!("is not a complete safetensors file: {problem}")))?;
        // SAFETY: a memory map is only sound while nobody truncates the file under it. That is
        // the contract of every loader of this format; the header is checked against the length.
        #[allow(unsafe_code)]
        let tensors = unsafe { MmapedSafetensors::new(file) };
        let whole = tensors
            .map_err(|error| fail(format!("is not a complete safetensors file: {error}")))?;
        Ok(Self::Mapped(whole))
    }

    /// Tensors that are compiled into the program.
    pub(crate) fn embedded(bytes: &'static [u8]) -> Result<Self> {
        Ok(Self::Embedded(SliceSafetensors::new(bytes)?))
    }

    /// The names of all tensors, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let first = |views: Vec<(String, _)>| views.into_iter().map(|(name, _)| name).collect();
        let mut names: Vec<String> = match self {
            Self::Mapped(tensors) => first(tensors.tensors()),
            Self::Embedded(tensors) => first(tensors.tensors()),
            Self::Pickled(tensors) => tensors.tensor_infos().keys().cloned().collect(),
            Self::Gguf(weights) => weights.names().cloned().collect(),
            Self::Made(tensors) => tensors.names().map(str::to_owned).collect(),
        };
        names.sort_unstable();
        names
    }

    /// Type and shape of the tensor called `name`.
    pub(crate) fn info(&self, name: &str) -> Option<Info> {
        let view = match self {
            Self::Mapped(tensors) => tensors.get(name).ok()?,
            Self::Embedded(tensors) => tensors.get(name).ok()?,
            Self::Pickled(tensors) => {
                let info = tensors.tensor_infos().get(name)?;
                let shape = info.layout.dims().to_vec();
                return Some(Info { dtype: Some(info.dtype), shape });
            }
            Self::Gguf(weights) => {
                return Some(Info { dtype: Some(DType::F32), shape: weights.shape(name)? });
            }
            Self::Made(tensors) => {
                let tensor = tensors.get(name)?;
                return Some(Info { dtype: Some(tensor.dtype()), shape: tensor.dims().to_vec() });
            }
        };
        Some(Info { dtype: view.dtype().try_into().ok(), shape: view.shape().to_vec() })
    }

    /// The bytes of the tensor called `name`, in safetensors files alone.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        match self {
            Self::Mapped(tensors) => Some(tensors.get(name).ok()?.data().to_vec()),
            _ => None,
        }
    }

    /// Whether the tensor called `name` equals the tensor `other_name` of `other`, byte for byte.
    /// Tensors that cannot be read count as different.
    pub(crate) fn same(&self, name: &str, other: &Self, other_name: &str) -> bool {
        let key =
            |info: Option<Info>| info.map(|info| (info.dtype.map(|it| it as usize), info.shape));
        if key(self.info(name)) != key(other.info(other_name)) {
            return false;
        }
        if let (Self::Mapped(one), Self::Mapped(two)) = (self, other)
            && let (Ok(one), Ok(two)) = (one.get(name), two.get(other_name))
        {
            return one.data() == two.data();
        }
        let (Ok(one), Ok(two)) = (self.read(name), other.read(other_name)) else { return false };
        one.data() == two.data()
    }

    /// The tensor called `name` as it is stored, on the CPU.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor> {
        let tensor = match self {
            Self::Mapped(tensors) => tensors.get(name)?.load(&Device::Cpu)?,
            Self::Embedded(tensors) => tensors.get(name)?.load(&Device::Cpu)?,
            Self::Pickled(tensors) => {
                let read = caught(|| tensors.get(name));
                read.unwrap_or_else(|| Err(broken(name)))?.ok_or_else(|| missing(name))?
            }
            Self::Gguf(weights) => weights.read(name).map_err(candle_core::Error::Msg)?,
            Self::Made(tensors) => {
                let tensor = tensors.get(name).ok_or_else(|| missing(name))?;
                tensor.to_device(&Device::Cpu)?
            }
        };
        Ok(tensor.contiguous()?)
    }
}

fn missing(name: &str) -> candle_core::Error {
    candle_core::Error::Msg(format!("there is no tensor `{name}`"))
}

fn broken(name: &str) -> candle_core::Error {
    candle_core::Error::Msg(format!("the pickle's description of `{name}` is invalid"))
}

/// Opens PyTorch's zip of a pickle and raw tensors with a reader that runs no code.
fn pickled(file: &Path) -> Result<PthTensors, String> {
    vxf_untrusted::no_lfs_pointer(file)?;
    let length = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    // The reader panics on some damaged files.
    let problem = "is not a PyTorch file that can be read without running code (save it again with \
                   PyTorch 1.6 or later, or as safetensors)";
    match caught(|| pickle::check(file)) {
        Some(Ok(())) => {}
        Some(Err(error)) => return Err(format!("{problem}: {error}")),
        None => return Err(problem.to_owned()),
    }
    let tensors = match caught(|| PthTensors::new(file, None)) {
        Some(Ok(tensors)) => tensors,
        Some(Err(error)) => return Err(format!("{problem}: {error}")),
        None => return Err(problem.to_owned()),
    };
    if tensors.tensor_infos().is_empty() {
        return Err("holds no tensors; a PyTorch file must be a plain dictionary of them".into());
    }
    // The zip stores tensors uncompressed, so none can be larger than the file. The reader allocates
    // whatever size the pickle claims, so the claim is checked first.
    for info in tensors.tensor_infos().values() {
        let size = info.dtype.size_in_bytes();
        let bytes = info.layout.dims().iter().try_fold(size, |bytes, &dim| bytes.checked_mul(dim));
        if bytes.is_none_or(|bytes| bytes as u64 > length) {
            let (name, shape) = (&info.name, info.layout.dims());
            return Err(format!("tensor `{name}` {shape:?} is larger than the file"));
        }
    }
    Ok(tensors)
}

/// Whether weights may have this dtype.
pub(crate) fn is_weight(dtype: Option<DType>) -> bool {
    matches!(dtype, Some(DType::F64 | DType::F32 | DType::F16 | DType::BF16))
}
