//! Documented properties besides the numbers: no needless gradients, errors instead of panics, any
//! layout, repeatable bits.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use vxf_nn::ops;
use vxf_tensor::Rows;
use vxf_tensor::autograd::seed;

use crate::common::{Source, backward, values};

/// A trained operand.
fn var(source: &mut Source, shape: &[usize]) -> Result<Var> {
    Var::from_tensor(&source.tensor(shape)?)
}

/// Asserts that exactly these tensors have gradients.
fn assert_only(grads: &GradStore, vars: &[&Var]) {
    for var in vars {
        assert!(grads.get(var).is_some(), "a gradient is missing");
    }
    assert_eq!(grads.get_ids().count(), vars.len(), "needless gradients");
}

#[test]
fn only_tracked_operands_get_gradients() -> Result<()> {
    let mut source = Source::new(1);
    let s = &mut source;
    let (x, w) = (var(s, &[2, 3, 4])?, var(s, &[4, 4])?);
    let (plain_x, plain_w) = (s.tensor(&[2, 3, 4])?, s.tensor(&[4, 4])?);
    assert_only(&backward(&ops::linear(&x, &plain_w)?)?, &[&x]);
    assert_only(&backward(&ops::linear(&x, &w.detach())?)?, &[&x]);
    assert_only(&backward(&ops::linear(&plain_x, &w)?)?, &[&w]);
    assert_only(&backward(&ops::linear(&x, &w)?)?, &[&x, &w]);

    let (a, b, mask) = (var(s, &[2, 4])?, var(s, &[4, 2])?, s.dropout(6, 4)?);
    let lora = |x: &Tensor, w: &Tensor, a: &Tensor, b: &Tensor| {
        backward(&ops::lora_linear(x, w, a, b, 2.0, Some(&mask))?)
    };
    assert_only(&lora(&x, &plain_w, &a, &b)?, &[&x, &a, &b]);
    assert_only(&lora(&x, &w, &a, &b)?, &[&x, &a, &b]);
    assert_only(&lora(&plain_x, &plain_w, &a, &b)?, &[&a, &b]);
    assert_only(&lora(&x, &plain_w, &a.detach(), &b)?, &[&x, &b]);
    assert_only(&lora(&x, &plain_w, &a.detach(), &b.detach())?, &[&x]);

    let (gain, plain_gain) = (var(s, &[4])?, s.tensor(&[4])?);
    assert_only(&backward(&ops::rms_norm(&x, &plain_gain, 1e-5)?)?, &[&x]);
    assert_only(&backward(&ops::rms_norm(&plain_x, &gain, 1e-5)?)?, &[&gain]);

    let (bias, plain_bias) = (var(s, &[4])?, s.tensor(&[4])?);
    assert_only(&backward(&ops::layer_norm(&x, &plain_gain, &plain_bias, 1e-5)?)?, &[&x]);
    assert_only(&backward(&ops::layer_norm(&plain_x, &gain, &plain_bias, 1e-5)?)?, &[&gain]);
    assert_only(&backward(&ops::layer_norm(&plain_x, &plain_gain, &bias, 1e-5)?)?, &[&bias]);
    assert_only(&backward(&ops::layer_norm(&x, &gain, &bias, 1e-5)?)?, &[&x, &gain, &bias]);
    assert_only(&backward(&ops::add_bias(&x, &plain_bias)?)?, &[&x]);
    assert_only(&backward(&ops::add_bias(&plain_x, &bias)?)?, &[&bias]);
    assert_only(&backward(&ops::relu(&x)?)?, &[&x]);

    let ids = Tensor::new(&[1_u32, 0, 1], &Device::Cpu)?;
    assert_only(&backward(&ops::embedding(&w, &ids, Some(0))?)?, &[&w]);
    assert!(!ops::embedding(&plain_w, &ids, None)?.track_op());

    let (cos, sin) = (var(s, &[3, 1])?, var(s, &[3, 1])?);
    assert_only(&backward(&ops::rotary(&x, 2, &cos, &sin, 0)?)?, &[&x]);

    assert_only(&backward(&ops::swiglu(&x, &plain_x)?)?, &[&x]);
    assert_only(&backward(&ops::swiglu(&plain_x, &x)?)?, &[&x]);
    assert_only(&backward(&ops::swiglu_joint(&x)?)?, &[&x]);
    assert_only(&backward(&ops::stacked(&[&w, &plain_w, &plain_w])?)?, &[&w]);

    let (rows, joint) = (Rows::dense(&[2, 1]), var(s, &[3, 12])?);
    let (part, plain_part) = (var(s, &[3, 4])?, s.tensor(&[3, 4])?);
    let heads = ops::Heads { queries: 2, keys: 2, rotation: None, limits: ops::Limits::default() };
    assert_only(&backward(&ops::attend(&[&joint], &heads, &rows)?)?, &[&joint]);
    for at in 0..3 {
        let mut parts = [&plain_part; 3];
        parts[at] = &part;
        assert_only(&backward(&ops::attend(&parts, &heads, &rows)?)?, &[&part]);
    }

    let (q, kv) = (var(s, &[1, 2, 3, 4])?, s.tensor(&[1, 2, 3, 4])?);
    for (i, operands) in [[&*q, &kv, &kv], [&kv, &q, &kv], [&kv, &kv, &q]].iter().enumerate() {
        let [one, two, three] = operands;
        let grads = backward(&ops::attention(one, two, three, None, None)?)?;
        assert_only(&grads, &[&q]);
        assert!(values(&grads.get(&q).unwrap_or(&kv).sqr()?)?.iter().sum::<f64>() > 0.0, "{i}");
    }

    let targets = [0, 1, -1, 2, 3, 3];
    let loss = |h: &Tensor, w: &Tensor| ops::linear_cross_entropy(h, w, &targets, None)?.backward();
    assert_only(&loss(&x, &plain_w)?, &[&x]);
    assert_only(&loss(&x, &w.detach())?, &[&x]);
    assert_only(&loss(&plain_x, &w)?, &[&w]);
    assert_only(&loss(&x, &w)?, &[&x, &w]);
    Ok(())
}

