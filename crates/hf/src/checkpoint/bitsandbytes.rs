//! Matrices that bitsandbytes stored in four or eight bits.
//!
//! A matrix `W` of four bits is stored under its name as bytes, beside `W.absmax`, `W.quant_map` and a small
//! JSON text as `W.quant_state.bitsandbytes__nf4` (or `__fp4`); if its scales are quantised too, beside
//! `W.nested_absmax` and `W.nested_quant_map`. A matrix of eight bits is stored as integers, beside the largest
//! magnitude of each row as `SCB` of its layer.

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde_json::Value;
use vxf_tensor::Quantized;
use vxf_tensor::quantized::{Blockwise, Rowwise, Scales, Scheme};

use super::shard::{Info, Shard};

/// What is stored beside a matrix of four bits, by the ends of the names.
const BESIDE: [&str; 6] = [
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
];
/// What is stored beside the weight of a layer of eight bits: the largest magnitudes, and a mark.
const ROWS: &str = "SCB";
const FORMAT: &str = "weight_format";

/// The state of a matrix of four bits.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

/// Whether a configuration says that bitsandbytes stored the weights.
pub(super) fn is_named(config: &Value) -> bool {
    let quantization = &config["quantization_config"];
    quantization["quant_method"] == "bitsandbytes"
        || quantization["load_in_4bit"] == true
        || quantization["load_in_8bit"] == true
}

/// The weight that the tensor called `name` belongs to, if it is stored beside one.
pub(super) fn weight_of(name: &str) -> Option<String> {
    if let Some(weight) = BESIDE.iter().find_map(|end| name.strip_suffix(end)) {
        return Some(weight.to_owned());
    }
    let (layer, last) = name.rsplit_once('.')?;
    [ROWS, FORMAT].contains(&last).then(|| format!("{layer}.weight"))
}

/// Shape and type of the matrix `name`, if it is stored so.
pub(super) fn info(shard: &Shard, name: &str) -> Option<Info> {
    if let Some(state) = state(shard, name) {
        let state = state.ok()?;
        let dtype = match state.dtype.as_str() {
            "float16" => DType::F16,
            "bfloat16" => DType::BF16,
            _ => DType::F32,
        };
        return Some(Info { dtype: Some(dtype), shape: state.shape });
    }
    let rows = shard.info(&beside_layer(name, ROWS)?)?;
    let info = shard.info(name)?;
    let fits = info.shape.len() == 2 && info.shape.first() == rows.shape.first();
    fits.then_some(Info { dtype: Some(DType::F16), shape: info.shape })
}

/// How the matrix `name` is stored, if in few bits.
pub(super) fn scheme(shard: &Shard, name: &str) -> Option<Scheme> {
    if state(shard, name).is_some() {
        return Some(Scheme::Nf4);
    }
    beside_layer(name, ROWS).filter(|rows| shard.info(rows).is_some()).map(|_| Scheme::Int8)
}

/// The matrix `name` as it is stored; nothing if it is stored otherwise.
///
/// # Errors
/// When its parts do not fit each other.
pub(super) fn read(shard: &Shard, name: &str) -> Result<Option<Quantized>, String> {
    if let Some(state) = state(shard, name) {
        return four_bits(shard, name, &state?).map(Some);
    }
    let Some(rows) = beside_layer(name, ROWS).filter(|rows| shard.info(rows).is_some()) else {
        return Ok(None);
    };
    let permuted = beside_layer(name, FORMAT).and_then(|format| shard.bytes(&format));
    if permuted.is_some_and(|format| format.iter().any(|byte| *byte != 0)) {
        return Err(format!(
            "`{name}` is stored in the order of one kind of GPU (`{FORMAT}` is not 0); load it with an older \
             bitsandbytes and save it with a new one"
        ));
    }
    let (Some(info), Some(bytes)) = (shard.info(name), shard.bytes(name)) else { return Ok(None) };
    let &[_, columns] = info.shape.as_slice() else { return Ok(None) };
    let largest = numbers(shard, &rows)?;
    let codes: Vec<i8> = bytes.iter().map(|byte| byte.cast_signed()).collect();
    let codes = Rowwise::stored(&codes, largest).map_err(|error| error.to_string())?;
    Quantized::rowwise(codes, columns).map(Some).map_err(|error| error.to_string())
}

