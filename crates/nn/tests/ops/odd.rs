//! Odd shapes: a single position, a single head, a single key head, widths below a vector.
//!
//! Each operation against central differences in `f64` and against its composition.

use candle_core::{Result, Tensor};
use vxf_nn::{compose, ops};
use vxf_tensor::{Rows, autograd};

use crate::common::{Op, Source, beside, bits, check_differences, check_same, evaluate, values};

/// Both checks of an operation.
fn check(fused: Op<'_>, slow: Op<'_>, operands: &[Tensor]) -> Result<()> {
    check_differences(fused, operands)?;
    check_same(fused, slow, operands)
}

/// `rows`, `width`.
const SIZES: [(usize, usize); 5] = [(1, 1), (1, 17), (2, 3), (17, 19), (65, 9)];

#[test]
fn linear() -> Result<()> {
    let mut source = Source::new(21);
    // Few rows use another kernel than many.
    for (rows, inner) in SIZES {
        for out in [1, 5, 18] {
            let (x, w) = (source.tensor(&[1, rows, inner])?, source.tensor(&[out, inner])?);
            let slow: Op<'_> = &|o| compose::linear(&o[0], &o[1]);
            check(&|o| ops::linear(&o[0], &o[1]), slow, &[x.clone(), w.clone()])?;
            check_differences(&|o| ops::linear(&o[0], &w), std::slice::from_ref(&x))?;
            check_differences(&|o| ops::linear(&x, &o[0]), std::slice::from_ref(&w))?;
        }
    }
    Ok(())
}

#[test]
fn lora_linear() -> Result<()> {
    let mut source = Source::new(22);
    for (rows, inner) in SIZES {
        for (out, rank) in [(1, 1), (18, 3), (5, 17)] {
            let (x, w) = (source.tensor(&[1, rows, inner])?, source.tensor(&[out, inner])?);
            let (a, b) = (source.tensor(&[rank, inner])?, source.tensor(&[out, rank])?);
            let mask = source.dropout(rows, inner)?;
            for mask in [None, Some(&mask)] {
                let fused: Op<'_> =
                    &|o| ops::lora_linear(&o[0], &beside(&o[0], &w)?, &o[1], &o[2], 1.7, mask);
                let slow: Op<'_> =
                    &|o| compose::lora_linear(&o[0], &beside(&o[0], &w)?, &o[1], &o[2], 1.7, mask);
                check(fused, slow, &[x.clone(), a.clone(), b.clone()])?;
            }
        }
    }
    Ok(())
}

#[test]
fn norms() -> Result<()> {
    let mut source = Source::new(23);
    for (rows, width) in SIZES {
        let x = source.tensor(&[rows, width])?;
        let (gain, bias) = (source.tensor(&[width])?, source.tensor(&[width])?);
        check(
            &|o| ops::rms_norm(&o[0], &o[1], 1e-2),
            &|o| compose::rms_norm(&o[0], &o[1], 1e-2),
            &[x.clone(), gain.clone()],
        )?;
        check(
            &|o| ops::layer_norm(&o[0], &o[1], &o[2], 1e-1),
            &|o| compose::layer_norm(&o[0], &o[1], &o[2], 1e-1),
            &[x, gain, bias],
        )?;
        // Each head by itself.
        let x = source.tensor(&[1, rows, 3 * width])?;
        check(
            &|o| ops::rms_norm(&o[0], &o[1], 1e-2),
            &|o| compose::rms_norm(&o[0], &o[1], 1e-2),
            &[x, source.tensor(&[width])?],
        )?;
    }
    Ok(())
}

#[test]
fn elements() -> Result<()> {
    let mut source = Source::new(24);
    for (rows, width) in SIZES {
        let (x, y) = (source.tensor(&[rows, width])?, source.tensor(&[rows, width])?);
        let bias = source.tensor(&[width])?;
        check(
            &|o| ops::swiglu(&o[0], &o[1]),
            &|o| compose::swiglu(&o[0], &o[1]),
            &[x.clone(), y.clone()],
        )?;
        check(
            &|o| ops::add_bias(&o[0], &o[1]),
            &|o| compose::add_bias(&o[0], &o[1]),
            &[x.clone(), bias],
        )?;
        check(&|o| ops::relu(&o[0]), &|o| compose::relu(&o[0]), std::slice::from_ref(&x))?;
        check(&|o| autograd::add(&o[0], &o[1]), &|o| &o[0] + &o[1], &[x.clone(), y.clone()])?;
        check(
            &|o| ops::swiglu_joint(&o[0]),
            &|o| compose::swiglu_joint(&o[0]),
            &[Tensor::cat(&[&x, &y], 1)?],
        )?;
        let mask = source.mask(&[rows, width])?;
        let like = |o: &[Tensor]| beside(&o[0], &mask);
        check(&|o| ops::masked(&o[0], &like(o)?), &|o| &o[0] * like(o)?, &[x])?;
    }
    Ok(())
}

