//! The recordings on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use vxf_core::{Batch, Error, Result, Site};

/// The model directories of a folder of recordings, in the order of their names.
pub(crate) fn models(path: &Path) -> Result<Vec<PathBuf>> {
    let manifest = path.join("manifest.json");
    let manifest: serde_json::Value = read_json(&manifest)?;
    let Some(models) = manifest.get("models").and_then(serde_json::Value::as_object) else {
        return Err(broken(&path.join("manifest.json"), "has no `models`"));
    };
    let mut names: Vec<_> = models.keys().collect();
    names.sort();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// A recorded model: its batches, its logits and its runs.
pub(crate) struct Model {
    directory: PathBuf,
    device: Device,
    pub(crate) batch: Batch,
    /// Further batches, for Fisher information and drift.
    pub(crate) evaluation: Vec<Batch>,
    pub(crate) logits: Tensor,
}

impl Model {
    pub(crate) fn read(directory: &Path, device: &Device) -> Result<Self> {
        let file = directory.join("batch.safetensors");
        let tensors = read_tensors(&file, device)?;
        let batch = batch(&file, &tensors, "")?;
        let mut evaluation = Vec::new();
        while tensors.contains_key(&format!("eval{}.input_ids", evaluation.len())) {
            let prefix = format!("eval{}.", evaluation.len());
            evaluation.push(self::batch(&file, &tensors, &prefix)?);
        }
        let file = directory.join("logits.safetensors");
        let logits = tensor(&file, &read_tensors(&file, device)?, "logits")?.clone();
        Ok(Self { directory: directory.into(), device: device.clone(), batch, evaluation, logits })
    }

    /// The recorded runs, in the order of their names.
    pub(crate) fn runs(&self) -> Result<Vec<Run>> {
        let folder = self.directory.join("runs");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let entries = std::fs::read_dir(&folder)
            .map_err(|source| Error::Io { path: folder.display().to_string(), source })?;
        let mut files: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        files.iter().map(|file| Run::read(file, &self.device)).collect()
    }

    pub(crate) fn adapter(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// One recorded run.
pub(crate) struct Run {
    pub(crate) record: Record,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// The JSON of a run.
#[derive(Deserialize)]
pub(crate) struct Record {
    pub(crate) spec: Spec,
    pub(crate) steps: Vec<Step>,
    pub(crate) drift_final_vs_initial: Option<f64>,
    #[serde(default)]
    pub(crate) param_l2_after: BTreeMap<String, f64>,
    /// PyTorch's names of the modules whose outputs are the sites, in order.
    #[serde(default)]
    pub(crate) perturbed_modules: Vec<String>,
    /// Corrected forms of EWC and KL, from the independent derivation.
    #[serde(
        default,
        rename = "alternative_no_leak_own_maths_only",
        alias = "alternative_kl_over_vocab_own_maths_only"
    )]
    pub(crate) corrected: Vec<Step>,
}

#[derive(Deserialize)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) rule: String,
    pub(crate) lr: f64,
    pub(crate) steps: u64,
    pub(crate) schedule: String,
    #[serde(default)]
    pub(crate) warmup: u64,
    pub(crate) adapter: Option<String>,
    #[serde(default)]
    pub(crate) rho: Option<f64>,
    #[serde(default)]
    pub(crate) lamb: Option<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) lr: f64,
    pub(crate) loss_second: f64,
    #[serde(default)]
    pub(crate) loss_first: Option<f64>,
    #[serde(default)]
    pub(crate) hidden_grad_norm_per_layer: Vec<f64>,
    #[serde(default)]
    pub(crate) hidden_grad_norm_global: Option<f64>,
    pub(crate) param_grad_norm: f64,
}

impl Run {
    /// The sites of this run in a model of `layers` layers; all attention outputs if the recording
    /// has none.
    ///
    /// # Errors
    /// Returns the module whose output is not a site.
    pub(crate) fn sites(&self, layers: usize) -> std::result::Result<Vec<Site>, String> {
        let modules = &self.record.perturbed_modules;
        match modules.is_empty() {
            true => Ok((0..layers).map(Site::attention_output).collect()),
            false => modules.iter().map(|it| site(it).ok_or_else(|| it.clone())).collect(),
        }
    }

    fn read(file: &Path, device: &Device) -> Result<Self> {
        let value = read_json(file)?;
        let record =
            Record::deserialize(value).map_err(|error| broken(file, &error.to_string()))?;
        let tensors = file.with_extension("safetensors");
        let tensors = match tensors.is_file() {
            true => read_tensors(&tensors, device)?,
            false => BTreeMap::new(),
        };
        Ok(Self { record, tensors })
    }
}

/// The site that is the output of a module, such as `model.layers.3.self_attn`.
fn site(module: &str) -> Option<Site> {
    if module.ends_with("embed_tokens") {
        return Some(Site::EMBEDDING);
    }
    let (_, rest) = module.rsplit_once("layers.")?;
    let (layer, part) = rest.split_once('.').unwrap_or((rest, ""));
    let layer = layer.parse().ok()?;
    match part {
        "self_attn" => Some(Site::attention_output(layer)),
        "mlp" | "fc2" => Some(Site::mlp_output(layer)),
        "" => Some(Site::block_output(layer)),
        _ => None,
    }
}

fn read_json(file: &Path) -> Result<serde_json::Value> {
    let text = vxf_untrusted::text(file, vxf_untrusted::LARGE)
        .map_err(|source| Error::Io { path: file.display().to_string(), source })?;
    serde_json::from_str(&text).map_err(|error| broken(file, &error.to_string()))
}

fn read_tensors(file: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let tensors = candle_core::safetensors::load(file, device)
        .map_err(|error| broken(file, &error.to_string()))?;
    Ok(tensors.into_iter().collect())
}

fn tensor<'a>(
    file: &Path,
    tensors: &'a BTreeMap<String, Tensor>,
    name: &str,
) -> Result<&'a Tensor> {
    tensors.get(name).ok_or_else(|| broken(file, &format!("has no tensor `{name}`")))
}

fn batch(file: &Path, tensors: &BTreeMap<String, Tensor>, prefix: &str) -> Result<Batch> {
    let rows = |name: &str| -> Result<Vec<Vec<i64>>> {
        let tensor = tensor(file, tensors, &format!("{prefix}{name}"))?;
        Ok(tensor.to_dtype(DType::I64)?.to_vec2()?)
    };
    let (ids, labels, mask) = (rows("input_ids")?, rows("labels")?, rows("attention_mask")?);
    let mut lengths = Vec::new();
    for row in &mask {
        let length = row.iter().take_while(|&&real| real == 1).count();
        if row[length..].iter().any(|&real| real != 0) {
            return Err(broken(file, &format!("`{prefix}attention_mask` is not right-padded")));
        }
        lengths.push(length);
    }
    let ids: Vec<Vec<u32>> =
        ids.iter().map(|row| row.iter().map(|&id| id as u32).collect()).collect();
    let ids: Vec<_> = ids.iter().map(Vec::as_slice).collect();
    let device = tensor(file, tensors, &format!("{prefix}input_ids"))?.device();
    // Padding positions hold tokens too, which two of the reference's formulas read.
    Ok(Batch { lengths, ..Batch::from_rows(&ids, &labels, device)? })
}

fn broken(file: &Path, problem: &str) -> Error {
    Error::Checkpoint { path: file.display().to_string(), problem: problem.to_owned() }
}
