//! Times training steps and generation on random models; prints one JSON object per line.
//!
//! `tools/bench.py` runs this beside the same work in PyTorch. Shapes: `nano` (the embedded model,
//! sequence 32, batch 8), `S` (hidden 256, 6 layers, vocabulary 4096, sequence 128, batch 8), `M`
//! (hidden 768, 12 layers, vocabulary 32000, sequence 256, batch 4), `135M` (SmolLM2-135M, sequence 256,
//! batch 8), `7B` (Llama-2-7B, sequence 200, batch 5; give its weights with `--checkpoint`). With `--real`
//! samples have the lengths of `tools/lengths.txt`, or of a file of yours (shape R).
//! `tools/cuda/gpu.py` runs it on a GPU.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use vxf_access::Access;
use vxf_access::device::device;
use vxf_core::Stage;
use vxf_core::config::{BuildContext, DefenseConfig, PerturberConfig};
use vxf_core::engine::Recompute;
use vxf_core::minmax::Training;
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::quantized::Scheme;
use vxf_core::registry;
use vxf_core::schedule::{Decay, Schedule};
use vxf_core::step::Session;
use vxf_core::stream::{Order, Stream, Streams};
use vxf_core::{Backbone, Error, Example, Key, Lora, Result, Rows, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;
use vxf_recipe::{Experiment, Layer, Place, UsualStage};
use vxf_run::Estimate;
use vxf_testkit::checkpoint::LlamaShape;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "S")]
    shape: String,
    #[arg(long, default_value = "lora")]
    train: Train,
    /// A defence: sft, vaccine, ...
    #[arg(long, default_value = "vaccine")]
    rule: String,
    #[arg(long, default_value = "none")]
    recompute: Keep,
    #[arg(long, default_value_t = 10)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long)]
    batch: Option<usize>,
    #[arg(long)]
    seq: Option<usize>,
    #[arg(long)]
    layers: Option<usize>,
    /// Samples of real lengths, two fifths of them prompt, instead of a full rectangle (shape R).
    #[arg(long)]
    real: bool,
    /// A file of lengths in tokens, separated by white space, for `--real`.
    #[arg(long, value_name = "FILE", requires = "real")]
    lengths: Option<PathBuf>,
    /// Dropout of the adapter's input.
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// How the matrices of linear layers are held: none, nf4 or int8.
    #[arg(long, default_value = "none")]
    quantize: String,
    /// A model directory of the given shape, to load weights from.
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Generates this many tokens after a prompt of 32, instead of training.
    #[arg(long, value_name = "TOKENS")]
    generate: Option<usize>,
    /// Times large matrix products instead of training.
    #[arg(long)]
    matmul: bool,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Train {
    Lora,
    Full,
}

#[derive(Clone, Copy, ValueEnum)]
enum Keep {
    None,
    Block,
}

/// A shape with its batch.
struct Size {
    shape: LlamaShape,
    batch: usize,
    seq: usize,
    /// Of each sample; all of `seq` tokens without labels to spare where there are none.
    lengths: Option<Vec<usize>>,
}

/// Lengths of samples that leave as much padding as those of GSM8K do.
const LENGTHS: &str = include_str!("../../../tools/lengths.txt");

/// The lengths that `--real` asks for.
fn lengths(args: &Args) -> Result<Option<Vec<usize>>, String> {
    if !args.real {
        return Ok(None);
    }
    let text = match &args.lengths {
        None => LENGTHS.to_owned(),
        Some(file) => std::fs::read_to_string(file).map_err(|error| error.to_string())?,
    };
    let lengths = text.split_whitespace().map(str::parse).collect::<Result<Vec<usize>, _>>();
    match lengths {
        Ok(lengths) if !lengths.is_empty() && !lengths.contains(&0) => Ok(Some(lengths)),
        _ => Err("--lengths: expected positive whole numbers".to_owned()),
    }
}

