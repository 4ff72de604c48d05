//! Peak memory of a step beyond the loaded model, counted by allocation.
//!
//! The claims of `docs/performance.md`: with recomputed blocks, memory grows linearly with batch and
//! sequence, and only by its block inputs with depth; neither attention scores nor logits ever exist as a
//! whole. Each check is also run on something that breaks it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Tensor};
use peak_alloc::PeakAlloc;
use vxf as _;
use vxf_core::config::{BuildContext, DefenseConfig, PerturberConfig};
use vxf_core::engine::Recompute;
use vxf_core::stream::{Order, Stream};
use vxf_core::{Example, Key, Lora, Trainable, registry};
use vxf_hf::load_backbone;
use vxf_nn::{compose, ops};
use vxf_testkit::checkpoint::LlamaShape;
use vxf_testkit::training::training;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The counter is process-wide, and building a model allocates too: every test holds this from its first line to its last.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const RULES: [&str; 2] = ["sft", "vaccine"];

/// Runs `work` twice on one thread and returns the peak of the second time, in bytes beyond those held
/// before. The first time fills caches: tables, and the matrix product's own buffers.
fn peak<R>(mut work: impl FnMut() -> R + Send) -> usize {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        drop(work());
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        drop(work());
        ALLOCATED.peak_usage() - before
    })
}

/// A step to measure.
#[derive(Clone)]
struct Setup {
    rule: &'static str,
    lora: bool,
    recompute: Recompute,
    shape: LlamaShape,
    batch: usize,
    length: usize,
}

impl Setup {
    /// A small model whose activations outweigh everything else.
    fn new(rule: &'static str, lora: bool) -> Self {
        let shape = LlamaShape {
            hidden: 64,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            intermediate: 96,
            vocabulary: 96,
            positions: 1024,
            ..LlamaShape::default()
        };
        Self { rule, lora, recompute: Recompute::Block, shape, batch: 4, length: 96 }
    }

    /// Bytes of the embeddings passed from block to block.
    fn embeddings(&self) -> usize {
        self.batch * self.length * self.shape.hidden * size_of::<f32>()
    }

    /// Memory of a step.
    fn bytes(&self) -> usize {
        let checkpoint = self.shape.checkpoint(1).expect("random tensors");
        let model = load_backbone(&checkpoint, DType::F32, &Device::Cpu).expect("a Llama");
        drop(checkpoint);
        let adapter = Lora { rank: 4, ..Lora::default() };
        let trainable = if self.lora { Trainable::Lora(adapter) } else { Trainable::Full };
        let model = model.with_trainable(&trainable).expect("its own layers");

        let token = |row: usize, at: usize| (row * 31 + at * 7) as u32 % 96;
        let example = |row| Example {
            tokens: (0..self.length).map(|at| token(row, at)).collect(),
            prompt: 0,
            ..Example::default()
        };
        let examples: Vec<_> = (0..self.batch).map(example).collect();
        let stream = Stream::new(examples.into(), self.batch, Order::Sequential, Key::root(1));

        let defense = registry::default_of::<dyn DefenseConfig>(self.rule).expect("registered");
        let perturber = defense.perturber();
        let perturber = registry::default_of::<dyn PerturberConfig>(perturber).expect("registered");
        let weights = model.initial(&Key::root(2)).expect("weights");
        let streams = vec![("alignment", stream)];
        let stage = training(
            &*model,
            &weights,
            streams,
            defense.build(&BuildContext::bare()).expect("no model needed"),
            perturber.build(&BuildContext::bare()).expect("no model needed"),
        );
        let mut stage = stage.expect("a stage");
        drop(weights);
        stage.session.recompute = self.recompute;
        peak(|| stage.step().expect("a step"))
    }

    /// Memory at three evenly spaced sizes, which `with` sets.
    fn series(&self, sizes: [usize; 3], with: impl Fn(&mut Self, usize)) -> [usize; 3] {
        sizes.map(|size| {
            let mut setup = self.clone();
            with(&mut setup, size);
            setup.bytes()
        })
    }
}

/// Deviation of three figures from a rising line, relative to their rise.
fn bend(figures: [usize; 3]) -> f64 {
    let [first, second, third] = figures.map(|bytes| bytes as f64);
    assert!(third > second && second > first, "{figures:?}");
    (first - 2.0 * second + third).abs() / (third - first)
}

/// Tolerance for rounding: chunks that are not full, buffers of the matrix product.
const STRAIGHT: f64 = 0.03;

#[test]
fn memory_grows_linearly_with_the_batch() {
    let _alone = alone();
    for (rule, lora) in RULES.iter().flat_map(|rule| [(rule, true), (rule, false)]) {
        let figures = Setup::new(rule, lora).series([4, 8, 12], |setup, size| setup.batch = size);
        assert!(bend(figures) < STRAIGHT, "{rule}, adapter {lora}: {figures:?}");
    }
}

