//! The cost of a stage in operations and bytes, computed from the model's shapes.

use std::collections::BTreeSet;

use candle_core::{DType, Device};
use vxf_core::Trainable;
use vxf_core::engine::Recompute;
use vxf_core::quantized::Scheme;
use vxf_hf::Outline;

use crate::Result;
use crate::measure::Set;
use crate::plan::estimate::StageCost;
use vxf_access::device;
use vxf_recipe::settings::{Keep, TrainingSettings};
use vxf_recipe::{Recipe, StageRecipe};

/// Samples and tokens of one pass over a stage's data.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) samples: usize,
    tokens: usize,
    pub(crate) longest: usize,
    counted: bool,
}

impl Workload {
    pub(crate) fn counted(set: &Set) -> Self {
        let longest = set.longest();
        Self { samples: set.examples.len(), tokens: set.tokens(), longest, counted: true }
    }

    /// Upper bounds from the recipe and the model.
    pub(crate) fn bound(recipe: &Recipe, outline: &Outline, set: &str) -> Self {
        let data = &recipe.data.config;
        let (samples, limit) = (data.at_most(set), outline.architecture.positions);
        let longest = match data.longest() {
            0 => limit,
            longest => longest.min(limit),
        };
        Self { samples, tokens: samples * longest, longest, counted: false }
    }
}

/// The inputs of a cost estimate.
pub(crate) struct Sizes<'a> {
    pub(crate) outline: &'a Outline,
    pub(crate) bytes_each: u64,
    /// How the matrices of linear layers are held, if in few bits.
    pub(crate) scheme: Option<Scheme>,
    pub(crate) recompute: Recompute,
    /// Operations per second.
    pub(crate) rate: f64,
    /// Number of logits held at one time.
    pub(crate) logits: usize,
    /// Bytes that are kept of an element of a dropout mask.
    pub(crate) mask_bytes: u64,
}

/// Bytes of an element of a dropout mask that is kept for the backward pass. A GPU draws it again, except
/// in the types for which it has no kernels of its own.
fn mask_bytes(on: &Device, dtype: DType) -> u64 {
    match dtype {
        _ if on.is_cpu() => 1,
        DType::F32 | DType::BF16 => 0,
        other => other.size_in_bytes() as u64,
    }
}

/// The largest number of logits that the cross-entropy holds at one time on a device: about so many on a
/// CPU, whole rows on a GPU.
fn logits(on: &Device, vocabulary: usize) -> usize {
    if on.is_cpu() {
        return 1 << 23;
    }
    let rows = ((1 << 24) / vocabulary.max(1) / 128 * 128).clamp(1024, 4096);
    rows * vocabulary
}

/// What to keep for the backward pass: the recipe's choice, or what fits the free memory of the device,
/// with `at_once` stages training side by side on samples of up to `longest` tokens.
///
/// # Errors
/// When an adapter names a layer that the model does not have.
pub(crate) fn recompute(
    recipe: &Recipe,
    outline: &Outline,
    longest: usize,
    at_once: usize,
    on: &Device,
) -> Result<Recompute> {
    match recipe.settings.recompute {
        Keep::None => return Ok(Recompute::None),
        Keep::Block => return Ok(Recompute::Block),
        Keep::Auto => {}
    }
    let Some(available) = device::free(on) else {
        return Ok(Recompute::Block);
    };
    let sizes = Sizes::of(recipe, outline, on, Recompute::None);
    let mut most = 0;
    for stage in recipe.stages().filter(|stage| stage.trains()) {
        let settings = &stage.training;
        let trainable = sizes.trainable(&settings.trainable)?;
        let bytes = sizes.bytes(settings, longest, true, trainable, copies(stage));
        most = most.max(bytes + sizes.references(stage));
    }
    // A fifth of the memory is left for everything else.
    let fits = most * at_once as u64 <= available / 5 * 4;
    Ok(if fits { Recompute::None } else { Recompute::Block })
}

