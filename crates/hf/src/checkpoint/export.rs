//! Writing a model in the Hugging Face layout, one tensor at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Tensor};
use safetensors::{SafeTensorError, View};
use serde_json::{Map, Value, json};

use super::Checkpoint;
use vxf_core::{Error, Result};
use vxf_tensor::numeric::not_finite;

/// A tensor to be written.
struct Entry {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
}

impl Entry {
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.dtype.size_in_bytes() as u64
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { path, source }
}

/// Writes `checkpoint` into the directory `target`, which must be new or empty.
pub(super) fn export(checkpoint: &Checkpoint, target: &Path, max_shard_bytes: u64) -> Result<()> {
    if checkpoint.scheme().is_some() {
        return Err(checkpoint.unsupported(
            "was trained on quantised matrices (`model.quantize`): merged into the stored ones it would be \
             another model. Export the adapter (`vxf export RUN --adapter`) and load the base quantised"
                .to_owned(),
        ));
    }
    let mut entries = Vec::new();
    for (name, shape) in checkpoint.outline()?.tensors {
        checkpoint.check(&name, &shape)?;
        // A tensor that only an adapter has is stored like most of the base.
        let dtype = checkpoint.base.info(&name).and_then(|info| info.dtype);
        let dtype = dtype.unwrap_or_else(|| checkpoint.storage_dtype());
        entries.push(Entry { name, dtype, shape });
    }
    let total: u64 = entries.iter().map(Entry::bytes).sum();

    if target.is_file() || target.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        let problem = "exists already; choose another directory or remove it".to_owned();
        return Err(Error::Checkpoint { path: target.display().to_string(), problem });
    }
    std::fs::create_dir_all(target).map_err(io(target))?;
    let write = |name: &str, value: &Value| {
        let file = target.join(name);
        std::fs::write(&file, format!("{value:#}\n")).map_err(io(&file))
    };
    write("config.json", checkpoint.raw_config())?;
    let shards = shards(entries, max_shard_bytes);
    let mut map = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        map.extend(shard.iter().map(|entry| (entry.name.clone(), json!(name))));
        write_shard(checkpoint, shard, &target.join(name))?;
    }
    if shards.len() > 1 {
        map.sort_keys();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        write("model.safetensors.index.json", &index)?;
    }
    Ok(())
}

/// Writes tensors into one safetensors file with the permissions of any new file: the library gives its files to
/// their owner alone, and a run's weights are read by colleagues.
///
/// # Errors
/// When the file cannot be written.
pub fn save_tensors(tensors: &HashMap<String, Tensor>, path: &Path) -> Result<()> {
    let usual = File::create(path).and_then(|file| file.metadata()).map_err(io(path))?;
    // candle's own function would lose the path: its error has the system's words alone.
    safetensors::serialize_to_file(tensors, None, path).map_err(|error| match error {
        SafeTensorError::IoError(source) => io(path)(source),
        other => candle_core::Error::from(other).into(),
    })?;
    std::fs::set_permissions(path, usual.permissions()).map_err(io(path))
}

/// Groups the tensors, in order, into shards of at most `max_bytes` where possible.
fn shards(entries: Vec<Entry>, max_bytes: u64) -> Vec<Vec<Entry>> {
    let mut shards: Vec<Vec<Entry>> = Vec::new();
    let mut held = 0;
    for entry in entries {
        match shards.last_mut() {
            Some(shard) if held + entry.bytes() <= max_bytes => {
                held += entry.bytes();
                shard.push(entry);
            }
            _ => {
                held = entry.bytes();
                shards.push(vec![entry]);
            }
        }
    }
    shards
}

/// Writes one safetensors file: the header's length, the header, then tensor after tensor.
fn write_shard(checkpoint: &Checkpoint, entries: &[Entry], path: &Path) -> Result<()> {
    // Wide dtypes first, so that every tensor is aligned to its element size.
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.dtype.size_in_bytes()));
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut start = 0;
    for entry in &entries {
        let end = start + entry.bytes();
        let dtype: safetensors::Dtype = entry.dtype.into();
        let place = json!({ "dtype": dtype, "shape": entry.shape, "data_offsets": [start, end] });
        header.insert(entry.name.clone(), place);
        start = end;
    }
    let mut header = Value::Object(header).to_string();
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());

    let mut file = BufWriter::new(File::create(path).map_err(io(path))?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io(path))?;
    file.write_all(header.as_bytes()).map_err(io(path))?;
    for entry in entries {
        let tensor: Tensor = checkpoint.current(&entry.name)?.to_dtype(entry.dtype)?;
        if let Some(value) = not_finite(&tensor)? {
            let Entry { name, dtype, .. } = entry;
            return Err(checkpoint.error(format!("tensor `{name}` holds {value} as {dtype:?}")));
        }
        file.write_all(&tensor.data()).map_err(io(path))?;
    }
    let file = file.into_inner().map_err(|error| io(path)(error.into_error()))?;
    file.sync_all().map_err(io(path))
}
