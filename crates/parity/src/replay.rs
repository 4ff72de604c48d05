//! Trains a recorded run again and compares every number with the recording.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Tensor};
use serde_json::json;
use vxf_core::config::{BuildContext, DefenseConfig, PerturberConfig};
use vxf_core::metric::Model as Measured;
use vxf_core::minmax::{Flow, Observation, Training};
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::schedule::{Decay, Schedule};
use vxf_core::step::Session;
use vxf_core::stream::{Stream, Streams};
use vxf_core::{
    Backbone, Batch, Defense, Error, Gradients, Hidden, Key, Padding, Params, Perturbation,
    Perturber, Result, Site, Step, Trainable, registry,
};

use vxf_hf::peft;

use crate::recording::{Model, Run};
use crate::report::{Bound, Report};

/// Compares the base model's logits on real positions.
pub(crate) fn logits(
    name: &str,
    backbone: &dyn Backbone,
    model: &Model,
    report: &mut Report,
) -> Result<()> {
    let bounds = report.bounds;
    let none = Params::new();
    let ours = Measured { backbone, weights: &none }.logits(&model.batch)?;
    let theirs = model.batch.rows().packed(&model.logits)?;
    report.compare("logits", bounds.logits, name, &entries(&ours)?, &entries(&theirs)?);
    Ok(())
}

/// Replays one run, and the corrected form of its method if that is recorded too.
pub(crate) fn run(
    name: &str,
    backbone: &dyn Backbone,
    model: &Model,
    run: &Run,
    report: &mut Report,
) -> Result<()> {
    let name = format!("{name}/{}", run.record.spec.name);
    let sites = match run.sites(backbone.architecture().layers) {
        Ok(sites) => sites,
        Err(module) => {
            report.skip(&name, format!("the output of `{module}` is not a site"));
            return Ok(());
        }
    };
    let Some(seen) = train(backbone, model, run, &sites, "reference")? else {
        report.skip(&name, format!("rule `{}` is not known", run.record.spec.rule));
        return Ok(());
    };
    report.runs.push(name.clone());
    scalars(&name, &seen, run, &sites, report);
    tensors(&name, &seen, run, &sites, report)?;

    let bounds = report.bounds;
    let alternative = &run.record.corrected;
    // The recorded correction of KL concerns the axis alone.
    let form = if run.record.spec.rule == "kl" { "axis_corrected" } else { "corrected" };
    if !alternative.is_empty()
        && let Some(seen) = train(backbone, model, run, &sites, form)?
    {
        let ours = seen.figures("loss");
        let theirs: Vec<_> = alternative.iter().map(|step| step.loss_second).collect();
        report.compare("loss, corrected form", bounds.loss, &name, &ours, &theirs);
        let ours: Vec<_> = seen.steps.iter().map(|step| step.gradient_norm).collect();
        for (ours, theirs) in ours.iter().zip(alternative) {
            let theirs = [theirs.param_grad_norm];
            report.compare("gradient norm, corrected form", bounds.norm, &name, &[*ours], &theirs);
        }
    }
    Ok(())
}

/// The results of a replayed run.
struct Seen {
    steps: Vec<Observation>,
    first: Arc<Mutex<First>>,
    /// Weights after each step.
    weights: Vec<Params>,
    fisher: Params,
    drift: f64,
}

impl Seen {
    fn figures(&self, name: &str) -> Vec<f64> {
        let figure = |step: &Observation| step.figures.get(name).copied().unwrap_or(f64::NAN);
        self.steps.iter().map(figure).collect()
    }
}

/// Quantities of the first step.
#[derive(Default)]
struct First {
    /// As it was recorded: `[samples, columns, width]`.
    perturbation: Option<Hidden>,
    gradients: Option<Gradients>,
}

