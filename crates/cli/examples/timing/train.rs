//! Steps of a method.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use vxf_access::Access;
use vxf_core::config::{BuildContext, DefenseConfig, PerturberConfig};
use vxf_core::engine::Recompute;
use vxf_core::minmax::Training;
use vxf_core::registry;
use vxf_core::schedule::Schedule;
use vxf_core::stream::{Order, Stream};
use vxf_core::{Backbone, Error, Key, Lora, Reference, Result, Stage, Trainable};
use vxf_recipe::{Experiment, Layer, Place, UsualStage};
use vxf_run::Estimate;

use crate::probes::{gpu_memory, median, memory, processor};
use crate::size::{Model, Size};
use crate::{Args, Keep, Train};

/// `backbone` is `model` with what is trained.
fn training<'a>(
    backbone: &'a dyn Backbone,
    model: &Model,
    args: &Args,
    size: &Size,
) -> Result<Training<'a>> {
    let defense = registry::default_of::<dyn DefenseConfig>(&args.rule)?;
    let perturber = registry::default_of::<dyn PerturberConfig>(defense.perturber())?;
    let key = Key::root(0);
    let weights = backbone.initial(&key)?;
    let main = registry::find::<dyn DefenseConfig>(&args.rule)?.stages.iter().min();
    let main = main.map_or("alignment", |stage| UsualStage::of(*stage).set);
    let stream =
        |set, batch| Stream::new(size.examples(set), batch, Order::Sequential, key.clone());
    let needs = defense.needs().and(perturber.needs());
    let mut streams = vec![(main, stream(0, size.batch))];
    let others = needs.streams.iter().filter(|need| need.name != main);
    for (set, need) in (1..).zip(others) {
        let batch = need.batch_size.unwrap_or(size.batch).min(size.batch);
        streams.push((&need.name, stream(set, batch)));
    }
    let mut training = vxf_testkit::training::training(
        backbone,
        &weights,
        streams,
        defense.build(&BuildContext::bare()).expect("no model needed"),
        perturber.build(&BuildContext::bare()).expect("no model needed"),
    )?;
    for reference in needs.references {
        // In a user's stage the model is an aligned one, and its base has other weights.
        let compared = match reference {
            Reference::Base => size.model(args, 1)?,
            Reference::Aligned | Reference::Parent => model.clone(),
        };
        training.session.references.insert(reference, Arc::new(compared));
    }
    training.session.recompute = match args.recompute {
        Keep::None => Recompute::None,
        Keep::Block => Recompute::Block,
    };
    let total = (args.warmup + args.steps) as u64;
    training.schedule = Schedule { peak: 1e-5, total, ..training.schedule };
    Ok(training)
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

pub(crate) fn steps(args: &Args, size: &Size) -> Result<Value> {
    let plugin = registry::find::<dyn DefenseConfig>(&args.rule)?;
    let defense = registry::default_of::<dyn DefenseConfig>(&args.rule)?;
    let perturber = registry::default_of::<dyn PerturberConfig>(defense.perturber())?;
    let needs = defense.needs().and(perturber.needs());
    // The plan of a method that reads more than its own set asks for data that are not here.
    let alone = plugin.stages.contains(&Stage::Alignment) && needs.streams.is_empty();
    let foretold = alone.then(|| foretold(args, size)).transpose();
    let foretold = foretold.map_err(|error| Error::Unsuitable(error.to_string()))?;
    let model = size.model(args, 0)?;
    let base = model.load()?;
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
    let mut training = training(&*backbone, &model, args, size)?;
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