#[test]
fn memory_grows_linearly_with_the_sequence() {
    let _alone = alone();
    for (rule, lora) in RULES.iter().flat_map(|rule| [(rule, true), (rule, false)]) {
        let figures =
            Setup::new(rule, lora).series([128, 256, 384], |setup, size| setup.length = size);
        assert!(bend(figures) < STRAIGHT, "{rule}, adapter {lora}: {figures:?}");
    }
    // A composition of stock operations holds all scores, and breaks the law.
    let composed = |length: usize| {
        let heads = |count| Tensor::ones((4, count, length, 16), DType::F32, &Device::Cpu);
        let (q, k) = (heads(4).expect("queries"), heads(2).expect("keys"));
        peak(|| compose::attention(&q, &k, &k, None, None).expect("attention"))
    };
    let figures = [128, 256, 384].map(composed);
    assert!(bend(figures) > 4.0 * STRAIGHT, "{figures:?}");
}

/// Each layer adds its input, with Vaccine also its site's perturbation, and the gradients of its trained
/// weights. Nothing else of it is kept.
#[test]
fn a_layer_adds_its_input_and_its_perturbation() {
    let _alone = alone();
    for (rule, lora) in RULES.iter().flat_map(|rule| [(rule, true), (rule, false)]) {
        let setup = Setup::new(rule, lora);
        let grow = |setup: &Setup| setup.series([2, 4, 6], |setup, size| setup.shape.layers = size);
        let figures = grow(&setup);
        assert!(bend(figures) < STRAIGHT, "{rule}, adapter {lora}: {figures:?}");
        let each = (figures[2] - figures[0]) / 4;

        let LlamaShape { hidden, intermediate, .. } = setup.shape;
        let (square, grouped, wide) = ([hidden; 2], [hidden / 2, hidden], [intermediate, hidden]);
        let matrices = [square, grouped, grouped, square, wide, wide, wide];
        let trained = |[out, inner]: [usize; 2]| if lora { 4 * (out + inner) } else { out * inner };
        let gains = if lora { 0 } else { 2 * hidden };
        let gradients = matrices.map(trained).iter().sum::<usize>() + gains;
        let kept = if rule == &"vaccine" { 2 } else { 1 } * setup.embeddings();
        let most = kept + gradients * size_of::<f32>();
        // Names and other bookkeeping.
        let slack = setup.embeddings() / 20;
        assert!(each <= most + slack, "{rule}, adapter {lora}: {each} of {most}");
        assert!(each + slack >= setup.embeddings(), "{rule}, adapter {lora}: {each}");

        // Keeping every block's graph adds several times as much.
        let whole = grow(&Setup { recompute: Recompute::None, ..setup });
        let kept = (whole[2] - whole[0]) / 4;
        assert!(kept > 5 * each && whole[0] > figures[0], "{rule}, adapter {lora}: {whole:?}");
    }
}

#[test]
fn scores_never_exist_as_a_whole() -> Result<()> {
    let _alone = alone();
    let (heads, length) = (8, 1024);
    let all = heads * length * length * size_of::<f32>();
    for rule in RULES {
        let setup = Setup::new(rule, true);
        let shape =
            LlamaShape { hidden: 32, heads, kv_heads: heads, intermediate: 32, ..setup.shape };
        let setup = Setup { shape, batch: 1, length, ..setup };
        let bytes = setup.bytes();
        assert!(bytes < all / 2, "{rule}: {bytes} beside scores of {all} bytes");
    }
    let q = Tensor::ones((1, heads, length, 4), DType::F32, &Device::Cpu)?;
    let composed = peak(|| compose::attention(&q, &q, &q, None, None));
    assert!(composed > all, "the composition holds them: {composed}");
    let fused = peak(|| ops::attention(&q, &q, &q, None, None));
    assert!(fused < all / 20, "{fused}");
    Ok(())
}

#[test]
fn logits_never_exist_as_a_whole() -> Result<()> {
    let _alone = alone();
    let (rows, classes, width) = (2048, 8192, 16);
    let all = rows * classes * size_of::<f32>();
    for rule in RULES {
        let setup = Setup::new(rule, true);
        let shape = LlamaShape {
            hidden: width,
            heads: 2,
            intermediate: width,
            vocabulary: classes,
            layers: 1,
            ..setup.shape
        };
        let setup = Setup { shape, batch: 8, length: rows / 8, ..setup };
        let bytes = setup.bytes();
        assert!(bytes < all / 2, "{rule}: {bytes} beside logits of {all} bytes");
    }
    let (h, w) = (
        Tensor::ones((rows, width), DType::F32, &Device::Cpu)?,
        Tensor::ones((classes, width), DType::F32, &Device::Cpu)?,
    );
    let composed = peak(|| compose::linear_cross_entropy(&h, &w, &[1; 2048], None));
    assert!(composed > all, "the composition holds them: {composed}");
    Ok(())
}