fn beside_layer(name: &str, part: &str) -> Option<String> {
    Some(format!("{}.{part}", name.strip_suffix(".weight")?))
}

/// The state of a matrix of four bits, if there is one.
fn state(shard: &Shard, name: &str) -> Option<Result<State, String>> {
    let kind = ["nf4", "fp4"]
        .into_iter()
        .find_map(|kind| shard.bytes(&format!("{name}.quant_state.bitsandbytes__{kind}")))?;
    let text = String::from_utf8_lossy(&kind);
    let parsed = serde_json::from_str(&text);
    Some(parsed.map_err(|error| format!("the state of `{name}` cannot be read: {error}")))
}

fn four_bits(shard: &Shard, name: &str, state: &State) -> Result<Quantized, String> {
    let said = |error: candle_core::Error| format!("`{name}`: {error}");
    let &[rows, columns] = state.shape.as_slice() else {
        return Err(format!("`{name}` has the shape {:?}, which is no matrix", state.shape));
    };
    if rows.checked_mul(columns).is_none() {
        return Err(format!("`{name}` has the shape {:?}, which is too large", state.shape));
    }
    if !["nf4", "fp4"].contains(&state.quant_type.as_str()) {
        return Err(format!("`{name}` is stored as {}, which is unknown", state.quant_type));
    }
    let beside = |part: &str| format!("{name}.{part}");
    let bytes = |name: &str| {
        let found = shard.bytes(name).ok_or_else(|| format!("`{name}` is missing"))?;
        let count = found.len();
        Tensor::from_vec(found, count, &Device::Cpu).map_err(said)
    };
    let floats = |name: &str| {
        let found = numbers(shard, name)?;
        let count = found.len();
        Tensor::from_vec(found, count, &Device::Cpu).map_err(said)
    };
    let scales = match (state.nested_blocksize, state.nested_offset) {
        (None, _) => Scales::Plain(floats(&beside("absmax"))?),
        (Some(256), Some(offset)) if offset.is_finite() => {
            let (codes, map) = (bytes(&beside("absmax"))?, floats(&beside("nested_quant_map"))?);
            let states = floats(&beside("nested_absmax"))?;
            if map.elem_count() != 256 || states.elem_count() != codes.elem_count().div_ceil(256) {
                return Err(format!("the scales of `{name}` do not fit each other"));
            }
            Scales::Quantized { codes, map, states, offset }
        }
        (Some(size), _) => {
            let offset = state.nested_offset;
            return Err(format!(
                "the scales of `{name}` are in blocks of {size} with the offset {offset:?}; blocks of 256 \
                 with a finite offset are read"
            ));
        }
    };
    let table = numbers(shard, &beside("quant_map"))?;
    let codes = Blockwise::stored(bytes(name)?, scales, state.blocksize, &table).map_err(said)?;
    Quantized::blockwise(codes, rows, columns).map_err(said)
}

/// The tensor called `name` as f32.
fn numbers(shard: &Shard, name: &str) -> Result<Vec<f32>, String> {
    if shard.info(name).is_none() {
        return Err(format!("`{name}` is missing"));
    }
    let tensor = shard.read(name).map_err(|error| error.to_string())?;
    let flat = tensor.to_dtype(DType::F32).and_then(|it| it.flatten_all()?.to_vec1());
    let flat: Vec<f32> = flat.map_err(|error| format!("`{name}`: {error}"))?;
    match flat.iter().find(|value| !value.is_finite()) {
        None => Ok(flat),
        Some(value) => Err(format!("`{name}` holds {value}; every number must be finite")),
    }
}
