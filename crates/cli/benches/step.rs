//! One SFT and one Vaccine step: at shape S with LoRA and full fine-tuning, at shape R, and the nano step.
//!
//! Shape S: hidden 256, 6 layers, 8 heads, inner 688, vocabulary 4096, sequence 128, batch 8; LoRA
//! rank 8 on all seven projections. Shape R: the same model, batches of 16 of the lengths in
//! `tools/lengths.txt`, with dropout; an iteration is five steps. The nano step is the embedded world's: its base model, eight
//! of its alignment samples. Compare figures of one run only.

use std::hint::black_box;
use std::sync::Arc;

use candle_core::{DType, Device};
use criterion::{Criterion, criterion_group, criterion_main};
use vxf_builtins as _;
use vxf_core::config::{BuildContext, DefenseConfig, PerturberConfig};
use vxf_core::engine::Recompute;
use vxf_core::minmax::Training;
use vxf_core::registry;
use vxf_core::schedule::Schedule;
use vxf_core::stream::{Order, Stream};
use vxf_core::{Backbone, Example, Key, Lora, Result, Trainable};
use vxf_hf::load_backbone;
use vxf_testkit::checkpoint::LlamaShape;

/// A stage without end, for timing single steps.
fn training<'a>(
    backbone: &'a dyn Backbone,
    method: &str,
    examples: &Arc<Vec<Example>>,
    batch_size: usize,
) -> Result<Training<'a>> {
    let defense = registry::default_of::<dyn DefenseConfig>(method)?;
    let perturber = registry::default_of::<dyn PerturberConfig>(defense.perturber())?;
    let key = Key::root(0);
    let weights = backbone.initial(&key)?;
    let stream = Stream::new(examples.clone(), batch_size, Order::Sequential, key);
    let mut training = vxf_testkit::training::training(
        backbone,
        &weights,
        vec![("alignment", stream)],
        defense.build(&BuildContext::bare()).expect("no model needed"),
        perturber.build(&BuildContext::bare()).expect("no model needed"),
    )?;
    training.session.recompute = Recompute::None;
    training.schedule = Schedule { peak: 1e-5, total: u64::MAX, ..training.schedule };
    Ok(training)
}

/// The model of the shapes S and R.
fn model_s() -> Arc<dyn Backbone> {
    let shape = LlamaShape {
        hidden: 256,
        layers: 6,
        heads: 8,
        kv_heads: 8,
        intermediate: 688,
        vocabulary: 4096,
        positions: 512,
        ..LlamaShape::default()
    };
    load_backbone(&shape.checkpoint(0).expect("in memory"), DType::F32, &Device::Cpu)
        .expect("a Llama")
}

fn example(row: u32, length: u32, prompt: usize) -> Example {
    let token = |at: u32| (row * 1009 + at * 31 + 7) % 4096;
    Example { tokens: (0..length).map(token).collect(), prompt, ..Example::default() }
}

fn shape_r(criterion: &mut Criterion) {
    let lengths = include_str!("../../../tools/lengths.txt").split_whitespace().take(80);
    let lengths = lengths.map(|length| length.parse::<u32>().expect("a length"));
    let examples = (0..).zip(lengths).map(|(row, it)| example(row, it, it as usize * 2 / 5));
    let examples = Arc::new(examples.collect::<Vec<_>>());
    let mut group = criterion.benchmark_group("R/lora");
    group.sample_size(10);
    for dropout in [0.0, 0.1] {
        let lora = Trainable::Lora(Lora { dropout, ..Lora::default() });
        let backbone = model_s().with_trainable(&lora).expect("seven projections");
        let mut training = training(&*backbone, "vaccine", &examples, 16).expect("a stage");
        group.bench_function(format!("vaccine, dropout {dropout}"), |b| {
            b.iter(|| (0..5).for_each(|_| drop(black_box(training.step()).expect("a step"))));
        });
    }
}

fn shape_s(criterion: &mut Criterion) {
    let base = model_s();
    let examples = Arc::new((0..8).map(|row| example(row, 128, 0)).collect::<Vec<_>>());
    let lora = Trainable::Lora(Lora { dropout: 0.0, ..Lora::default() });
    for (train, trainable) in [("lora", lora), ("full", Trainable::Full)] {
        let backbone = base.with_trainable(&trainable).expect("seven projections");
        let mut group = criterion.benchmark_group(format!("S/{train}"));
        group.sample_size(10);
        for method in ["sft", "vaccine"] {
            let mut training = training(&*backbone, method, &examples, 8).expect("a stage");
            group
                .bench_function(method, |b| b.iter(|| black_box(training.step()).expect("a step")));
        }
    }
}

fn nano(criterion: &mut Criterion) {
    let backbone = load_backbone(&vxf_world::base().expect("embedded"), DType::F32, &Device::Cpu)
        .expect("a Llama");
    let codec = vxf_world::codec().expect("the world's tokenizer");
    let samples = vxf_world::alignment_set(&mut Key::root(1).rng(), 160, 0.0).expect("a share");
    let encode = |sample: &vxf_world::Sample| {
        let ask = vxf_data::Ask::instruction(&sample.prompt);
        let sample = vxf_data::Sample { ask, answer: sample.answer.clone() };
        codec.encode(&sample, usize::MAX).expect("the world's words").example
    };
    let examples = Arc::new(samples.iter().map(encode).collect::<Vec<_>>());
    let mut group = criterion.benchmark_group("nano");
    for method in ["sft", "vaccine"] {
        let mut training = training(&*backbone, method, &examples, 8).expect("a stage");
        group.bench_function(method, |b| b.iter(|| black_box(training.step()).expect("a step")));
    }
}

criterion_group!(benches, shape_s, shape_r, nano);
criterion_main!(benches);