fn train(
    backbone: &dyn Backbone,
    model: &Model,
    run: &Run,
    sites: &[Site],
    form: &str,
) -> Result<Option<Seen>> {
    let spec = &run.record.spec;
    let (trainable, start) = match &spec.adapter {
        None => (Trainable::Full, None),
        Some(adapter) => {
            let place = model.adapter(adapter);
            let (lora, weights) = peft::read(&place, DType::F32, backbone.device())?;
            peft::fits(&place.display().to_string(), &lora, &weights, backbone)?;
            (Trainable::Lora(lora), Some(weights))
        }
    };
    let backbone = backbone.with_trainable(&trainable)?;
    let weights = match start {
        Some(weights) => weights,
        None => backbone.initial(&Key::root(0))?,
    }
    .leaves()?;
    let before = weights.copy()?;

    let defense = |name: &str, settings| -> Result<Box<dyn Defense>> {
        (registry::find::<dyn DefenseConfig>(name)?.parse)(settings)?.build(&BuildContext::bare())
    };
    let perturber = |name: &str, settings| -> Result<Box<dyn Perturber>> {
        (registry::find::<dyn PerturberConfig>(name)?.parse)(settings)?.build(&BuildContext::bare())
    };
    let rho = spec.rho.unwrap_or(0.0);
    let method = json!({ "lambda": spec.lamb.unwrap_or(0.0), "form": form });
    let (defense, perturber) = match spec.rule.as_str() {
        "sft" => (defense("sft", json!({}))?, perturber("none", json!({}))?),
        "vaccine" => {
            let names: Vec<_> = sites.iter().map(Site::to_string).collect();
            let inner = perturber("vaccine", json!({ "rho": rho, "sites": names }))?;
            (defense("vaccine", json!({}))?, inner)
        }
        "random" => {
            let replayed = Replayed { noise: noise(run, sites), factor: rho.sqrt() };
            (defense("random", json!({}))?, Box::new(replayed) as Box<dyn Perturber>)
        }
        rule @ ("ewc" | "kl") => (defense(rule, method)?, perturber("none", json!({}))?),
        _ => return Ok(None),
    };
    let decay = match spec.schedule.as_str() {
        "constant" => Decay::Constant,
        "linear" => Decay::Linear,
        "cosine" => Decay::Cosine,
        _ => return Ok(None),
    };

    let mut streams = Streams::new();
    streams.insert("main", Stream::of_batches(vec![model.batch.clone()]))?;
    if !model.evaluation.is_empty() {
        streams.insert("alignment", Stream::of_batches(model.evaluation.clone()))?;
    }
    let adam = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
    let optimizer = AdamW::new(adam, &backbone.parameters(), &weights)?;
    let first = Arc::new(Mutex::new(First::default()));
    let mut training = Training {
        backbone: &*backbone,
        weights,
        defense: Box::new(FirstStep { inner: defense, first: first.clone() }),
        perturber: Box::new(FirstStep { inner: perturber, first: first.clone() }),
        session: Session::new(streams, "main", Key::root(0)),
        optimizer,
        schedule: Schedule { peak: spec.lr, decay, warmup: spec.warmup, total: spec.steps },
        max_gradient_norm: Some(1.0),
        next: 0,
    };
    let (mut steps, mut after) = (Vec::new(), Vec::new());
    training.run(|training, observation| {
        steps.push(observation.clone());
        after.push(training.weights.copy()?);
        Ok::<_, vxf_core::Error>(Flow::Continue)
    })?;
    let fisher = training.defense.state()?.tensors;
    let last = after.last().unwrap_or(&before);
    let drift = drift(&*backbone, &before, last, &model.evaluation)?;
    Ok(Some(Seen { steps, first, weights: after, fisher, drift }))
}