impl<'a> Sizes<'a> {
    /// Those of `recipe` on the device `on`, with a rate that is not measured: bytes do not depend on it.
    pub(crate) fn of(
        recipe: &Recipe,
        outline: &'a Outline,
        on: &Device,
        recompute: Recompute,
    ) -> Self {
        let dtype = DType::from(recipe.model.dtype);
        Self {
            outline,
            bytes_each: dtype.size_in_bytes() as u64,
            scheme: recipe.model.quantize.scheme(),
            recompute,
            rate: 1.0,
            logits: logits(on, outline.architecture.vocabulary),
            mask_bytes: mask_bytes(on, dtype),
        }
    }

    pub(crate) fn stage(&self, stage: &StageRecipe, load: &Workload) -> Result<StageCost> {
        let settings = &stage.training;
        let inner = &stage.perturber.config;
        let passes = stage.maker().map_or(1.0, |method| {
            let share = method.config.perturbed_share();
            method.config.passes() + share * inner.passes() as f64
        });
        let perturbed = inner.sites().is_some();
        let steps = if stage.trains() { settings.steps(load.samples) } else { 0 };
        let passes_over = if steps > 0 { settings.passes(load.samples) } else { 0.0 };
        let tokens = (passes_over * load.tokens as f64).round() as u64;
        let trainable = self.trainable(&settings.trainable)?;
        let operations =
            tokens as f64 * self.operations_per_token(load.longest, passes, &settings.trainable);
        let name = stage.label();
        Ok(StageCost {
            stage: stage.kind,
            method: match stage.perturber.name {
                "none" => name,
                perturber => format!("{name} with perturber {perturber}"),
            },
            samples: load.samples,
            steps,
            tokens,
            counted: load.counted,
            trainable,
            bytes: self.bytes(settings, load.longest, perturbed, trainable, copies(stage))
                + self.references(stage),
            operations,
            seconds: operations / self.rate,
        })
    }

    /// Bytes of the model that a stage's methods run beside the trained one; one at a time.
    fn references(&self, stage: &StageRecipe) -> u64 {
        let runs = stage.methods.iter().any(|method| method.config.runs_references());
        if runs { self.model_bytes() } else { 0 }
    }

    /// Bytes of the model's weights, at rest.
    pub(crate) fn model_bytes(&self) -> u64 {
        let all = self.outline.count() as u64 * self.bytes_each;
        let Some(scheme) = self.scheme else { return all };
        let held = self
            .linears()
            .map(|[out, input]| (scheme.bytes(out, input), (out * input) as u64 * self.bytes_each));
        held.fold(all, |sum, (few, dense)| sum - dense + few)
    }

    /// Bytes of the buffer for dequantised matrices: at most those of one block's layers of the same input.
    fn dequantised(&self) -> u64 {
        let joint = |parts: &[&str]| -> usize {
            let own = self.matrices().filter(|(name, _)| name.contains(".layers.0."));
            own.filter(|(name, _)| parts.iter().any(|part| name.contains(part)))
                .map(|(_, [out, input])| out * input)
                .sum()
        };
        let layers: [&[&str]; 4] = [&["gate_", "up_proj"], &["down_proj"], &["fc"], &["self_attn"]];
        let most = layers.map(joint).into_iter().max().unwrap_or(0);
        if self.scheme.is_some() { most as u64 * self.bytes_each } else { 0 }
    }

    /// The sizes of the linear layers' matrices.
    fn linears(&self) -> impl Iterator<Item = [usize; 2]> {
        let linears: BTreeSet<_> = self.outline.linears.iter().map(String::as_str).collect();
        self.matrices().filter(move |(name, _)| linears.contains(name)).map(|(_, shape)| shape)
    }

    fn matrices(&self) -> impl Iterator<Item = (&str, [usize; 2])> {
        let tensors = self.outline.tensors.iter();
        tensors.filter_map(|(name, shape)| {
            Some((name.strip_suffix(".weight")?, <[usize; 2]>::try_from(shape.as_slice()).ok()?))
        })
    }

