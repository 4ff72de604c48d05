//! An edit of the final weights with a base and an aligned model: the update of a layer is
//! projected onto the direction of alignment if the two differ too much (SafeLoRA, Hsu et al.
//! 2024).

use candle_core::{DType, Tensor};
use vxf_core::minmax::Training;
use vxf_core::prelude::*;
use vxf_core::stream::Stream;
use vxf_testkit::numbers::{distance, entries, first_difference, norm};
use vxf_testkit::training::{self, Nothing, references, training};

use crate::{batches, toy};

/// Layers whose projected update has a lower cosine with the update than this are projected.
const THRESHOLD: f64 = 0.9;

struct SafeProjection;

/// `V V^T / |V|` for the alignment `V = W_aligned - W_base`.
fn projection(aligned: &Tensor, base: &Tensor) -> Result<Tensor> {
    let v = (aligned - base)?;
    let length = v.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
    Ok((v.matmul(&v.t()?)? / length)?)
}

fn cosine(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (entries(a)?, entries(b)?);
    let dot: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    Ok(dot / (norm(&a) * norm(&b)))
}

impl Defense for SafeProjection {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let modules: std::collections::BTreeSet<String> = step
            .parameters()
            .iter()
            .filter(|it| matches!(it.part, Part::Attention | Part::Mlp))
            .map(|it| it.module().to_owned())
            .collect();
        let mut projected = 0;
        for module in &modules {
            let aligned = step.reference(Reference::Aligned)?.weight(module)?;
            let base = step.reference(Reference::Base)?.weight(module)?;
            let parent = step.reference(Reference::Parent)?.weight(module)?;
            let project = projection(&aligned, &base)?;
            let update = (step.merged(&weights, module)? - &parent)?;
            if cosine(&project.matmul(&update)?, &update)? >= THRESHOLD {
                continue;
            }
            projected += 1;
            match step.trainable() {
                Trainable::Full => {
                    let edited = (&parent + project.matmul(&update)?)?;
                    weights.insert(format!("{module}.weight"), edited);
                }
                // B <- C B, so that the adapter's update is the projected one.
                Trainable::Lora(_) => {
                    let b = Lora::b_of(module);
                    let own = weights.get(&b).expect("each adapter has two matrices").detach();
                    weights.insert(b, project.matmul(&own)?);
                }
            }
        }
        step.record("projected_modules", f64::from(projected))?;
        Ok(weights)
    }
}

fn adapter() -> Trainable {
    Trainable::Lora(Lora { rank: 2, alpha: 4.0, dropout: 0.0, ..Lora::default() })
}

fn finished(backbone: &dyn Backbone) -> (Params, vxf_core::minmax::Finished) {
    let mut stage = stage(backbone, Box::new(SafeProjection));
    for _ in 0..3 {
        stage.step().expect("a step");
    }
    let done = stage.finish().expect("edited weights");
    (stage.weights, done)
}

fn stage<'a>(backbone: &'a dyn Backbone, defense: Box<dyn Defense>) -> Training<'a> {
    let stream = Stream::of_batches(batches(&toy(), 4, "main"));
    let start = training::weights(backbone, 8).expect("weights");
    let stage = training(backbone, &start, vec![("main", stream)], defense, Box::new(Nothing));
    let mut stage = stage.expect("a stage");
    stage.session.accumulation = 2;
    stage.session.references = references(backbone, 5).expect("models to compare with");
    // Here the user's stage starts from the frozen weights.
    let base = stage.session.references[&Reference::Base].clone();
    stage.session.references.insert(Reference::Parent, base);
    stage
}

/// The same edit by hand, on the merged weights, for full training and for an adapter.
#[test]
fn each_layers_update_is_projected() {
    for trainable in [Trainable::Full, adapter()] {
        let backbone = toy().with_trainable(&trainable).expect("its own layers");
        let (trained, done) = finished(&*backbone);
        let models = references(&*backbone, 5).expect("models");
        let base = &models[&Reference::Base];
        let mut projected = 0.0;
        for layer in 0..3 {
            for part in ["mixer.v_proj", "mixer.o_proj", "mlp.up_proj", "mlp.down_proj"] {
                let module = format!("layers.{layer}.{part}");
                let merged = |weights: &Params| -> Tensor {
                    match &trainable {
                        Trainable::Full => weights.get(&format!("{module}.weight")).cloned(),
                        Trainable::Lora(lora) => {
                            let of = |name: String| weights.get(&name).expect("a matrix").detach();
                            let (a, b) = (of(Lora::a_of(&module)), of(Lora::b_of(&module)));
                            let update =
                                (b.matmul(&a).expect("a product") * lora.scale()).expect("it");
                            Some((base.weight(&module).expect("a weight") + update).expect("a sum"))
                        }
                    }
                    .expect("a weight")
                };
                let w = base.weight(&module).expect("a weight");
                let aligned = models[&Reference::Aligned].weight(&module).expect("a weight");
                let update = (merged(&trained).detach() - &w).expect("an update");
                let v = (aligned - &w).expect("the alignment");
                let length = norm(&entries(&v).expect("numbers"));
                let other = v.matmul(&v.t().expect("transposed")).expect("a product");
                let other = (other.matmul(&update).expect("a product") / length).expect("scaled");
                let differs = cosine(&other, &update).expect("a cosine") < THRESHOLD;
                projected += f64::from(u8::from(differs));
                let expected = (w + if differs { other } else { update }).expect("a sum");
                let (ours, theirs) = (entries(&merged(&done.weights)), entries(&expected));
                let off = distance(&ours.expect("numbers"), &theirs.expect("numbers"));
                assert!(off < 1e-10, "{module} is off by {off}");
            }
        }
        assert!(projected > 0.0, "some layers are projected");
        assert_eq!(done.figures["projected_modules"], projected);
        assert!(first_difference(&trained, &done.weights).expect("numbers").is_some());
    }
}