fn scalars(name: &str, seen: &Seen, run: &Run, sites: &[Site], report: &mut Report) {
    let bounds = report.bounds;
    let steps = &run.record.steps;
    let column =
        |f: &dyn Fn(&crate::recording::Step) -> f64| steps.iter().map(f).collect::<Vec<_>>();
    let rates: Vec<_> = seen.steps.iter().map(|step| step.rate).collect();
    report.compare("learning rate", Bound::Absolute(1e-9), name, &rates, &column(&|s| s.lr));
    report.compare("loss", bounds.loss, name, &seen.figures("loss"), &column(&|s| s.loss_second));
    if steps.iter().all(|step| step.loss_first.is_some()) {
        let theirs = column(&|step| step.loss_first.unwrap_or(f64::NAN));
        report.compare("loss, clean pass", bounds.loss, name, &seen.figures("loss_clean"), &theirs);
    }
    // Relative to each step's own value.
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{name} step {}", index + 1);
        let ours = seen.steps.get(index);
        let figure = |key: &str| ours.and_then(|o| o.figures.get(key).copied()).unwrap_or(f64::NAN);
        let norm = ours.map_or(f64::NAN, |o| o.gradient_norm);
        report.compare("gradient norm", bounds.norm, &at, &[norm], &[step.param_grad_norm]);
        if let Some(global) = step.hidden_grad_norm_global {
            let own = figure("hidden_gradient_norm");
            report.compare("hidden gradient norm", bounds.norm, &at, &[own], &[global]);
        }
        for (index, theirs) in step.hidden_grad_norm_per_layer.iter().enumerate() {
            let own = sites.get(index).map(|site| figure(&format!("hidden_gradient_norm.{site}")));
            let own = own.unwrap_or(f64::NAN);
            report.compare("hidden gradient norm per layer", bounds.norm, &at, &[own], &[*theirs]);
        }
    }
    if let (Some(theirs), Some(bound)) = (run.record.drift_final_vs_initial, bounds.drift) {
        report.compare("drift", bound, name, &[seen.drift], &[theirs]);
    }
}

fn tensors(name: &str, seen: &Seen, run: &Run, sites: &[Site], report: &mut Report) -> Result<()> {
    let bounds = report.bounds;
    let first = seen.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (mut ours_after, mut theirs_after) = (Vec::new(), Vec::new());
    for (key, theirs) in &run.tensors {
        let at = format!("{name} {key}");
        let theirs = entries(theirs)?;
        let found = if let Some(rest) = key.strip_prefix("perturbation.step1.layer") {
            let site = rest.parse::<usize>().ok().and_then(|index| sites.get(index));
            let tensor = site.and_then(|site| first.perturbation.as_ref()?.get(site));
            Some(("perturbation", bounds.tensor, tensor))
        } else if let Some(rest) = key.strip_prefix("grad.step1.") {
            let tensor = first.gradients.as_ref().and_then(|gradients| gradients.get(rest));
            Some(("first gradient", bounds.tensor, tensor))
        } else if key.starts_with("fisher.") {
            Some(("Fisher information", bounds.fisher, seen.fisher.get(key)))
        } else if key.starts_with("step") {
            let tensor = after_step(seen, key);
            let ours = tensor.map_or(Ok(vec![f64::NAN; theirs.len()]), entries)?;
            ours_after.extend(ours);
            theirs_after.extend(theirs.iter().copied());
            None
        } else {
            None
        };
        if let Some((quantity, bound, tensor)) = found {
            let ours = tensor.map_or(Ok(Vec::new()), entries)?;
            report.compare(quantity, bound, &at, &ours, &theirs);
        }
    }
    if !theirs_after.is_empty() {
        let (ours, theirs) = (&ours_after, &theirs_after);
        report.compare("parameters, rms", bounds.parameters, name, ours, theirs);
        if let Some(bound) = bounds.parameters_off {
            report.compare("parameters, beyond 1e-5", bound, name, ours, theirs);
        }
    }
    for (key, theirs) in &run.record.param_l2_after {
        let tensor = seen.weights.last().and_then(|weights| weights.get(key));
        let ours = tensor.map_or(Ok(f64::NAN), |tensor| {
            Ok::<_, Error>(vxf_core::numeric::sum_of_squares(tensor)?.sqrt())
        })?;
        report.compare(
            "parameter norm",
            bounds.parameter_norm,
            &format!("{name} {key}"),
            &[ours],
            &[*theirs],
        );
    }
    Ok(())
}