impl Size {
    fn of(args: &Args) -> Result<Self, String> {
        let (hidden, layers, heads, intermediate, vocabulary, seq, batch) = match &*args.shape {
            "nano" => (64, 4, 4, 176, 408, 32, 8),
            "S" => (256, 6, 8, 688, 4096, 128, 8),
            "M" => (768, 12, 12, 2048, 32_000, 256, 4),
            "135M" => (576, 30, 9, 1536, 49_152, 256, 8),
            "7B" => (4096, 32, 32, 11_008, 32_000, 200, 5),
            other => return Err(format!("--shape {other}: must be nano, S, M, 135M or 7B")),
        };
        let small = args.shape == "135M";
        let lengths = lengths(args)?;
        let seq = match &lengths {
            Some(lengths) => lengths.iter().copied().max().unwrap_or(seq),
            None => args.seq.unwrap_or(seq),
        };
        let shape = LlamaShape {
            hidden,
            layers: args.layers.unwrap_or(layers),
            heads,
            kv_heads: if small { 3 } else { heads },
            intermediate,
            vocabulary,
            tied: small,
            positions: seq.max(512),
            ..LlamaShape::default()
        };
        Ok(Self { shape, batch: args.batch.unwrap_or(batch), seq, lengths })
    }

    /// Positions of one batch, on average.
    fn positions(&self) -> f64 {
        let mean = match &self.lengths {
            None => self.seq as f64,
            Some(lengths) => lengths.iter().sum::<usize>() as f64 / lengths.len() as f64,
        };
        self.batch as f64 * mean
    }

    /// Operations of one step, as counted in `bench_torch.py`: those that PyTorch needs, without
    /// recomputed blocks.
    fn operations(&self, train: Train, passes: f64) -> f64 {
        let LlamaShape { hidden, layers, intermediate, vocabulary, .. } = self.shape;
        let (h, i) = (hidden as f64, intermediate as f64);
        let rows = self.positions();
        let kv = (self.shape.kv_heads * hidden / self.shape.heads) as f64;
        let linear = layers as f64 * (2.0 * h * (h + kv) + 3.0 * h * i) + h * vocabulary as f64;
        let attention = layers as f64 * 2.0 * rows / self.batch as f64 * h;
        let forward = 2.0 * rows * (linear + attention);
        let weights = if train == Train::Full { 2.0 * rows * linear } else { 0.0 };
        passes * (2.0 * forward + weights)
    }

    fn model(&self, args: &Args) -> Result<Arc<dyn Backbone>> {
        let dtype = match &*args.dtype {
            "bf16" => DType::BF16,
            _ => DType::F32,
        };
        let checkpoint = match &args.checkpoint {
            Some(directory) => Checkpoint::open(directory)?,
            None => self.shape.checkpoint(0)?,
        };
        let checkpoint = match args.quantize.as_str() {
            "nf4" => checkpoint.quantized_by(Scheme::Nf4)?,
            "int8" => checkpoint.quantized_by(Scheme::Int8)?,
            _ => checkpoint,
        };
        load_backbone(&checkpoint, dtype, &on(args)?)
    }

    fn examples(&self) -> Arc<Vec<Example>> {
        let vocabulary = self.shape.vocabulary as u32;
        let token = |row: usize, at: usize| (row as u32 * 1009 + at as u32 * 31 + 7) % vocabulary;
        let tokens = |row, length| (0..length).map(|at| token(row, at)).collect();
        let example = |(row, length): (usize, usize)| {
            let prompt = if self.lengths.is_some() { length * 2 / 5 } else { 0 };
            Example { tokens: tokens(row, length), prompt, ..Example::default() }
        };
        let lengths = self.lengths.clone().unwrap_or_else(|| vec![self.seq; self.batch]);
        // Whole batches only.
        let whole = lengths.len() / self.batch * self.batch;
        Arc::new(lengths.into_iter().take(whole).enumerate().map(example).collect())
    }
}

/// The device.
fn on(args: &Args) -> Result<Device> {
    device(&args.device).map_err(|error| Error::State(error.to_string()))
}

/// Peak GPU memory in MiB since the last call.
fn gpu_memory(device: &Device) -> Result<Option<f64>> {
    #[cfg(feature = "cuda")]
    if let candle_core::DeviceLocation::Cuda { gpu_id } = device.location() {
        return Ok(Some(vxf_cuda::peak(gpu_id)? as f64 / f64::from(1 << 20)));
    }
    let _ = device;
    Ok(None)
}

/// CPU seconds of this process so far.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap_or(f64::NAN) + ticks(12).unwrap_or(f64::NAN)) / 100.0
}

