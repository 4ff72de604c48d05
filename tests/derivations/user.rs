//! Methods of the user's fine-tuning.

use candle_core::{D, Tensor};
use serde_json::json;
use vxf_core::backbone::Parameter;
use vxf_core::lineage::Lineage;
use vxf_core::{Defense, Gradients, Lora, Perturber, Reference, Result, Step, Trainable};
use vxf_testkit::plain::{self, Weights};

use super::*;

const STEPS: u64 = 6;

/// Lisa over several turns; BSO is the same without its proximal term.
#[test]
fn lisa() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment"])?;
    for (name, rho) in [("lisa", 0.7), ("bso", 0.0)] {
        let mut settings = json!({ "alignment_steps": 2, "user_steps": 3 });
        if name == "lisa" {
            settings["rho"] = json!(rho);
            settings["warmup"] = json!(0.02);
        }
        let stage = stage(&toy, &streams, (name, settings), none())?;
        let start = plain::weights(&stage.weights)?;
        let (mut after_alignment, mut after_user) = (start.clone(), start);
        let (mut user, mut alignment) = (0, 0);
        plain::follow(stage, 12, |step, weights| {
            // Two steps on alignment data, three on the user's, and again.
            let aligns = step % 5 < 2;
            match step % 5 {
                0 if step > 0 => after_user = weights.clone(),
                2 => after_alignment = weights.clone(),
                _ => {}
            }
            let (batch, other) = match aligns {
                true => (streams.batch("alignment", alignment), &after_user),
                false => (streams.batch("user", user), &after_alignment),
            };
            *(if aligns { &mut alignment } else { &mut user }) += 1;
            let gradient = of_loss(weights, batch)?;
            // A hundred steps in all: none in the first two.
            match step > 2 {
                true => {
                    let moved = plain::plus(weights, other, -1.0)?;
                    plain::plus(&gradient, &moved, rho)
                }
                false => Ok(gradient),
            }
        });
    }
    Ok(())
}

#[test]
fn vlguard_and_safeinstr() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment"])?;
    for (name, settings, weights_of) in [
        ("vlguard", json!({ "lambda": 0.4 }), (1.0, 0.4)),
        ("safeinstr", json!({ "share": 0.3 }), (0.7, 0.3)),
    ] {
        let stage = stage(&toy, &streams, (name, settings), none())?;
        plain::follow(stage, STEPS, |step, weights| {
            let user = of_loss(weights, streams.batch("user", step))?;
            let safe = of_loss(weights, streams.batch("alignment", step))?;
            plain::plus(&scaled(&user, weights_of.0)?, &safe, weights_of.1)
        });
    }
    Ok(())
}

/// With a limit that no layer reaches, and with one that some layers reach.
#[test]
fn ldifs() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user"])?;
    for limit in [1e9, 2e-3] {
        let method = ("ldifs", json!({ "rho": 0.5, "limit": limit }));
        let stage = stage(&toy, &streams, method, none())?;
        let start = plain::weights(&stage.weights)?;
        let (mut kept, mut dropped) = (0, 0);
        plain::follow(stage, STEPS, |step, weights| {
            let batch = streams.batch("user", step);
            let real = plain::real(batch)?;
            let aligned = plain::pass(&start, batch)?.mlps;
            plain::gradient(weights, |weights| {
                let passed = plain::pass(weights, batch)?;
                let mut loss = passed.loss;
                for (now, aligned) in passed.mlps.iter().zip(&aligned) {
                    let apart = (now - aligned)?.broadcast_mul(&real)?;
                    let term = (apart.sqr()?.sum_all()? * 0.25)?;
                    if term.to_scalar::<f64>()? < limit {
                        kept += 1;
                        loss = (loss + term)?;
                    } else {
                        dropped += 1;
                    }
                }
                Ok(loss)
            })
        });
        assert!(kept > 0 && (dropped > 0) == (limit < 1.0), "{kept} kept, {dropped} dropped");
    }
    Ok(())
}