/// The first of two passes needs the gradient of a layer's input only: with detached adapters the
/// whole layer leaves one entry.
#[test]
fn a_pass_with_detached_weights_has_one_gradient() -> Result<()> {
    let mut source = Source::new(2);
    let s = &mut source;
    let (len, width) = (5, 8);
    let x = var(s, &[2, len, width])?;
    let (w, gain) = (var(s, &[width, width])?, var(s, &[width])?);
    let (a, b) = (var(s, &[2, width])?, var(s, &[width, 2])?);
    let (cos, sin) = s.angles(len, 2)?;
    let layer = |w: &Tensor, gain: &Tensor, a: &Tensor, b: &Tensor| -> Result<Tensor> {
        let normed = ops::rms_norm(&x, gain, 1e-5)?;
        let q = ops::rotary(&ops::lora_linear(&normed, w, a, b, 0.5, None)?, 2, &cos, &sin, 0)?;
        let k = ops::rotary(&ops::linear(&normed, w)?, 2, &cos, &sin, 0)?;
        let v = ops::split_heads(&ops::linear(&normed, w)?, 2)?;
        let mixed = ops::attention(&q, &k, &v, Some(&[len, 3]), None)?;
        ops::swiglu(&ops::linear(&mixed, w)?, &mixed)
    };
    let first = backward(&layer(&w.detach(), &gain.detach(), &a.detach(), &b.detach())?)?;
    assert_only(&first, &[&x]);
    let second = backward(&layer(&w.detach(), &gain.detach(), &a, &b)?)?;
    assert_only(&second, &[&x, &a, &b]);
    let (first, second) = (first.get(&x), second.get(&x));
    assert_eq!(first.map(values).transpose()?, second.map(values).transpose()?);
    Ok(())
}