    fn trainable(&self, trainable: &Trainable) -> Result<usize> {
        let parameters = self.outline.parameters(trainable)?;
        Ok(parameters.iter().map(|each| each.shape.iter().product::<usize>()).sum())
    }

    /// Multiplications and additions for one token of a step.
    ///
    /// One pass goes forward, forward again block by block if it recomputes, and backward through the
    /// activations. Weight gradients are taken only in the last pass.
    fn operations_per_token(&self, length: usize, passes: f64, what: &Trainable) -> f64 {
        let architecture = &self.outline.architecture;
        // The embedding is a lookup; a tied embedding is also the output matrix.
        let tables = architecture.vocabulary * architecture.width;
        let weights: usize = self.matrices().map(|(_, [out, input])| out * input).sum();
        let multiplied = weights.saturating_sub(tables).max(tables);
        // Causal attention: half of the scores and of the weighted sums.
        let attention = architecture.layers * architecture.width * length;
        let forward = 2.0 * (multiplied + attention) as f64;
        let weight_gradients = if matches!(what, Trainable::Full) { 1.0 } else { 0.0 };
        let walks = if self.recompute == Recompute::Block { 3.0 } else { 2.0 };
        forward * (walks * passes + weight_gradients)
    }

    fn bytes(
        &self,
        settings: &TrainingSettings,
        length: usize,
        perturbed: bool,
        trainable: usize,
        copies: f64,
    ) -> u64 {
        let Outline { architecture, .. } = self.outline;
        let weights = self.model_bytes() + self.dequantised();
        // The values and Adam's two moments. Gradients appear while kept activations are freed.
        let own = trainable as u64 * self.bytes_each.max(4);
        let positions = (settings.batch_size * length) as u64;
        // Inside one block: the outputs of its matrices, the product inside the MLP, about eleven tensors
        // of the model's width (norms, sums, heads and their mixture), and the dropout masks of adapters.
        let first = || self.matrices().filter(|(name, _)| name.contains(".layers.0."));
        let widest = first().map(|(_, [out, _])| out).max().unwrap_or(0);
        let masks: usize = match &settings.trainable {
            Trainable::Lora(lora) if lora.dropout > 0.0 => {
                first().filter(|(name, _)| lora.targets(name)).map(|(_, [_, input])| input).sum()
            }
            _ => 0,
        };
        let outputs: usize = first().map(|(_, [out, _])| out).sum();
        let masks = (masks as u64 * self.mask_bytes).div_ceil(self.bytes_each) as usize;
        let inside = outputs + widest + 11 * architecture.width + masks;
        // Block inputs with one perturbation each, or all tensors of every block.
        let each = match self.recompute {
            Recompute::Block if perturbed => 2 * architecture.width,
            Recompute::Block => architecture.width,
            Recompute::None if perturbed => inside + architecture.width,
            Recompute::None => inside,
        };
        let kept = positions * (architecture.layers * each) as u64 * self.bytes_each;
        // The largest tensors in use: one block with its gradients, or the logits in f32 with their
        // gradients.
        let block = positions * (2 * inside) as u64 * self.bytes_each;
        let logits = (positions * architecture.vocabulary as u64).min(self.logits as u64);
        let descending = kept + block.max(logits * (4 + self.bytes_each));
        // The gradient of the embedding comes last: a table of zeros and the scattered rows, and in half
        // types the same again in f32.
        let table = (architecture.vocabulary * architecture.width) as u64;
        let embedding = match &settings.trainable {
            Trainable::Full if self.bytes_each < 4 => table * (2 * self.bytes_each + 8),
            Trainable::Full => table * self.bytes_each,
            Trainable::Lora(_) => 0,
        };
        let copied = (copies * own as f64) as u64;
        weights + 3 * own + copied + descending.max(own + embedding)
    }
}

/// Copies of the trained weights held by a stage's methods.
fn copies(stage: &StageRecipe) -> f64 {
    stage.methods.iter().map(|method| method.config.copies()).sum()
}

#[cfg(test)]
mod tests {
    use vxf_builtins as _;

