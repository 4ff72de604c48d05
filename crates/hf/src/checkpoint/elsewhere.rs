//! What a directory holds in place of the expected weights.

use std::path::Path;

/// The error for a directory without any of the files `expected`: what is there, and what to do.
pub(super) fn what_is_there(directory: &Path, expected: &[&str]) -> String {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    let find = |fits: &dyn Fn(&str) -> bool| names.iter().find(|name| fits(name));
    let none = format!("holds no weights: none of {} is there", expected.join(", "));
    if let Some(name) = find(&|name| name.ends_with(".gguf")) {
        return format!("holds several GGUF files, such as {name}; give one of them as the model");
    }
    if let Some(name) = find(&|name| is_shard(name)) {
        return format!(
            "{none}, but shards such as {name} without their index; download the file \
             `model.safetensors.index.json` (or `pytorch_model.bin.index.json`) that belongs to them"
        );
    }
    if let Some(name) = find(&|name| name.starts_with("consolidated")) {
        return format!(
            "{none}, but {name} in the format of the model's authors; download the files in the \
             Hugging Face layout of the same model, or convert it with the script \
             `convert_*_weights_to_hf.py` of transformers"
        );
    }
    if names.iter().any(|name| name == "adapter_config.json") {
        return format!(
            "{none}, but an adapter; give its base as `--base` (`model.base`), or give the base as \
             the model and this directory in `model.adapters`"
        );
    }
    let weights = |name: &str| {
        [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    match find(&weights) {
        Some(name) => format!("{none}, but {name}; rename it, or save the model again"),
        None => none,
    }
}

/// Whether a name is that of one of several files of weights.
fn is_shard(name: &str) -> bool {
    (name.ends_with(".safetensors") || name.ends_with(".bin")) && name.contains("-of-")
}
