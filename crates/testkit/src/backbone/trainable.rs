//! Laws of the trained parameters: names, shapes and starting values.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::DType;
use vxf_core::metric::Model;
use vxf_core::{Backbone, Error, Key, Lora, Params, Trainable};

use super::samples;
use crate::case::property;
use crate::numbers::{entries, first_difference};

fn names(backbone: &dyn Backbone) -> Vec<String> {
    backbone.parameters().into_iter().map(|parameter| parameter.name).collect()
}

/// Starting weights have the names and shapes of the parameters, depend on the key alone, and do
/// not change the model's outputs. Gains and biases do not decay.
pub fn starting_weights_fit(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    property(4, samples(), |samples| {
        let key = Key::root(samples.seed);
        let start = backbone.initial(&key)?;
        for parameter in backbone.parameters() {
            let name = &parameter.name;
            let tensor =
                start.get(name).unwrap_or_else(|| panic!("`{name}` has no starting value"));
            assert_eq!(tensor.dims(), parameter.shape, "shape of `{name}`");
            assert_eq!(tensor.dtype(), backbone.dtype(), "type of `{name}`");
            assert_eq!(parameter.decay, parameter.shape.len() > 1, "decay of `{name}`");
        }
        assert_eq!(start.len(), backbone.parameters().len(), "starting values of parameters alone");
        assert_eq!(
            first_difference(&start, &backbone.initial(&key)?)?,
            None,
            "the same key, the same starting values"
        );

        let batch = samples.batch(&*backbone)?;
        let logits =
            |weights: &Params| entries(&Model { backbone: &*backbone, weights }.logits(&batch)?);
        assert_eq!(logits(&start)?, logits(&Params::new())?, "a fresh start changes nothing");
        Ok(())
    });
}

/// An adapter is on the target layers and on no other; an unknown layer is rejected; full training
/// trains every tensor, unless the model says that its weights stay frozen.
pub fn adapters_are_on_their_target_layers(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    match backbone.with_trainable(&Trainable::Full) {
        Ok(full) => {
            let sorted: BTreeSet<_> = names(&*full).into_iter().collect();
            let all = backbone.tensors();
            assert!(sorted.iter().map(String::as_str).eq(all.names()), "every tensor");
        }
        Err(error) => {
            let frozen = matches!(&error, Error::Config(problem) if problem.key == "trainable");
            assert!(frozen, "everything can be trained: {error}");
        }
    }

    let lora = |target_modules: Vec<String>| {
        Trainable::Lora(Lora { rank: 2, target_modules, ..Lora::default() })
    };
    let layers: BTreeSet<_> = backbone
        .tensors()
        .names()
        .filter_map(|name| name.strip_suffix(".weight")?.rsplit('.').next().map(str::to_owned))
        .collect();
    // A model without support for adapters rejects all.
    let Ok(every) = backbone.with_trainable(&lora(layers.iter().cloned().collect())) else {
        return;
    };
    let every: BTreeSet<_> = names(&*every).into_iter().collect();
    assert!(!every.is_empty());
    let mut found = BTreeSet::new();
    for layer in layers {
        let Ok(some) = backbone.with_trainable(&lora(vec![layer.clone()])) else { continue };
        let some: BTreeSet<_> = names(&*some).into_iter().collect();
        let on_it = |name: &&String| {
            let module = name.strip_suffix(".lora_A").or(name.strip_suffix(".lora_B"));
            module.is_some_and(|module| module.rsplit('.').next() == Some(&layer))
        };
        assert_eq!(some, every.iter().filter(on_it).cloned().collect(), "adapters on `{layer}`");
        found.extend(some);
    }
    assert_eq!(found, every, "each layer alone, and all together");
    let unknown = lora(vec!["no_such_layer".into()]);
    assert!(backbone.with_trainable(&unknown).is_err(), "an unknown layer is rejected");
}