/// The weight that `stepK.<name>` records.
fn after_step<'a>(seen: &'a Seen, key: &str) -> Option<&'a Tensor> {
    let (step, name) = key.strip_prefix("step")?.split_once('.')?;
    seen.weights.get(step.parse::<usize>().ok()?.checked_sub(1)?)?.get(name)
}

fn entries(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The reference's drift: squared L2 norms of the change at all attention outputs, summed over
/// batches and layers, with padding neither hidden nor skipped.
fn drift(
    backbone: &dyn Backbone,
    before: &Params,
    after: &Params,
    batches: &[Batch],
) -> Result<f64> {
    let sites: Vec<_> = (0..backbone.architecture().layers).map(Site::attention_output).collect();
    let mut sum = 0.0;
    for batch in batches {
        let batch = batch.with_padding(Padding::Seen);
        let before = Measured { backbone, weights: before }.hidden(&batch, &sites)?;
        let after = Measured { backbone, weights: after }.hidden(&batch, &sites)?;
        for (site, after) in &after {
            let change = (after.to_dtype(DType::F64)? - before[site].to_dtype(DType::F64)?)?;
            sum += vxf_core::numeric::sum_of_squares(&change)?;
        }
    }
    Ok(sum)
}

/// The recorded noise of the first step, by site.
fn noise(run: &Run, sites: &[Site]) -> Hidden {
    let layer = |(key, tensor): (&String, &Tensor)| {
        let index: usize = key.strip_prefix("noise.step1.layer")?.parse().ok()?;
        Some((*sites.get(index)?, tensor.clone()))
    };
    run.tensors.iter().filter_map(layer).collect()
}

/// An inner player that replays recorded noise.
struct Replayed {
    noise: Hidden,
    factor: f64,
}

impl Perturber for Replayed {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let main = step.main();
        let rows = step.batch(&main)?.rows();
        // The recording has noise on padding too, which no real position sees.
        let scaled = self.noise.iter();
        let scaled = scaled.map(|(site, it)| Ok((*site, (rows.packed(it)? * self.factor)?)));
        Ok(Perturbation::Hidden(scaled.collect::<Result<_>>()?))
    }
}

/// A player that records its first step.
struct FirstStep<T: ?Sized> {
    first: Arc<Mutex<First>>,
    inner: Box<T>,
}

impl<T: ?Sized> FirstStep<T> {
    fn remember(&self, note: impl FnOnce(&mut First)) {
        note(&mut self.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Perturber for FirstStep<dyn Perturber> {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        let perturbation = self.inner.perturb(step)?;
        if let (0, Perturbation::Hidden(hidden)) = (step.index(), &perturbation) {
            let main = step.main();
            let rows = step.batch(&main)?.rows();
            let wide = hidden.iter().map(|(site, it)| Ok((*site, rows.padded(it)?)));
            let wide = wide.collect::<Result<Hidden>>()?;
            self.remember(|first| first.perturbation = Some(wide));
        }
        Ok(perturbation)
    }
}

impl Defense for FirstStep<dyn Defense> {
    fn per_step(&self) -> bool {
        self.inner.per_step()
    }

    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.inner.prepare(step)
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let gradients = self.inner.gradients(inner, step)?;
        if step.index() == 0 {
            self.remember(|first| first.gradients = Some(gradients.clone()));
        }
        Ok(gradients)
    }

    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.inner.after_step(step)
    }

    fn state(&self) -> Result<vxf_core::defense::State> {
        self.inner.state()
    }
}