#[test]
fn gradients_carry_no_history() -> Result<()> {
    let mut source = Source::new(3);
    let (x, w) = (var(&mut source, &[3, 4])?, var(&mut source, &[5, 4])?);
    let grads = ops::linear_cross_entropy(&x, &w, &[1, 2, 3], None)?.backward()?;
    let tracked = [&x, &w].map(|v| grads.get(v).is_some_and(|g| g.track_op()));
    assert_eq!(tracked, [false, false]);
    let grads = backward(&ops::linear(&x, &w)?)?;
    let tracked = [&x, &w].map(|v| grads.get(v).is_some_and(|g| g.track_op()));
    assert_eq!(tracked, [false, false]);
    Ok(())
}

/// Asserts an error whose message contains a text.
fn assert_error(result: Result<Tensor>, text: &str) {
    match result {
        Ok(out) => panic!("a result of shape {:?} instead of an error", out.dims()),
        Err(error) => assert!(error.to_string().contains(text), "{text:?} is not in {error}"),
    }
}

#[test]
fn wrong_operands_are_errors() -> Result<()> {
    let mut source = Source::new(4);
    let mut t = |shape: &[usize]| source.tensor(shape);
    let x = t(&[2, 3, 4])?;
    assert_error(ops::linear(&x, &t(&[4, 5])?), "[4, 5]");
    assert_error(ops::linear(&x, &t(&[4])?), "[2, 3, 4]");
    assert_error(ops::linear(&x, &t(&[4, 4])?.to_dtype(DType::F32)?), "F32");
    assert_error(ops::linear(&t(&[])?, &t(&[4, 4])?), "scalar");
    let ids = x.to_dtype(DType::U32)?;
    assert_error(ops::swiglu(&ids, &ids), "U32");
    assert_error(ops::relu(&ids), "U32");

    let (w, a, b) = (t(&[5, 4])?, t(&[2, 4])?, t(&[5, 2])?);
    assert_error(ops::lora_linear(&x, &w, &b, &a, 1.0, None), "[5, 2]");
    let mask = vxf_tensor::Mask::new(Tensor::ones((5, 4), DType::U8, x.device())?, 1.0);
    assert_error(ops::lora_linear(&x, &w, &a, &b, 1.0, Some(&mask)), "mask");
    let side = |out, adapted| ops::Layer { out, adapted, mask: None };
    let joined =
        |layers: &[ops::Layer]| ops::lora_linears(&x, &w, [&a, &b], layers, 1.0, ops::Values::Read);
    assert_error(joined(&[side(4, true)]), "[5, 2]");
    assert_error(joined(&[side(2, true), side(3, true)]), "[2, 4]");
    assert_error(joined(&[side(2, true), side(3, false)]), "[5, 2]");
    assert_error(ops::stacked(&[&w, &b]), "[5, 2]");
    assert_error(ops::swiglu_joint(&t(&[2, 3])?), "3 columns");
    assert_error(ops::rms_norm(&x, &t(&[3])?, 1e-5), "[3]");
    assert_error(ops::layer_norm(&x, &t(&[3])?, &t(&[4])?, 1e-5), "gain is [3]");
    assert_error(ops::layer_norm(&x, &t(&[4])?, &t(&[3])?, 1e-5), "bias is [3]");
    assert_error(ops::add_bias(&x, &t(&[3])?), "[3]");

    let table = t(&[3, 2])?;
    assert_error(ops::rotary(&x, 3, &table, &table, 0), "3 heads");
    assert_error(ops::rotary(&x, 0, &table, &table, 0), "0 heads");
    assert_error(ops::rotary(&x, 4, &table, &table, 0), "at most 0");
    assert_error(ops::rotary(&x, 2, &table, &table, 0), "[3, 2]");
    assert_error(ops::rotary(&x, 1, &table, &table, 1), "exceed");
    assert_error(ops::rotary(&x, 1, &table, &table, usize::MAX), "exceed");
    assert_error(ops::split_heads(&table, 1), "[3, 2]");

    let (q, k) = (t(&[2, 4, 3, 2])?, t(&[2, 2, 3, 2])?);
    assert_error(
        ops::attention(&q, &t(&[2, 3, 3, 2])?, &t(&[2, 3, 3, 2])?, None, None),
        "[2, 3, 3, 2]",
    );
    assert_error(
        ops::attention(&q, &t(&[2, 2, 2, 2])?, &t(&[2, 2, 2, 2])?, None, None),
        "[2, 2, 2, 2]",
    );
    assert_error(ops::attention(&q, &k, &t(&[2, 2, 4, 2])?, None, None), "[2, 2, 4, 2]");
    assert_error(ops::attention(&q, &k, &k, Some(&[1]), None), "1 lengths");
    assert_error(ops::attention(&q, &k, &k, Some(&[3, 0]), None), "length of 0");
    assert_error(ops::attention(&q, &k, &k, Some(&[3, 4]), None), "length of 4");
    assert_error(ops::attention(&q, &k, &k, None, Some(0)), "window of 0");
    let none = t(&[2, 4, 0, 2])?;
    assert_error(ops::attention(&none, &k, &k, None, None), "empty");

    assert_error(ops::swiglu(&x, &q), "[2, 4, 3, 2]");
    assert_error(ops::embedding(&w, &Tensor::new(&[4_u32, 5], x.device())?, None), "index 5");

    let rows = Rows::dense(&[2, 1]);
    let heads = |queries, keys, window: Option<usize>| {
        let limits = ops::Limits::from(window);
        ops::Heads { queries, keys, rotation: None, limits }
    };
    let (joint, kv) = (t(&[3, 8])?, t(&[3, 4])?);
    assert_error(ops::attend(&[&joint], &heads(3, 2, None), &rows), "3 query and 2 key heads");
    assert_error(ops::attend(&[&joint], &heads(2, 2, None), &rows), "[3, 8]");
    assert_error(ops::attend(&[&joint], &heads(2, 1, Some(0)), &rows), "window of 0");
    assert_error(ops::attend(&[&joint], &heads(2, 1, None), &Rows::dense(&[4])), "4 rows");
    assert_error(ops::attend(&[&joint, &kv, &joint], &heads(2, 1, None), &rows), "[3, 4]");
    let turned = ops::Heads { rotation: Some([t(&[1, 1])?, t(&[1, 1])?]), ..heads(2, 1, None) };
    assert_error(ops::attend(&[&joint], &turned, &rows), "2 positions");

    let loss = |targets: &[i64]| ops::linear_cross_entropy(&x, &w, targets, None);
    assert_error(loss(&[0; 5]), "5 targets");
    assert_error(loss(&[-100; 6]), "negative");
    assert_error(loss(&[0, 1, 2, 3, 4, 5]), "target 5");
    assert_error(ops::linear_cross_entropy(&x, &a.t()?, &[0; 6], None), "[4, 2]");
    Ok(())
}