#[test]
fn heads() -> Result<()> {
    let mut source = Source::new(25);
    for (len, heads, half) in [(1, 1, 1), (1, 3, 5), (7, 1, 9), (3, 2, 1)] {
        let x = source.tensor(&[2, len, heads * 2 * half])?;
        let (cos, sin) = source.angles(len + 3, half)?;
        let form = |fused: bool, o: &[Tensor]| {
            let (cos, sin) = (beside(&o[0], &cos)?, beside(&o[0], &sin)?);
            let form = if fused { ops::rotary } else { compose::rotary };
            form(&o[0], heads, &cos, &sin, 3)
        };
        check(&|o| form(true, o), &|o| form(false, o), std::slice::from_ref(&x))?;
        let slow: Op<'_> = &|o| {
            let x = o[0].reshape((2, len, heads, 2 * half))?;
            x.transpose(1, 2)?.contiguous()
        };
        check(&|o| ops::split_heads(&o[0], heads), slow, &[x])?;
    }
    Ok(())
}

#[test]
fn embedding() -> Result<()> {
    let mut source = Source::new(29);
    for (rows, width) in SIZES {
        let table = source.tensor(&[rows, width])?;
        // Some rows several times, some not at all.
        let indices: Vec<u32> = (0..7).map(|i| (i * i) % rows as u32).collect();
        for (count, ignored) in [(1, None), (7, None), (7, Some(0)), (7, Some(4))] {
            let indices = Tensor::new(&indices[..count], table.device())?.unsqueeze(0)?;
            let there = |o: &[Tensor]| indices.to_device(o[0].device());
            let fused: Op<'_> = &|o| ops::embedding(&o[0], &there(o)?, ignored);
            let slow: Op<'_> = &|o| compose::embedding(&o[0], &there(o)?, ignored);
            let table = std::slice::from_ref(&table);
            check_same(fused, slow, table)?;
            // An ignored index still changes the result.
            if ignored.is_none() {
                check_differences(fused, table)?;
            }
        }
    }
    Ok(())
}

/// Layers side by side, some without an adapter, are each layer by itself.
#[test]
fn layers_side_by_side() -> Result<()> {
    let mut source = Source::new(31);
    for (rows, inner) in SIZES {
        for (outs, rank) in [(vec![3, 5, 1], 2), (vec![18, 4], 3)] {
            let x = source.tensor(&[rows, inner])?;
            let w = source.tensor(&[outs.iter().sum(), inner])?;
            let mask = source.dropout(rows, inner)?;
            for (skipped, masked) in [(9, false), (9, true), (1, true)] {
                let layers: Vec<_> = (outs.iter().enumerate())
                    .map(|(at, &out)| {
                        let mask = (masked && at != 0).then(|| mask.clone());
                        ops::Layer { out, adapted: at != skipped, mask }
                    })
                    .collect();
                let adapted: Vec<_> = layers.iter().filter(|layer| layer.adapted).collect();
                let a: Vec<_> = (adapted.iter().map(|_| source.tensor(&[rank, inner])))
                    .collect::<Result<_>>()?;
                let b: Vec<_> = (adapted.iter().map(|layer| source.tensor(&[layer.out, rank])))
                    .collect::<Result<_>>()?;
                let count = adapted.len();
                let run = |fused: bool, o: &[Tensor]| -> Result<Tensor> {
                    let w = beside(&o[0], &w)?;
                    let (a, b): (Vec<_>, Vec<_>) =
                        (o[1..=count].iter().collect(), o[1 + count..].iter().collect());
                    if !fused {
                        let [a, b] = [Tensor::cat(&a, 0)?, Tensor::cat(&b, 0)?];
                        return compose::lora_linears(&o[0], &w, [&a, &b], &layers, 0.7);
                    }
                    let stacks = [&ops::stacked(&a)?, &ops::stacked(&b)?];
                    ops::lora_linears(&o[0], &w, stacks, &layers, 0.7, ops::Values::Read)
                };
                // Joined where there is a kernel for it.
                if vxf_testkit::device().is_cpu() {
                    let operands = [std::slice::from_ref(&x), &a[..], &b[..]].concat();
                    check(&|o| run(true, o), &|o| run(false, o), &operands)?;
                }
            }
        }
    }
    Ok(())
}