#[test]
fn panacea() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "harmful"])?;
    // The second limit clamps every harmful loss.
    for limit in [50.0, 0.1] {
        let settings = json!({ "rho": 0.4, "lambda": 0.3, "limit": limit });
        let mut stage = stage(&toy, &streams, ("panacea", settings), none())?;
        let mut weights = plain::weights(&stage.weights)?;
        let mut optimizer = plain::AdamW::default();
        let mut epsilon = Weights::new();
        stage.prepare()?;
        for step in 0..STEPS {
            stage.step()?;
            let user = of_loss(&weights, streams.batch("user", step))?;
            let harmful = streams.batch("harmful", step);
            let before = of_loss(&weights, harmful)?;
            epsilon = scaled(&before, 0.4 / (plain::norm(&before)? + 1e-7))?;
            let raised = plain::plus(&weights, &epsilon, 1.0)?;
            let after = of_loss(&raised, harmful)?;
            let mut gradient = plain::plus(&user, &before, 0.3)?;
            if limit > 1.0 {
                gradient = plain::plus(&gradient, &after, -0.3)?;
            }
            optimizer.step(&mut weights, &gradient)?;
            agree(&stage.weights, &weights)?;
        }
        agree(&stage.finish()?.weights, &plain::plus(&weights, &epsilon, 1.0)?)?;
    }
    Ok(())
}

#[test]
fn safegrad() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment"])?;
    let stage = stage(&toy, &streams, ("safegrad", json!({ "rho": 0.2 })), none())?;
    let (mut conflicts, mut steps) = (0, 0);
    plain::follow(stage, 16, |step, weights| {
        let user = of_loss(weights, streams.batch("user", step))?;
        let aligned = of_loss(weights, streams.batch("alignment", step))?;
        let product = dot(&user, &aligned)?;
        let factor = match product < 0.0 {
            true => -product / dot(&aligned, &aligned)?,
            false => 0.0,
        };
        conflicts += usize::from(product < 0.0);
        steps += 1;
        plain::plus(&user, &aligned, factor + 0.2)
    });
    assert!(conflicts > 0 && conflicts < steps, "{conflicts} conflicts in {steps} steps");
    Ok(())
}

/// The alignment gradient of the paper: that of the divergence from the model before the stage.
#[test]
fn safegrad_with_the_divergence() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment"])?;
    let settings = json!({ "rho": 0.2, "loss": "kl" });
    let mut stage = stage(&toy, &streams, ("safegrad", settings), none())?;
    stage.prepare()?;
    let start = plain::weights(&stage.weights)?;
    let log_p = |weights: &Weights, batch: &Batch| -> Result<Tensor> {
        let logits = plain::pass(weights, batch)?.logits;
        Ok(logits.broadcast_sub(&logits.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
    };
    let (mut conflicts, mut steps) = (0, 0);
    plain::follow(stage, 16, |step, weights| {
        let user = of_loss(weights, streams.batch("user", step))?;
        let batch = streams.batch("alignment", step);
        let teacher = log_p(&start, batch)?.detach();
        let answered: Vec<f64> =
            batch.targets.iter().map(|it| f64::from(u8::from(*it >= 0))).collect();
        let count: f64 = answered.iter().sum();
        let answered = Tensor::from_vec(answered, batch.shape(), teacher.device())?;
        let aligned = plain::gradient(weights, |weights| {
            let apart = (teacher.exp()? * (&teacher - log_p(weights, batch)?)?)?.sum(D::Minus1)?;
            Ok(((apart * &answered)?.sum_all()? * (1.0 / count))?)
        })?;
        let product = dot(&user, &aligned)?;
        // Before the first step the models are the same, and the gradient is nothing but rounding.
        let factor = match step > 0 && product < 0.0 {
            true => -product / dot(&aligned, &aligned)?,
            false => 0.0,
        };
        conflicts += usize::from(factor > 0.0);
        steps += 1;
        plain::plus(&user, &aligned, factor + 0.2)
    });
    assert!(conflicts > 0 && conflicts < steps, "{conflicts} conflicts in {steps} steps");
    Ok(())
}

#[test]
fn ema() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user"])?;
    let mut stage = stage(&toy, &streams, ("ema", json!({ "beta": 0.8 })), none())?;
    let mut weights = plain::weights(&stage.weights)?;
    let mut mean = weights.clone();
    let mut optimizer = plain::AdamW::default();
    stage.prepare()?;
    for step in 0..STEPS {
        stage.step()?;
        let gradient = of_loss(&weights, streams.batch("user", step))?;
        optimizer.step(&mut weights, &gradient)?;
        agree(&stage.weights, &weights)?;
        mean = plain::plus(&scaled(&mean, 0.8)?, &weights, 0.2)?;
    }
    agree(&stage.finish()?.weights, &mean)
}

