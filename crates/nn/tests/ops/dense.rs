//! Attention over dense rows at the sizes at which kernels for devices differ: widths of heads, and
//! lengths around those of tiles.

use std::ops::Range;

use candle_core::{DType, Result, Tensor, Var};
use vxf_nn::{compose, ops};
use vxf_tensor::Rows;
use vxf_tensor::autograd::seed;
use vxf_testkit::device;

use crate::common::{Source, beside, check_same, values};

/// Heads of random queries, keys and values.
struct Case {
    queries: usize,
    keys: usize,
    /// Width of a head.
    d: usize,
    /// Pairs of a head that are rotated.
    half: usize,
    window: Option<usize>,
}

impl Case {
    /// A form of the operation, with tables for more positions than there are.
    fn form(
        &self,
        form: fn(&[&Tensor], &ops::Heads, &Rows) -> Result<Tensor>,
        rows: &Rows,
        x: &[Tensor],
    ) -> Result<Tensor> {
        let rotation = match self.half {
            0 => None,
            half => {
                let (cos, sin) = Source::new(3).angles(rows.longest() + 5, half)?;
                Some([beside(&x[0], &cos)?, beside(&x[0], &sin)?])
            }
        };
        let limits = ops::Limits { window: self.window, cap: None };
        let heads = ops::Heads { queries: self.queries, keys: self.keys, rotation, limits };
        form(&x.iter().collect::<Vec<_>>(), &heads, rows)
    }

    fn operands(&self, source: &mut Source, count: usize) -> Result<Vec<Tensor>> {
        let heads = [self.queries, self.keys, self.keys];
        heads.iter().map(|heads| source.tensor(&[count, heads * self.d])).collect()
    }
}

#[test]
fn widths_of_heads_and_lengths_of_tiles() -> Result<()> {
    let mut source = Source::new(51);
    let wide = [1, 63, 64, 65, 2];
    let narrow = [33, 0, 1, 129, 32, 31];
    let widest = [1, 15, 33, 17, 16, 32];
    for (queries, keys, d, half, window, lengths) in [
        (4, 2, 32, 16, None, &wide[..]),
        (2, 1, 64, 32, Some(20), &narrow),
        (3, 3, 64, 0, None, &narrow[..3]),
        (2, 1, 96, 20, Some(64), &wide),
        (1, 1, 128, 64, None, &wide),
        (2, 1, 192, 96, Some(3), &widest),
        (2, 2, 256, 128, None, &widest),
    ] {
        let (case, rows) = (Case { queries, keys, d, half, window }, Rows::dense(lengths));
        agrees(case, &rows, &mut source)?;
    }
    Ok(())
}

/// Compares the kernels with the plain form.
fn agrees(case: Case, rows: &Rows, source: &mut Source) -> Result<()> {
    let operands = case.operands(source, rows.count())?;
    check_same(
        &|o| case.form(ops::attend, rows, o),
        &|o| case.form(compose::attend, rows, o),
        &operands,
    )
}

/// Rows of a rectangle, where queries in the padding see the real keys only.
#[test]
fn hidden_keys() -> Result<()> {
    let mut source = Source::new(52);
    let rows = Rows::rectangle(3, 70).hiding(&[70, 1, 33]);
    for window in [None, Some(70)] {
        let case = Case { queries: 4, keys: 2, d: 16, half: 8, window };
        agrees(case, &rows, &mut source)?;
    }
    Ok(())
}

/// A sample has the same result and gradients by itself and among others, to the bit.
#[test]
fn samples_do_not_depend_on_each_other() -> Result<()> {
    let rows = Rows::dense(&[3, 70, 1, 64]);
    let case = Case { queries: 2, keys: 1, d: 32, half: 16, window: Some(40) };
    let mut source = Source::new(53);
    let mut operands = case.operands(&mut source, rows.count())?;
    operands.push(source.tensor(&[rows.count(), case.queries * case.d])?);
    let dtypes = if device().is_cpu() { vec![DType::F32] } else { vec![DType::F32, DType::BF16] };
    for dtype in dtypes {
        // The result and the gradients of the given rows.
        let run = |range: Range<usize>, rows: &Rows| -> Result<Vec<Tensor>> {
            let part = |x: &Tensor| {
                x.narrow(0, range.start, range.len())?.to_dtype(dtype)?.to_device(device())
            };
            let parts = operands.iter().map(part).collect::<Result<Vec<_>>>()?;
            let (cotangent, parts) = parts.split_last().expect("four tensors");
            let vars = parts.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
            let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
            let y = case.form(ops::attend, rows, &tracked)?;
            let gradients = seed(&y, cotangent).expect("a graph").backward()?;
            let gradient = |var: &Var| gradients.get(var).expect("a gradient").clone();
            Ok([vec![y], vars.iter().map(gradient).collect()].concat())
        };
        let whole = run(0..rows.count(), &rows)?;
        for range in rows.ranges() {
            let alone = run(range.clone(), &Rows::dense(&[range.len()]))?;
            for (alone, whole) in alone.iter().zip(&whole) {
                let part = whole.narrow(0, range.start, range.len())?;
                assert_eq!(values(alone)?, values(&part)?, "{dtype:?}, rows {range:?}");
            }
        }
    }
    Ok(())
}