/// A value of `/proc/self/status` in MiB.
fn memory(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|field| field.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

fn training<'a>(backbone: &'a dyn Backbone, args: &Args, size: &Size) -> Result<Training<'a>> {
    let defense = registry::default_of::<dyn DefenseConfig>(&args.rule)?;
    let perturber = registry::default_of::<dyn PerturberConfig>(defense.perturber())?;
    let key = Key::root(0);
    let weights = backbone.initial(&key)?.leaves()?;
    let mut streams = Streams::new();
    let main = registry::find::<dyn DefenseConfig>(&args.rule)?.stages.iter().min();
    let main = main.map_or("alignment", |stage| UsualStage::of(*stage).set);
    let stream = |batch| Stream::new(size.examples(), batch, Order::Sequential, key.clone());
    streams.insert(main, stream(size.batch))?;
    let needs = defense.needs().and(perturber.needs());
    for need in needs.streams.iter().filter(|need| need.name != main) {
        let batch = need.batch_size.unwrap_or(size.batch).min(size.batch);
        streams.insert(&need.name, stream(batch))?;
    }
    let mut session = Session::new(streams, main, key);
    session.recompute = match args.recompute {
        Keep::None => Recompute::None,
        Keep::Block => Recompute::Block,
    };
    let adam = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
    Ok(Training {
        backbone,
        optimizer: AdamW::new(adam, &backbone.parameters(), &weights)?,
        weights,
        defense: defense.build(&BuildContext::bare()).expect("no model needed"),
        perturber: perturber.build(&BuildContext::bare()).expect("no model needed"),
        session,
        schedule: Schedule { peak: 1e-5, decay: Decay::Constant, warmup: 0, total: u64::MAX },
        max_gradient_norm: Some(1.0),
        next: 0,
    })
}

/// The memory in MiB that `vxf validate` estimates for this stage.
fn foretold(args: &Args, size: &Size) -> Result<f64, vxf_run::Error> {
    let trainable = match args.train {
        Train::Lora => json!({ "type": "lora", "dropout": args.dropout }),
        Train::Full => json!("full"),
    };
    let recipe = json!({
        "defense": args.rule,
        "device": args.device,
        "stages": "alignment",
        "metrics": ["alignment-loss"],
        "recompute": if matches!(args.recompute, Keep::None) { "none" } else { "block" },
        "model": {
            "path": "random/weights", "dtype": args.dtype, "quantize": args.quantize,
            "shape": size.shape.config(),
        },
        "data": {
            "max_length": size.seq,
            "alignment": { "path": "placeholder/samples", "take": size.batch },
        },
        "alignment": { "batch_size": size.batch, "trainable": trainable },
    });
    let Value::Object(recipe) = recipe else { unreachable!("it is written as one") };
    let estimate =
        Estimate::of(&Experiment::of(Layer::of(recipe, &Place::Default))?, Access::new(true)?)?;
    Ok(estimate.stages[0].bytes as f64 / f64::from(1 << 20))
}