#[test]
fn freeze() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user"])?;
    let settings = json!({ "layers": [1], "parts": ["norms", "embeddings"] });
    let stage = stage(&toy, &streams, ("freeze", settings), none())?;
    plain::follow(stage, STEPS, |step, weights| {
        let mut gradient = of_loss(weights, streams.batch("user", step))?;
        let frozen = ["norm.weight", "embedding.weight"];
        gradient
            .retain(|name, _| !name.starts_with("layers.1.") && !frozen.contains(&name.as_str()));
        assert_eq!(gradient.len(), 9, "two layers of four weights, and the output");
        Ok(gradient)
    });
    Ok(())
}

/// A method that makes its gradient can freeze weights, too.
#[test]
fn a_maker_may_freeze() -> Result<()> {
    struct Keeps(Box<dyn Defense>);

    impl Defense for Keeps {
        fn gradients(
            &mut self,
            inner: &mut dyn Perturber,
            step: &mut Step<'_>,
        ) -> Result<Gradients> {
            self.0.gradients(inner, step)
        }

        fn freezes(&self, parameter: &Parameter) -> bool {
            parameter.layer == Some(0)
        }
    }

    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment"])?;
    let mut stage = stage(&toy, &streams, ("vlguard", json!({ "lambda": 0.5 })), none())?;
    stage.defense = Box::new(Keeps(stage.defense));
    plain::follow(stage, STEPS, |step, weights| {
        let user = of_loss(weights, streams.batch("user", step))?;
        let safe = of_loss(weights, streams.batch("alignment", step))?;
        let mut gradient = plain::plus(&user, &safe, 0.5)?;
        gradient.retain(|name, _| !name.starts_with("layers.0."));
        Ok(gradient)
    });
    Ok(())
}