    use vxf_hf::outline;

    use super::*;

    /// The shapes of Llama-2-7B, as in its `config.json`.
    fn llama() -> Outline {
        let shape = serde_json::json!({
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
            "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000,
            "max_position_embeddings": 4096,
        });
        outline(&shape, "test").expect("a Llama")
    }

    fn sizes(outline: &Outline, recompute: Recompute) -> Sizes<'_> {
        Sizes {
            outline,
            bytes_each: 4,
            scheme: None,
            recompute,
            rate: 1e9,
            logits: 1 << 23,
            mask_bytes: 1,
        }
    }

    /// Llama 2 7B in four bits, an adapter of rank 8, five samples of 200 tokens, recomputing: within 7 GB.
    #[test]
    fn a_quantised_base_fits_a_small_machine() {
        let outline = llama();
        let dense = sizes(&outline, Recompute::Block);
        let sizes = Sizes { scheme: Some(Scheme::Nf4), ..dense };
        // 0.5 bytes and a scale of 1 + 4 / 256 bytes for 64 numbers.
        let matrices: usize = sizes.linears().map(|[out, input]| out * input).sum();
        let held = sizes.model_bytes() - (outline.count() - matrices) as u64 * 4;
        let each = held as f64 / matrices as f64;
        assert!((each - (0.5 + (1.0 + 4.0 / 256.0) / 64.0)).abs() < 1e-3, "{each}");
        assert!(each / 4.0 < 0.13);
        let trainable = Trainable::Lora(vxf_core::Lora::default());
        let count = sizes.trainable(&trainable).expect("seven projections");
        let settings = TrainingSettings { trainable, batch_size: 5, ..TrainingSettings::default() };
        let bytes = sizes.bytes(&settings, 200, true, count, 0.0);
        assert!(bytes < 7_000_000_000, "{} MB", bytes / 1_000_000);
    }

    #[test]
    fn a_published_adapter_has_its_published_size() {
        let outline = llama();
        let sizes = sizes(&outline, Recompute::None);
        assert_eq!(outline.count(), 6_738_415_616);
        // Rank 8 on all seven projections: 32 layers of 8 * (4 * 8192 + 3 * 15104).
        let lora = Trainable::Lora(vxf_core::Lora::default());
        assert_eq!(sizes.trainable(&lora).ok(), Some(19_988_480));
    }

    /// The published batch of 5 samples of 200 tokens fits a card of 24 GB, beside what CUDA itself
    /// takes.
    #[test]
    fn seven_billion_weights_fit_a_small_card() {
        let outline = llama();
        let block = sizes(&outline, Recompute::Block);
        let sizes = Sizes { bytes_each: 2, logits: 1024 * 32_000, mask_bytes: 0, ..block };
        let lora = vxf_core::Lora { dropout: 0.1, ..vxf_core::Lora::default() };
        let trainable = Trainable::Lora(lora);
        let count = sizes.trainable(&trainable).expect("seven projections");
        let settings = TrainingSettings { trainable, batch_size: 5, ..TrainingSettings::default() };
        let bytes = sizes.bytes(&settings, 200, true, count, 0.0);
        assert!((13 << 30..16 << 30).contains(&bytes), "{} MiB", bytes >> 20);
    }

    #[test]
    fn the_cost_of_passes_matches_a_count() {
        let outline = llama();
        let sizes = sizes(&outline, Recompute::Block);
        let lora = Trainable::Lora(vxf_core::Lora::default());
        let per = |passes, what: &Trainable| sizes.operations_per_token(200, passes, what);
        assert!((per(2.0, &lora) / per(1.0, &lora) - 2.0).abs() < 1e-9);
        assert!((per(2.0, &Trainable::Full) / per(1.0, &Trainable::Full) - 1.75).abs() < 1e-9);
        // A forward pass takes about two operations for each of the 6.6 billion matrix entries.
        assert!((per(1.0, &lora) / 3.0 / 2.0 - 6.6e9).abs() < 0.1e9);
    }
}