/// Gradients do not depend on outputs that are not used.
#[test]
fn unread_outputs_have_their_gradients() -> Result<()> {
    let mut source = Source::new(32);
    let x = source.tensor(&[9, 5])?;
    let (w, a, b) = (source.tensor(&[4, 5])?, source.tensor(&[2, 5])?, source.tensor(&[4, 2])?);
    let layer = ops::Layer { out: 4, adapted: true, mask: Some(source.dropout(9, 5)?) };
    let lora = |values| {
        let (w, layer) = (&w, std::slice::from_ref(&layer));
        move |o: &[Tensor]| ops::lora_linears(&o[0], w, [&o[1], &o[2]], layer, 0.5, values)
    };
    let (read, unread) = (lora(ops::Values::Read), lora(ops::Values::Unread));
    let (_, expected) = evaluate(&read, &[x.clone(), a.clone(), b.clone()])?;
    let (zeros, found) = evaluate(&unread, &[x.clone(), a, b])?;
    assert_eq!(values(&zeros)?, [0.0; 36]);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(values(found)?, values(expected)?);
    }
    let (_, expected) = evaluate(&|o| ops::linear(&o[0], &o[1]), &[x.clone(), w.clone()])?;
    let (zeros, found) = evaluate(&|o| ops::linear_unread(&o[0], &o[1]), &[x, w])?;
    assert_eq!(values(&zeros)?, [0.0; 36]);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(values(found)?, values(expected)?);
    }
    Ok(())
}

/// Dense rows, queries, keys and values in one tensor or in three, against each sample by itself.
#[test]
fn attention_over_dense_rows() -> Result<()> {
    let mut source = Source::new(33);
    let layouts = [
        Rows::dense(&[1]),
        Rows::dense(&[3, 1, 0, 7]),
        Rows::dense(&[66, 2]),
        Rows::rectangle(2, 5).hiding(&[5, 2]),
    ];
    for (index, rows) in layouts.iter().enumerate() {
        // In the second case only a part of a head is rotated, in the last two scores have a soft cap.
        for (queries, keys, half, kept, window, cap) in [
            (1, 1, 1, 0, None, None),
            (4, 2, 3, 2, Some(2), None),
            (3, 3, 2, 0, None, Some(1.5)),
            (2, 1, 9, 1, Some(40), Some(0.7)),
        ] {
            // A query whose window holds padding alone has no slopes; see `attention`.
            let window = window.filter(|&window| index < 3 || window > 3);
            let d = 2 * half + kept;
            let limits = ops::Limits { window, cap };
            let (cos, sin) = source.angles(rows.longest() + 2, half)?;
            let sizes = [queries, keys, keys].map(|count| count * d);
            let parts = sizes.map(|width| source.tensor(&[rows.count(), width]));
            let [q, k, v] = parts;
            let parts = [q?, k?, v?];
            for turned in [false, true] {
                let run = |fused: bool, x: &[&Tensor]| -> Result<Tensor> {
                    let rotation = match turned {
                        true => Some([beside(x[0], &cos)?, beside(x[0], &sin)?]),
                        false => None,
                    };
                    let heads = ops::Heads { queries, keys, rotation, limits };
                    if fused {
                        ops::attend(x, &heads, rows)
                    } else {
                        compose::attend(x, &heads, rows)
                    }
                };
                let all = |o: &[Tensor], fused| run(fused, &o.iter().collect::<Vec<_>>());
                let joint = Tensor::cat(&parts, 1)?;
                check_same(&|o| all(o, true), &|o| all(o, false), std::slice::from_ref(&joint))?;
                check_same(&|o| all(o, true), &|o| all(o, false), &parts)?;
                if rows.count() < 20 {
                    check_differences(&|o| all(o, true), std::slice::from_ref(&joint))?;
                    check_differences(&|o| all(o, true), &parts)?;
                }
                assert_eq!(values(&run(true, &[&joint])?)?, values(&all(&parts, true)?)?);
            }
        }
    }
    Ok(())
}