#[test]
fn constrained_sft() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user"])?;
    let settings = json!({ "first": 0.5, "early": 2.0, "early_tokens": 3, "rest": 0.1 });
    let stage = stage(&toy, &streams, ("constrained-sft", settings), none())?;
    let start = plain::weights(&stage.weights)?;
    let gradient = |step, weights: &Weights| {
        let batch = streams.batch("user", step);
        let log_p = |weights: &Weights| -> Result<Tensor> {
            let logits = plain::pass(weights, batch)?.logits;
            Ok(logits.broadcast_sub(&logits.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
        };
        let aligned: Vec<Vec<Vec<f64>>> = log_p(&start)?.to_vec3()?;
        plain::gradient(weights, |weights| {
            let log_p = log_p(weights)?;
            let (_, columns) = batch.shape();
            let (mut loss, mut count) = (None, 0.0);
            for (row, aligned) in aligned.iter().enumerate() {
                let mut t = 0;
                for (column, aligned) in aligned.iter().enumerate() {
                    let target = batch.targets[row * columns + column];
                    if target < 0 {
                        continue;
                    }
                    let beta = [0.5, 2.0, 2.0].get(t).copied().unwrap_or(0.1);
                    let now = log_p.get(row)?.get(column)?.get(target as usize)?;
                    let x = ((now - aligned[target as usize])? * beta)?;
                    // -2 / beta log(1 / (1 + exp(-x)))
                    let term = ((x.neg()?.exp()? + 1.0)?.log()? * (2.0 / beta))?;
                    loss = Some(match loss {
                        Some(loss) => (loss + term)?,
                        None => term,
                    });
                    (t, count) = (t + 1, count + 1.0);
                }
            }
            Ok((loss.expect("a labelled position") / count)?)
        })
    };
    // From the aligned weights on, where all differences are exactly zero.
    plain::follow(stage, STEPS, gradient);
    Ok(())
}

#[test]
fn asft() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user"])?;
    let stage = stage(&toy, &streams, ("asft", json!({ "lambda": 0.6 })), none())?;
    let (base, aligned) = (
        stage.session.references[&Reference::Base].clone(),
        stage.session.references[&Reference::Aligned].clone(),
    );
    plain::follow(stage, STEPS, |step, weights| {
        plain::gradient(weights, |weights| {
            let mut loss = plain::pass(weights, streams.batch("user", step))?.loss;
            for (name, weight) in weights.iter().filter(|(name, _)| name.starts_with("layers.")) {
                let module = name.strip_suffix(".weight").expect("a weight");
                let near = Lineage::weight(&*aligned, module)?;
                let v = (&near - Lineage::weight(&*base, module)?)?;
                let length = v.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
                let change = (weight - near)?;
                let within = (v.matmul(&v.t()?)?.matmul(&change)? / length)?;
                let outside = (change - within)?.sqr()?.sum_all()?;
                loss = (loss + (outside * 0.6)?)?;
            }
            Ok(loss)
        })
    });
    Ok(())
}

/// With an adapter: what the penalty adds to the gradient is the gradient of the penalty, by candle's own
/// differentiation.
#[test]
fn asft_of_an_adapter() -> Result<()> {
    let targets = vec!["all-linear".to_owned()];
    let lora =
        Lora { rank: 2, alpha: 3.0, dropout: 0.0, target_modules: targets, ..Lora::default() };
    let backbone = toy().with_trainable(&Trainable::Lora(lora))?;
    let references = training::references(&toy(), 5)?;
    let (base, aligned) = (&references[&Reference::Base], &references[&Reference::Aligned]);
    let streams = Streams::new(&toy(), &["user"])?;
    let gradient = |lambda: f64| -> Result<(Params, Params)> {
        let method = ("asft", json!({ "lambda": lambda }));
        let mut stage = stage(&*backbone, &streams, method, none())?;
        stage.session.references = references.clone();
        let weights = stage.weights.copy()?;
        Ok((weights, training::gradient(stage)?.1))
    };
    let (weights, with) = gradient(0.6)?;
    let added = with.sub(&gradient(0.0)?.1)?;
    let expected = plain::gradient(&plain::weights(&weights)?, |weights| {
        let mut loss = Tensor::zeros((), candle_core::DType::F64, &candle_core::Device::Cpu)?;
        for (name, b) in weights {
            let Some(module) = name.strip_suffix(".lora_B") else { continue };
            let Some(layer) = Some(module).filter(|it| it.starts_with("layers.")) else { continue };
            let near = Lineage::weight(&**aligned, layer)?;
            let v = (&near - Lineage::weight(&**base, layer)?)?;
            let length = v.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
            let change = b.matmul(&weights[&format!("{module}.lora_A")])?;
            let within = (v.matmul(&v.t()?)?.matmul(&change)? / length)?;
            loss = (loss + ((change - within)?.sqr()?.sum_all()? * 0.6)?)?;
        }
        Ok(loss)
    })?;
    assert!(plain::norm(&expected)? > 0.01);
    agree(&added, &expected)
}