/// The frozen weight if there is no adapter; a clear error if there is no such module or model.
#[test]
fn merged_weights_and_references_are_given_or_errors() {
    struct Asking;
    impl Defense for Asking {
        fn finish(&mut self, step: &mut Step<'_>, weights: Params) -> Result<Params> {
            assert_eq!(step.merged(&weights, "output")?.dims(), [13, 8]);
            assert_eq!(step.merged(&weights, "norm")?.dtype(), DType::F64);
            let error = step.merged(&weights, "layers.0.mixer.q_proj").expect_err("no such module");
            assert!(error.to_string().contains("layers.0.mixer.v_proj"), "{error}");
            let part = weights.iter().filter(|(name, _)| !name.ends_with("lora_B"));
            let part: Params = part.map(|(name, it)| (name.to_owned(), it.clone())).collect();
            let error = step.merged(&part, "layers.0.mixer.v_proj").expect_err("half an adapter");
            assert!(error.to_string().contains("lora_B"), "{error}");
            let error = step.reference(Reference::Aligned).map(drop).expect_err("none was given");
            assert!(error.to_string().contains("no `aligned` model"), "{error}");
            // Streams, keys and the weights are available.
            assert!(step.on_main().loss()? > 0.0);
            assert_eq!(first_difference(step.weights(), &weights)?, None);
            Ok(weights)
        }
    }
    let backbone = toy().with_trainable(&adapter()).expect("its own layers");
    let mut stage = stage(&*backbone, Box::new(Asking));
    stage.session.references.clear();
    let done = stage.finish().expect("the same weights");
    assert_eq!(first_difference(&stage.weights, &done.weights).expect("numbers"), None);
    assert_eq!(stage.session.accumulation, 2);
}

/// A query within `with_reference` runs the reference model; afterwards the trained one is there again, and
/// what is trained in it is known.
#[test]
fn a_reference_runs_in_place_of_the_trained_model() {
    struct Comparing;
    impl Defense for Comparing {
        fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
            let own = step.on_main().loss()?;
            let base = step.with_reference(Reference::Base, |step| step.on_main().loss())?;
            let plain = step.on_main().loss()?;
            assert_eq!(own, plain);
            // Without its adapter, the model is the base.
            let none = step.weights().iter().map(|(name, weight)| Ok((name, weight.zeros_like()?)));
            let none: Params =
                none.map(|it| it.map(|(name, it)| (name.to_owned(), it))).collect::<Result<_>>()?;
            let bare = step.with_weights(&none, |step| step.on_main().loss())?;
            assert!(
                (base - bare).abs() < 1e-12 && (base - own).abs() > 1e-6,
                "{own} {base} {bare}"
            );
            assert!(step.parameters().iter().all(|it| it.name.contains("lora_")));
            let error = step.with_reference(Reference::Aligned, |_| Ok(())).expect_err("not given");
            assert!(error.to_string().contains("no `aligned` model"), "{error}");
            Ok(())
        }
    }
    let backbone = toy().with_trainable(&adapter()).expect("its own layers");
    let mut stage = stage(&*backbone, Box::new(Comparing));
    stage.session.references.remove(&Reference::Aligned);
    stage.prepare().expect("a comparison");
    stage.session.references.insert(Reference::Base, std::sync::Arc::new(toy().tensors()));
    let error = stage.prepare().expect_err("weights alone").to_string();
    assert!(error.contains("cannot run"), "{error}");
}

#[test]
fn finished_weights_must_be_complete_and_finite() {
    struct Giving(fn(Params) -> Result<Params>);
    impl Defense for Giving {
        fn finish(&mut self, _: &mut Step<'_>, weights: Params) -> Result<Params> {
            (self.0)(weights)
        }
    }
    let toy = toy();
    let message_of = |give| {
        let mut stage = stage(&toy, Box::new(Giving(give)));
        stage.finish().map(drop).expect_err("refused").to_string()
    };
    let message = message_of(|weights| Ok(weights.into_iter().skip(1).collect()));
    assert!(message.contains("`finish`") && message.contains("`embedding.weight`"), "{message}");
    let message = message_of(|weights| weights.scale(f64::NAN));
    assert!(message.contains("a weight of `embedding.weight` is NaN"), "{message}");
}
