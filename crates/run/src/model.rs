//! The model under test with its tokenizer: the embedded one, or a directory.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vxf_core::Backbone;
use vxf_core::config::{load_backbone, load_directory};
use vxf_core::metric::Text;
use vxf_data::Codec;

use crate::recipe::hex;
use crate::settings::{EMBEDDED, ModelSettings};
use crate::{Error, Result};

/// Digests of what a model was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDigests {
    /// SHA-256 of `config.json`.
    pub config: String,
    /// SHA-256 of `model.safetensors`.
    pub weights: String,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer: String,
}

/// A base model, ready to be trained.
pub struct Base {
    /// The model, all weights frozen.
    pub backbone: Arc<dyn Backbone>,
    /// Its tokenizer.
    pub codec: Codec,
    /// Whether it is the model in this program.
    pub embedded: bool,
    /// What it was made from.
    pub digests: ModelDigests,
}

/// The device called `name`.
///
/// # Errors
/// When there is none of that name, or this program was built without it.
pub fn device(name: &str) -> Result<Device> {
    let fail = |problem: String| Error::Device { name: name.to_owned(), problem };
    let number = match (name, name.strip_prefix("cuda:")) {
        ("cpu", _) => return Ok(Device::Cpu),
        ("cuda", _) => Some(0),
        (_, Some(number)) => number.parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| fail("write cpu, cuda or cuda:N".into()))?;
    Device::new_cuda(number).map_err(|error| fail(error.to_string()))
}

impl Base {
    /// Loads the model that `settings` name.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the tokenizer does not go with the model.
    pub fn load(settings: &ModelSettings, device: &Device) -> Result<Self> {
        match settings.path.as_str() {
            EMBEDDED => Self::embedded(device),
            path => Self::directory(Path::new(path), device),
        }
    }

    fn embedded(device: &Device) -> Result<Self> {
        let checkpoint = vxf_nano::base()?;
        let digest = |bytes: &[u8]| hex(&Sha256::digest(bytes));
        let base = Self {
            backbone: load_backbone(&checkpoint, DType::F32, device)?,
            codec: Codec::world()?,
            embedded: true,
            digests: ModelDigests {
                config: digest(vxf_nano::CONFIG.as_bytes()),
                weights: digest(vxf_nano::WEIGHTS),
                tokenizer: digest(vxf_data::tokenizer_json()?.as_bytes()),
            },
        };
        base.tokenizer_fits("the embedded model")?;
        Ok(base)
    }

    fn directory(path: &Path, device: &Device) -> Result<Self> {
        let backbone = load_directory(path, DType::F32, device)?;
        let tokenizer = path.join("tokenizer.json");
        if !tokenizer.is_file() {
            return Err(Error::Tokenizer {
                origin: path.display().to_string(),
                problem: "tokenizer.json is missing".into(),
            });
        }
        let base = Self {
            backbone,
            codec: Codec::from_file(&tokenizer)?,
            embedded: false,
            digests: ModelDigests {
                config: file_digest(&path.join("config.json"))?,
                weights: file_digest(&path.join("model.safetensors"))?,
                tokenizer: file_digest(&tokenizer)?,
            },
        };
        base.tokenizer_fits(&path.display().to_string())?;
        Ok(base)
    }

    /// Every token must have an embedding; spare embeddings are common and do no harm.
    fn tokenizer_fits(&self, origin: &str) -> Result<()> {
        let vocabulary = self.backbone.architecture().vocabulary;
        let tokens = self.codec.tokenizer().get_vocab(true);
        let beyond = tokens.iter().filter(|(_, id)| **id as usize >= vocabulary);
        match beyond.min_by_key(|(_, id)| **id) {
            None => Ok(()),
            Some((token, id)) => Err(Error::Tokenizer {
                origin: origin.to_owned(),
                problem: format!(
                    "the tokenizer does not fit the model: token `{token}` has id {id}, but the \
                     vocabulary has {vocabulary} entries"
                ),
            }),
        }
    }

    /// The longest sample in tokens, if cut at `max_length` (0 for the model's own limit).
    pub fn limit(&self, max_length: usize) -> usize {
        let positions = self.backbone.architecture().positions;
        if max_length == 0 { positions } else { max_length.min(positions) }
    }
}

fn file_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// A tokenizer as metrics need it.
pub(crate) struct WorldText(pub(crate) Codec);

impl Text for WorldText {
    fn decode(&self, tokens: &[u32]) -> vxf_core::Result<String> {
        self.0.decode(tokens).map_err(|error| vxf_core::Error::Plugin {
            plugin: "tokenizer",
            source: Box::new(error),
        })
    }

    fn end(&self) -> u32 {
        self.0.eos()
    }

    fn opening(&self, word: &str) -> Option<u32> {
        self.0.first_ids(&[word]).ok().and_then(|ids| ids.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert!(device("cpu").is_ok_and(|device| device.is_cpu()));
        let error = device("tpu").expect_err("no such device");
        assert!(error.to_string().contains("write cpu, cuda or cuda:N"), "{error}");
    }
}