#[test]
fn empty_batches_are_empty() -> Result<()> {
    let mut source = Source::new(6);
    let x = source.tensor(&[0, 3, 4])?;
    let (w, gain) = (source.tensor(&[5, 4])?, source.tensor(&[4])?);
    let (cos, sin) = source.angles(3, 2)?;
    assert_eq!(ops::linear(&x, &w)?.dims(), [0, 3, 5]);
    assert_eq!(ops::rms_norm(&x, &gain, 1e-5)?.dims(), [0, 3, 4]);
    assert_eq!(ops::layer_norm(&x, &gain, &gain, 1e-5)?.dims(), [0, 3, 4]);
    assert_eq!(ops::relu(&ops::add_bias(&x, &gain)?)?.dims(), [0, 3, 4]);
    assert_eq!(ops::rotary(&x, 1, &cos, &sin, 0)?.dims(), [0, 1, 3, 4]);
    assert_eq!(ops::swiglu(&x, &x)?.dims(), [0, 3, 4]);
    Ok(())
}

#[test]
fn any_layout_will_do() -> Result<()> {
    let mut source = Source::new(7);
    let x = var(&mut source, &[6, 5])?;
    let w = source.tensor(&[6, 4])?.t()?;
    let run = |x: &Tensor, w: &Tensor| -> Result<(Vec<f64>, GradStore)> {
        let y = ops::swiglu(&ops::linear(x, w)?, &ops::linear(x, w)?.affine(2.0, 1.0)?)?;
        // The gradient of a sum is a broadcast number.
        Ok((values(&y)?, y.sum_all()?.backward()?))
    };
    let (found, found_grads) = run(&x.t()?, &w)?;
    let (expected, expected_grads) = run(&x.t()?.contiguous()?, &w.contiguous()?)?;
    assert_eq!(found, expected);
    let grads = [found_grads, expected_grads];
    let [found, expected] = grads.map(|grads| grads.get(&x).map(values));
    assert_eq!(found.transpose()?, expected.transpose()?);

    // A part of a larger tensor: contiguous, with an offset.
    let part = source.tensor(&[4, 6])?.narrow(0, 1, 2)?;
    let copy = part.force_contiguous()?;
    let gain = source.tensor(&[12])?.narrow(0, 3, 6)?;
    let found = ops::rms_norm(&part, &gain, 1e-5)?;
    assert_eq!(values(&found)?, values(&ops::rms_norm(&copy, &gain, 1e-5)?)?);
    let found = ops::relu(&ops::add_bias(&part, &gain)?)?;
    assert_eq!(values(&found)?, values(&ops::relu(&ops::add_bias(&copy, &gain)?)?)?);
    let found = ops::layer_norm(&part.t()?, &gain.narrow(0, 0, 2)?, &gain.narrow(0, 2, 2)?, 0.1)?;
    let copy = ops::layer_norm(&copy.t()?, &gain.narrow(0, 0, 2)?, &gain.narrow(0, 2, 2)?, 0.1)?;
    assert_eq!(values(&found)?, values(&copy)?);

    // Queries as a transposed view.
    let q = source.tensor(&[2, 3, 4, 5])?;
    let k = source.tensor(&[2, 4, 3, 5])?;
    let found = ops::attention(&q.transpose(1, 2)?, &k, &k, None, None)?;
    let expected = ops::attention(&q.transpose(1, 2)?.contiguous()?, &k, &k, None, None)?;
    assert_eq!(values(&found)?, values(&expected)?);
    Ok(())
}

