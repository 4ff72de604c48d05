//! Sizes of real models, which use kernels, tiles and chunks that small operands never reach.

use candle_core::Result;
use vxf_nn::{compose, ops};

use crate::common::{Op, Source, beside, check_same};

/// Head widths of real models, and sequences around the edges of tiles.
#[test]
fn attention() -> Result<()> {
    let mut source = Source::new(51);
    let edges = [1, 63, 64, 65, 127, 200, 257];
    let widths = [32, 40, 64, 72, 80, 96, 112, 128, 160, 256];
    // Each width once, and every edge at the width that most models have.
    let sizes = widths.into_iter().zip(edges.into_iter().cycle());
    let sizes = sizes.chain(edges.map(|len| (128, len)));
    for (index, (d, len)) in sizes.enumerate() {
        let q = source.tensor(&[2, 4, len, d])?;
        let (k, v) = (source.tensor(&[2, 2, len, d])?, source.tensor(&[2, 2, len, d])?);
        let padded = [len, len.div_ceil(2)];
        let lengths = (index % 2 == 0).then_some(&padded[..]);
        let window = (index % 3 == 0).then_some(len.div_ceil(2) + 1);
        let fused: Op<'_> = &|o| ops::attention(&o[0], &o[1], &o[2], lengths, window);
        let slow: Op<'_> = &|o| compose::attention(&o[0], &o[1], &o[2], lengths, window);
        check_same(fused, slow, &[q, k, v])?;
    }
    Ok(())
}

/// More rows, and more classes, than fit into one chunk.
#[test]
fn linear_cross_entropy() -> Result<()> {
    let mut source = Source::new(52);
    for (rows, width, classes) in [(4200, 8, 40), (600, 8, 32_000)] {
        let (h, w) = (source.tensor(&[rows, width])?, source.tensor(&[classes, width])?);
        let targets = source.targets(rows, classes);
        // The sum instead of the mean, whose gradients would be too small to compare.
        let sum = |loss: candle_core::Tensor| loss.affine(rows as f64, 0.0);
        check_same(
            &|o| sum(ops::linear_cross_entropy(&o[0], &o[1], &targets, None)?),
            &|o| sum(compose::linear_cross_entropy(&o[0], &o[1], &targets, None)?),
            &[h.clone(), w.clone()],
        )?;
        // A frozen projection.
        check_same(
            &|o| sum(ops::linear_cross_entropy(&o[0], &beside(&o[0], &w)?, &targets, None)?),
            &|o| sum(compose::linear_cross_entropy(&o[0], &beside(&o[0], &w)?, &targets, None)?),
            std::slice::from_ref(&h),
        )?;
    }
    Ok(())
}

/// More elements than a launch has threads.
#[test]
fn elements() -> Result<()> {
    let mut source = Source::new(53);
    let shape = [1025, 4099];
    let (gate, up) = (source.tensor(&shape)?, source.tensor(&shape)?);
    let (fused, slow): (Op<'_>, Op<'_>) =
        (&|o| ops::swiglu(&o[0], &o[1]), &|o| compose::swiglu(&o[0], &o[1]));
    check_same(fused, slow, &[gate.clone(), up])?;
    let mask = source.mask(&shape)?;
    let masked: Op<'_> = &|o| ops::masked(&o[0], &beside(&o[0], &mask)?);
    let product: Op<'_> = &|o| o[0].mul(&beside(&o[0], &mask)?);
    check_same(masked, product, std::slice::from_ref(&gate))
}

/// Rows of several blocks of threads, of whole runs of elements and not.
#[test]
fn rows() -> Result<()> {
    let mut source = Source::new(53);
    for (rows, width) in [(70, 2560), (3, 4099)] {
        let x = source.tensor(&[rows, width])?;
        let (gain, bias) = (source.tensor(&[width])?, source.tensor(&[width])?);
        let both = [x.clone(), gain.clone()];
        check_same(
            &|o| ops::rms_norm(&o[0], &o[1], 1e-5),
            &|o| compose::rms_norm(&o[0], &o[1], 1e-5),
            &both,
        )?;
        check_same(
            &|o| ops::layer_norm(&o[0], &o[1], &o[2], 1e-5),
            &|o| compose::layer_norm(&o[0], &o[1], &o[2], 1e-5),
            &[x.clone(), gain, bias],
        )?;
        let slow: Op<'_> = &|o| compose::add_bias(&o[0], &o[1]);
        check_same(&|o| ops::add_bias(&o[0], &o[1]), slow, &both)?;
        check_same(&|o| ops::relu(&o[0]), &|o| compose::relu(&o[0]), &[x])?;
    }
    Ok(())
}