#[test]
fn attention() -> Result<()> {
    let mut source = Source::new(26);
    // Heads, key heads, queries, keys, width.
    let sizes = [
        (1, 1, 1, 1, 1),
        (1, 1, 1, 6, 17),
        (4, 1, 1, 9, 3),
        (3, 3, 2, 2, 19),
        (4, 1, 5, 7, 9),
        (1, 1, 65, 65, 2),
    ];
    for (heads, kv_heads, len, keys, d) in sizes {
        let q = source.tensor(&[2, heads, len, d])?;
        let k = source.tensor(&[2, kv_heads, keys, d])?;
        let v = source.tensor(&[2, kv_heads, keys, d])?;
        let lengths = [keys, keys.saturating_sub(1).max(1)];
        for lengths in [None, Some(&lengths[..])] {
            for window in [None, Some(1), Some(4)] {
                let all = [q.clone(), k.clone(), v.clone()];
                let fused: Op<'_> = &|o| ops::attention(&o[0], &o[1], &o[2], lengths, window);
                let slow: Op<'_> = &|o| compose::attention(&o[0], &o[1], &o[2], lengths, window);
                check_same(fused, slow, &all)?;
                // If the window of a query contains only padding, gradients are not slopes, as the
                // operation's documentation says.
                if lengths.is_none() || window != Some(1) {
                    check_differences(fused, &all)?;
                }
            }
        }
    }
    Ok(())
}

/// Keys and values at the start of longer tensors give the same bits as their copies.
#[test]
fn attention_over_a_cache_with_spare_capacity() -> Result<()> {
    let mut source = Source::new(27);
    let sizes = [(1, 1, 1, 1, 8, 5), (2, 2, 1, 1, 5, 8), (3, 4, 2, 1, 70, 7), (2, 4, 1, 6, 33, 16)];
    for (batch, heads, kv_heads, len, keys, d) in sizes {
        let f32 = candle_core::DType::F32;
        let room = |source: &mut Source| -> Result<Tensor> {
            source.tensor(&[batch, kv_heads, keys + 9, d])?.to_dtype(f32)
        };
        let q = source.tensor(&[batch, heads, len, d])?.to_dtype(f32)?;
        let (k, v) = (room(&mut source)?, room(&mut source)?);
        // From the first position and from a later one.
        for start in [0, 4] {
            let (k, v) = (k.narrow(2, start, keys)?, v.narrow(2, start, keys)?);
            let found = ops::attention(&q, &k, &v, None, Some(5))?;
            let (own_k, own_v) = (k.force_contiguous()?, v.force_contiguous()?);
            let copied = ops::attention(&q, &own_k, &own_v, None, Some(5))?;
            assert_eq!(bits(&found)?, bits(&copied)?);
            // One of the two with spare capacity, the other without.
            let mixed = ops::attention(&q, &k, &own_v, None, Some(5))?;
            assert_eq!(bits(&mixed)?, bits(&copied)?);
            // With differentiation they are copied.
            let var = candle_core::Var::from_tensor(&q)?;
            let tracked = ops::attention(&var, &k, &v, None, Some(5))?;
            assert_eq!(bits(&tracked)?, bits(&copied)?);
        }
    }
    Ok(())
}

#[test]
fn linear_cross_entropy() -> Result<()> {
    let mut source = Source::new(28);
    for (rows, width, classes) in [(1, 1, 1), (1, 17, 5), (2, 3, 19), (35, 2, 3)] {
        let (h, w) = (source.tensor(&[rows, width])?, source.tensor(&[classes, width])?);
        let targets = source.targets(rows, classes);
        check(
            &|o| ops::linear_cross_entropy(&o[0], &o[1], &targets, None),
            &|o| compose::linear_cross_entropy(&o[0], &o[1], &targets, None),
            &[h.clone(), w.clone()],
        )?;
        let only = |o: &[Tensor]| ops::linear_cross_entropy(&h, &o[0], &targets, None);
        check_differences(&only, std::slice::from_ref(&w))?;
        let scalar = ops::linear_cross_entropy(&h, &w, &targets, None)?;
        assert!(values(&scalar)?[0] >= 0.0);
    }
    Ok(())
}