/// Neither padding keys nor ignored rows can change a result, whatever they contain.
#[test]
fn hidden_operands_do_not_matter() -> Result<()> {
    let mut source = Source::new(8);
    let (q, k) = (source.tensor(&[2, 2, 4, 3])?, source.tensor(&[2, 1, 4, 3])?);
    let padded = k.narrow(2, 0, 3)?.pad_with_zeros(2, 0, 1)?;
    let lengths = Some(&[3, 2][..]);
    let found = ops::attention(&q, &k, &k, lengths, None)?;
    assert_eq!(values(&found)?, values(&ops::attention(&q, &padded, &padded, lengths, None)?)?);

    let w = source.tensor(&[5, 3])?;
    let mut rows = values(&source.tensor(&[4, 3])?)?;
    rows[3..6].fill(f64::NAN);
    let h = Var::from_tensor(&Tensor::from_vec(rows, (4, 3), &Device::Cpu)?)?;
    let loss = ops::linear_cross_entropy(&h, &w, &[1, -100, 4, 0], None)?;
    assert!(loss.to_scalar::<f64>()?.is_finite());
    let grads = loss.backward()?;
    let grad = grads.get(&h).map(values).transpose()?.unwrap_or_default();
    assert_eq!(grad[3..6], [0.0; 3]);
    assert!(grad[..3].iter().all(|x| *x != 0.0));
    Ok(())
}

