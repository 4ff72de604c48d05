//! GGUF files: their weights under Hugging Face names, and their metadata as the files of a model
//! directory.

mod config;
mod names;
mod tokenizer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use vxf_core::{Error, Result};
use vxf_untrusted::gguf::{GgufTensor, header};

use crate::checkpoint::Format;
use names::Change;

/// The name of the weights in an unpacked directory.
pub(crate) const WEIGHTS: &str = "model.gguf";

/// Whether a name is that of a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// The GGUF file in the directory `path`, if it is the only one and there are no other weights. One that is
/// called `model.gguf` and has a `config.json` beside it is opened as a directory's weights.
pub fn alone(path: &Path) -> Option<std::path::PathBuf> {
    match crate::checkpoint::format(path) {
        None => {}
        Some(Format::Gguf) if !path.join("config.json").is_file() => {}
        Some(_) => return None,
    }
    let entries = path.read_dir().ok()?.flatten().map(|entry| entry.path());
    let mut files = entries.filter(|file| is_gguf(file) && file.is_file());
    let file = files.next()?;
    files.next().is_none().then_some(file)
}

/// Writes the metadata of the GGUF file `file` into the empty directory `to` as `config.json`,
/// `tokenizer.json` and `tokenizer_config.json`, beside a link to the file.
///
/// # Errors
/// When the file is damaged, or of an architecture or with a tokenizer that is not supported.
pub fn unpack(file: &Path, to: &Path) -> Result<()> {
    let fail = |problem: String| Error::Checkpoint { path: file.display().to_string(), problem };
    let metadata = header(file).map_err(fail)?.metadata;
    let (tokenizer, settings) = tokenizer::files(&metadata).map_err(fail)?;
    let write = |name: &str, value: &Value| {
        let path = to.join(name);
        std::fs::write(&path, format!("{value:#}\n"))
            .map_err(|source| Error::Io { path: path.display().to_string(), source })
    };
    write("config.json", &config::of(file).map_err(fail)?)?;
    write("tokenizer.json", &tokenizer)?;
    write("tokenizer_config.json", &settings)?;
    // Not resolved further: the link keeps the name that the user knows.
    let target = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    link(&target, &to.join(WEIGHTS))
}

#[cfg(unix)]
fn link(target: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, link)
        .map_err(|source| Error::Io { path: link.display().to_string(), source })
}

#[cfg(not(unix))]
fn link(target: &Path, link: &Path) -> Result<()> {
    std::fs::hard_link(target, link)
        .or_else(|_| std::fs::copy(target, link).map(drop))
        .map_err(|source| Error::Io { path: link.display().to_string(), source })
}

/// The weights of a GGUF file.
pub(crate) struct Weights {
    path: std::path::PathBuf,
    length: u64,
    /// By Hugging Face name.
    tensors: BTreeMap<String, (GgufTensor, Change)>,
}

impl Weights {
    /// Opens the weights of a file.
    ///
    /// # Errors
    /// When the header is damaged, or a tensor has no known name or type.
    pub(crate) fn open(path: &Path) -> std::result::Result<Self, String> {
        let read = header(path)?;
        let length = path.metadata().map_err(|error| format!("cannot be read: {error}"))?.len();
        let naming = names::Naming::of(&read.metadata)?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in read.tensors {
            let (name, change) = naming.tensor(&name)?;
            let bytes = bytes(&name, &tensor)?.1;
            if tensor.start.checked_add(bytes as u64).is_none_or(|end| end > length) {
                return Err(format!("has a tensor `{name}` that ends after the file"));
            }
            tensors.insert(name, (tensor, change));
        }
        Ok(Self { path: path.to_owned(), length, tensors })
    }

    /// The names of all tensors, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    /// The shape of a tensor; all are read as f32.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|(tensor, _)| tensor.shape.clone())
    }

    /// Reads a tensor and dequantises it to f32.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub(crate) fn read(&self, name: &str) -> std::result::Result<Tensor, String> {
        let (tensor, change) =
            self.tensors.get(name).ok_or_else(|| format!("there is no tensor `{name}`"))?;
        let (kind, size) = bytes(name, tensor)?;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(tensor.start))?;
            let mut bytes = Vec::with_capacity(size);
            file.take(size as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let raw = read().map_err(|error| error.to_string())?;
        if raw.len() != size {
            return Err(format!("the file of {} bytes was cut short", self.length));
        }
        let dequantised = || -> candle_core::Result<Tensor> {
            let quantised = qtensor_from_ggml(kind, &raw, tensor.shape.clone(), &Device::Cpu)?;
            change.apply(quantised.dequantize(&Device::Cpu)?.to_dtype(DType::F32)?)
        };
        dequantised().map_err(|error| error.to_string())
    }
}

/// The type of a tensor, and its number of bytes.
fn bytes(name: &str, tensor: &GgufTensor) -> std::result::Result<(GgmlDType, usize), String> {
    let kind = match tensor.kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        kind => {
            return Err(format!(
                "stores `{name}` in the type {kind}; supported are F32, F16, BF16, Q4_0, Q4_1, \
                 Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K"
            ));
        }
    };
    let count = tensor.shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
    let row = tensor.shape.last().copied().unwrap_or(1);
    let size = count
        .filter(|_| row.is_multiple_of(kind.block_size()))
        .and_then(|count| (count / kind.block_size()).checked_mul(kind.type_size()));
    match size {
        Some(size) => Ok((kind, size)),
        None => Err(format!("has a tensor `{name}` of an impossible size {:?}", tensor.shape)),
    }
}
