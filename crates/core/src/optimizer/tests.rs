//! The update by hand, and weights that are shared, missing or not finite.

use super::*;
use candle_core::{Device, Tensor};

/// Three steps by hand in f64, on one decayed and one undecayed weight.
#[test]
fn steps_follow_the_formula() -> Result<()> {
    let config = AdamWConfig { weight_decay: 0.1, ..Default::default() };
    let parameter = |name: &str, decay| Parameter::new(name, vec![2], decay);
    let parameters = [parameter("a.weight", true), parameter("norm.weight", false)];
    let start = Tensor::new(&[0.5f64, -1.5], &Device::Cpu)?;
    let mut weights: Params =
        parameters.iter().map(|p| (p.name.clone(), start.copy().expect("cpu"))).collect();
    let mut adam = AdamW::new(config, &parameters, &weights)?;
    let mut expected = [[0.5f64, -1.5], [0.5, -1.5]];
    let (mut m, mut v) = ([0.0f64; 2], [0.0f64; 2]);
    for step in 1..=3i32 {
        let g = [0.3 * f64::from(step), -2.0];
        let gradients =
            weights.map(|_| Ok(Tensor::new(&[g[0] * 2.0, g[1] * 2.0], &Device::Cpu)?))?;
        adam.step(&mut weights, &gradients, 0.5, 0.01)?;
        for i in 0..2 {
            m[i] = 0.9 * m[i] + 0.1 * g[i];
            v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
            let m_hat = m[i] / (1.0 - 0.9f64.powi(step));
            let v_hat = v[i] / (1.0 - 0.999f64.powi(step));
            let move_by = 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
            expected[0][i] = expected[0][i] * (1.0 - 0.01 * 0.1) - move_by;
            expected[1][i] -= move_by;
        }
    }
    for (parameter, expected) in parameters.iter().zip(expected) {
        let got = weights.get(&parameter.name).expect("inserted").to_vec1::<f64>()?;
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-9, "{got} {expected}");
        }
    }
    Ok(())
}

/// A gradient that shares storage with the weight gives the same update as a copy.
#[test]
fn a_weight_may_be_its_own_gradient() -> Result<()> {
    let parameters = [Parameter::new("w", vec![3], true)];
    let moved = |gradient: fn(&Tensor) -> Result<Tensor>| {
        let start = Tensor::new(&[0.5f32, -1.5, 2.0], &Device::Cpu)?;
        let mut weights: Params = [("w".to_owned(), start)].into_iter().collect();
        let mut adam = AdamW::new(AdamWConfig::default(), &parameters, &weights)?;
        for _ in 0..2 {
            let gradients = weights.map(gradient)?;
            adam.step(&mut weights, &gradients, 1.0, 0.1)?;
        }
        Ok::<_, Error>(weights.get("w").expect("inserted").to_vec1::<f32>()?)
    };
    assert_eq!(moved(|w| Ok(w.detach()))?, moved(|w| Ok(w.copy()?))?);
    let error = moved(|w| Ok(w.narrow(0, 0, 2)?)).expect_err("a gradient of another shape");
    assert!(error.to_string().contains("is [2], its weight [3]"), "{error}");
    Ok(())
}

/// The gradient and the earlier step are finite; the new weight is not.
#[test]
fn a_non_finite_weight_is_named_with_its_step() -> Result<()> {
    let parameter = |name: &str| Parameter::new(name, vec![40_000], false);
    let parameters = [parameter("fine"), parameter("large")];
    let value = |value: f32| Tensor::full(value, 40_000, &Device::Cpu);
    let mut weights: Params =
        [("fine".to_owned(), value(1.0)?), ("large".to_owned(), value(-3.395e38)?)]
            .into_iter()
            .collect();
    let gradients = weights.map(|_| Ok(value(1.0)?))?;
    let mut adam = AdamW::new(AdamWConfig::default(), &parameters, &weights)?;
    adam.step(&mut weights, &gradients, 1.0, 0.1)?;
    let error = adam.step(&mut weights, &gradients, 1.0, 1e37).expect_err("beyond f32");
    assert_eq!(error.to_string(), "a weight of `large` is -inf at step 1; training cannot go on");
    Ok(())
}

#[test]
fn clipping_leaves_small_gradients_alone() {
    assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
    assert!((clip_factor(4.0, Some(1.0)) - 0.25).abs() < 1e-6);
    assert_eq!(clip_factor(1e9, None), 1.0);
}

fn one(name: &str, value: f64) -> Result<Params> {
    Ok([(name.to_owned(), Tensor::new(&[value], &Device::Cpu)?)].into_iter().collect())
}

fn value(of: &Params, name: &str) -> Result<f64> {
    Ok(of.get(name).expect("it is there").to_vec1::<f64>()?[0])
}

/// A clone or a detached tensor shares its storage; updating it changes no other set.
#[test]
fn only_the_given_set_is_updated() -> Result<()> {
    let trained = one("w", 1.0)?.leaves()?;
    let gradient = one("w", 1.0)?;
    for shared in [trained.detach(), trained.detach().clone(), trained.copy()?] {
        let mut mine = shared.clone();
        let mut adam = AdamW::new(AdamWConfig::default(), &[], &mine)?;
        for _ in 0..3 {
            adam.step(&mut mine, &gradient, 1.0, 0.1)?;
        }
        assert_eq!((value(&trained, "w")?, value(&shared, "w")?), (1.0, 1.0));
        assert!((value(&mine, "w")? - 0.7).abs() < 1e-6, "three steps of one rate");
    }
    let mut live = trained.clone();
    AdamW::new(AdamWConfig::default(), &[], &live)?.step(&mut live, &gradient, 1.0, 0.1)?;
    assert!(value(&trained, "w")? < 1.0, "variables are updated in place");
    Ok(())
}

/// PyTorch counts steps by weight: the first step of a late weight has the size of one rate.
#[test]
fn bias_correction_counts_the_updates_of_each_weight() -> Result<()> {
    let both = |a: f64, b: f64| -> Result<Params> {
        Ok(one("a", a)?.into_iter().chain(one("b", b)?).collect())
    };
    let mut weights = both(0.0, 0.0)?;
    let mut adam = AdamW::new(AdamWConfig::default(), &[], &weights)?;
    for _ in 0..1000 {
        adam.step(&mut weights, &one("a", 1.0)?, 1.0, 0.01)?;
    }
    adam.step(&mut weights, &both(1.0, 1.0)?, 1.0, 0.01)?;
    assert!((value(&weights, "b")? + 0.01).abs() < 1e-9, "{}", value(&weights, "b")?);
    assert_eq!(adam.missed.get("b"), Some(&1000));
    assert_eq!(adam.missed.get("a"), None);

    // The same bits as a weight that was trained alone from its first gradient.
    let mut alone = one("b", 0.0)?;
    let mut other = AdamW::new(AdamWConfig::default(), &[], &alone)?;
    other.step(&mut alone, &one("b", 1.0)?, 1.0, 0.01)?;
    for step in 0..20 {
        let gradient = f64::from(step).sin();
        adam.step(&mut weights, &both(0.5, gradient)?, 1.0, 0.01)?;
        other.step(&mut alone, &one("b", gradient)?, 1.0, 0.01)?;
        assert_eq!(value(&weights, "b")?.to_bits(), value(&alone, "b")?.to_bits());
    }
    Ok(())
}