fn steps(args: &Args, size: &Size) -> Result<Value> {
    let plugin = registry::find::<dyn DefenseConfig>(&args.rule)?;
    let defense = registry::default_of::<dyn DefenseConfig>(&args.rule)?;
    let perturber = registry::default_of::<dyn PerturberConfig>(defense.perturber())?;
    let needs = defense.needs().and(perturber.needs());
    // The plan of a method that reads more than its own set asks for data that are not here.
    let alone = plugin.stages.contains(&Stage::Alignment) && needs.streams.is_empty();
    let foretold = alone.then(|| foretold(args, size)).transpose();
    let foretold = foretold.map_err(|error| Error::State(error.to_string()))?;
    let base = size.model(args)?;
    let lora = Trainable::Lora(Lora { dropout: args.dropout, ..Lora::default() });
    let backbone = match args.train {
        Train::Lora => base.with_trainable(&lora)?,
        Train::Full => base.with_trainable(&Trainable::Full)?,
    };
    drop(base);
    // Memory freed after making the random weights is returned, so that it is not counted or reused.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: returns free memory to the kernel.
    unsafe {
        libc::malloc_trim(0);
    }
    let device = backbone.device();
    let (loaded, gpu_loaded) = (memory("VmRSS"), gpu_memory(device)?);
    // Resets the peak after loading, where the system allows it.
    std::fs::write("/proc/self/clear_refs", "5").ok();
    let mut training = training(&*backbone, args, size)?;
    training.prepare()?;
    for _ in 0..args.warmup {
        training.step()?;
    }
    let (start, mut times) = (processor(), Vec::new());
    for _ in 0..args.steps {
        let begin = Instant::now();
        training.step()?;
        device.synchronize()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    let passes = defense.passes() + perturber.passes() as f64;
    let used = (processor() - start) / args.steps as f64;
    let middle = median(&mut times);
    Ok(json!({
        "shape": args.shape, "batch": size.batch, "seq": size.seq, "real": args.real,
        "dropout": args.dropout, "quantize": args.quantize,
        "train": if args.train == Train::Full { "full" } else { "lora" }, "rule": args.rule,
        "passes": passes,
        "recompute": if matches!(args.recompute, Keep::None) { "none" } else { "block" },
        "threads": args.threads, "steps": args.steps,
        "median_s": middle, "min_s": times[0], "max_s": times[times.len() - 1],
        "cpu_s_per_step": used,
        "tokens_per_s": size.positions() / middle,
        "gflops": size.operations(args.train, passes) / middle / 1e9,
        "rss_loaded_mib": loaded, "peak_rss_mib": memory("VmHWM"),
        "device": args.device, "dtype": args.dtype,
        "gpu_loaded_mib": gpu_loaded, "gpu_peak_mib": gpu_memory(device)?,
        "foretold_mib": foretold,
    }))
}

fn generation(args: &Args, size: &Size, tokens: usize) -> Result<Value> {
    let backbone = size.model(args)?;
    let weights = vxf_core::Params::new();
    // Prompts of 32 tokens, or of real lengths.
    let examples = size.examples();
    let prompts = examples.iter().take(size.batch).map(|example| match size.lengths {
        None => &example.tokens[..32],
        Some(_) => &example.tokens[..],
    });
    let lengths = Rows::dense(&prompts.clone().map(<[u32]>::len).collect::<Vec<_>>());
    let prompts = Tensor::new(prompts.collect::<Vec<_>>().concat(), backbone.device())?;
    let single = Rows::rectangle(size.batch, 1);
    let mut times = Vec::new();
    for _ in 0..args.steps {
        let begin = Instant::now();
        let mut decoder = backbone.decoder(&weights).expect("a decoder with a cache");
        let mut next = decoder.advance(&prompts, &lengths)?.argmax(1)?;
        for _ in 1..tokens {
            next = decoder.advance(&next, &single)?.argmax(1)?;
        }
        backbone.device().synchronize()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    let middle = median(&mut times);
    Ok(json!({
        "shape": args.shape, "batch": size.batch, "generated": tokens, "threads": args.threads,
        "median_s": middle, "min_s": times[0], "max_s": times[times.len() - 1],
        "tokens_per_s": (size.batch * tokens) as f64 / middle,
    }))
}

/// The best rate of our own large matrix products.
fn matmul(args: &Args) -> Result<Value> {
    let (device, mut best) = (on(args)?, 0f64);
    let (sizes, dtype) = match (device.is_cpu(), &*args.dtype) {
        (true, _) => ([1024, 2048], DType::F32),
        (false, "bf16") => ([4096, 8192], DType::BF16),
        (false, _) => ([4096, 8192], DType::F32),
    };
    for size in sizes {
        let key = Key::root(1);
        let square = |name| key.child(name).normal(&[size, size], dtype, &device);
        let (x, w): (Tensor, Tensor) = (square("x")?, square("w")?);
        for _ in 0..8 {
            let begin = Instant::now();
            vxf_nn::ops::linear(&x, &w)?;
            device.synchronize()?;
            let seconds = begin.elapsed().as_secs_f64();
            best = best.max(2.0 * (size as f64).powi(3) / seconds / 1e9);
        }
    }
    Ok(json!({ "matmul_gflops": best }))
}

fn main() -> ExitCode {
    // SAFETY: there is no other thread yet.
    unsafe { vxf::prepare() };
    let args = Args::parse();
    let size = match Size::of(&args) {
        Ok(size) => size,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build();
    let work = || match args.generate {
        _ if args.matmul => matmul(&args),
        Some(tokens) => generation(&args, &size, tokens),
        None => steps(&args, &size),
    };
    let result = match pool {
        Ok(pool) => pool.install(work),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(value) => println!("{value}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