/// Large scores and logits neither overflow nor become NaN.
#[test]
fn extreme_values_stay_finite() -> Result<()> {
    let device = &Device::Cpu;
    let x = Var::from_tensor(&Tensor::new(&[[1e4_f32, -1e4, 300.0, -300.0]], device)?)?;
    let y = ops::swiglu(&x, &Tensor::ones((1, 4), DType::F32, device)?)?;
    assert_eq!(y.to_vec2::<f32>()?, [[1e4, 0.0, 300.0, 0.0]]);
    let grads = backward(&y)?;
    assert!(values(grads.get(&x).unwrap_or(&y))?.iter().all(|g| g.is_finite()));

    let w = Tensor::new(&[[1.0_f32, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], device)?;
    let loss = ops::linear_cross_entropy(&x, &w, &[1], None)?;
    assert_eq!(loss.to_scalar::<f32>()?, 2e4);

    // Rows far from zero keep the digits of their differences.
    let far = Tensor::new(&[[1e4_f32, 1e4 + 1.0, 1e4 - 1.0, 1e4]], device)?;
    let (ones, zeros) =
        (Tensor::ones(4, DType::F32, device)?, Tensor::zeros(4, DType::F32, device)?);
    let normed = values(&ops::layer_norm(&far, &ones, &zeros, 1e-5)?)?;
    let root = 0.5_f64.sqrt().recip();
    for (found, expected) in normed.iter().zip([0.0, root, -root, 0.0]) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
    assert!(ops::relu(&Tensor::new(&[f32::NAN], device)?)?.to_vec1::<f32>()?[0].is_nan());

    let q = x.reshape((1, 1, 1, 4))?.broadcast_as((1, 1, 3, 4))?;
    assert!(values(&ops::attention(&q, &q, &q, None, None)?)?.iter().all(|y| y.is_finite()));
    Ok(())
}

/// Going backward twice over one graph gives the same gradients twice.
#[test]
fn the_graph_may_be_used_again() -> Result<()> {
    let mut source = Source::new(9);
    let (h, w) = (var(&mut source, &[6, 4])?, var(&mut source, &[5, 4])?);
    let loss = ops::linear_cross_entropy(&h, &w, &[0, 1, 2, 3, 4, -1], None)?;
    let (first, second) = (loss.backward()?, loss.affine(3.0, 0.0)?.backward()?);
    for v in [&h, &w] {
        let tripled = first.get(v).map(|g| g.affine(3.0, 0.0)).transpose()?;
        assert_eq!(
            tripled.as_ref().map(values).transpose()?,
            second.get(v).map(values).transpose()?
        );
    }
    Ok(())
}

#[test]
fn half_types_use_the_slow_form() -> Result<()> {
    let mut source = Source::new(10);
    let mut t = |shape: &[usize]| source.tensor(shape)?.to_dtype(DType::BF16);
    let (x, w) = (Var::from_tensor(&t(&[2, 4, 8])?)?, t(&[8, 8])?);
    let table = t(&[4, 2])?;
    let y = ops::rms_norm(&ops::linear(&x, &w)?, &t(&[8])?, 1e-5)?;
    let y =
        ops::relu(&ops::add_bias(&ops::layer_norm(&y, &t(&[8])?, &t(&[8])?, 1e-5)?, &t(&[8])?)?)?;
    let q = ops::rotary(&y, 2, &table, &table, 0)?;
    let y = ops::swiglu(&ops::attention(&q, &q, &q, Some(&[4, 2]), Some(3))?, &y)?;
    let y = ops::lora_linear(&y, &w, &t(&[2, 8])?, &t(&[8, 2])?, 0.5, None)?;
    let loss = ops::linear_cross_entropy(&y, &w, &[1; 8], None)?;
    assert_eq!(loss.dtype(), DType::F32, "bf16 would keep only two digits");
    assert!(loss.backward()?.get(&x).is_some());
    let grads = seed(&y, &y).expect("a graph").backward()?;
    assert_eq!(grads.get(&x).map(|g| g.dtype()), Some(DType::BF16));
    Ok(())
}
