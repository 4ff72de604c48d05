//! The key-value cache of one layer, with spare capacity.

use candle_core::{Result as Tensors, Tensor};
use vxf_core::{Error, Result, Rows};
use vxf_nn::ops::{self, Heads, KeyValues};

/// The least capacity, in positions.
const MIN_CAPACITY: usize = 64;

/// The key-value cache of one layer.
pub(crate) enum Cache {
    /// That of the fused CPU operation, for samples of any lengths.
    Own(KeyValues),
    /// Tensors, for samples of equal length.
    Tensors(Kept),
}

impl Cache {
    /// Forgets all of the `of` samples but these, in ascending order.
    pub(crate) fn keep(&mut self, samples: &[usize], of: usize) -> Result<()> {
        match self {
            Self::Own(kept) => kept.keep(samples, of),
            Self::Tensors(kept) => kept.keep(samples)?,
        }
        Ok(())
    }
}

/// Keys and values in tensors.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Keys and values, `[batch, kv heads, room, head]` each, of which the first `length` positions
    /// are filled.
    kept: Option<(Tensor, Tensor)>,
    length: usize,
}

impl Kept {
    /// Attends from new rows, queries, keys and values `[positions, heads d]`, to all positions.
    ///
    /// # Errors
    /// When samples have different numbers of rows.
    pub(crate) fn attend(&mut self, x: &[Tensor; 3], heads: &Heads, rows: &Rows) -> Result<Tensor> {
        if !rows.is_rectangle() {
            let problem = "only the CPU decodes samples of different lengths together";
            return Err(Error::Unsuitable(problem.to_owned()));
        }
        let (samples, new) = (rows.samples(), rows.longest());
        let split = |part: usize, count: usize| -> Tensors<Tensor> {
            let x = x[part].reshape((samples, new, x[part].dim(1)?))?;
            match &heads.rotation {
                Some([cos, sin]) if part < 2 => ops::rotary(&x, count, cos, sin, self.length),
                _ => ops::split_heads(&x, count),
            }
        };
        let query = split(0, heads.queries)?;
        let (key, value) = (split(1, heads.keys)?, split(2, heads.keys)?);
        let (key, value) = self.append(&key, &value)?;
        let mixed = ops::attention(&query, &key, &value, None, heads.limits)?;
        Ok(mixed.reshape((samples * new, mixed.dim(2)?))?)
    }

    fn keep(&mut self, samples: &[usize]) -> Result<()> {
        if let Some((keys, values)) = &mut self.kept {
            let samples: Vec<u32> = samples.iter().map(|&sample| sample as u32).collect();
            let samples = Tensor::new(samples, keys.device())?;
            *keys = keys.index_select(&samples, 0)?;
            *values = values.index_select(&samples, 0)?;
        }
        Ok(())
    }

    /// Adds the keys and values `[batch, kv heads, new, head]` of further positions and returns those
    /// of all, `[batch, kv heads, positions, head]`: views of what is kept, which is written in place.
    ///
    /// The room doubles where it is too small, so that a token costs no copy of those before it.
    fn append(&mut self, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        let (start, end) = (self.length, self.length + key.dim(2)?);
        let (keys, values) = match self.kept.take() {
            Some((keys, values)) if keys.dim(2)? >= end => (keys, values),
            Some((keys, values)) => {
                (grown(Some(&keys), key, end)?, grown(Some(&values), value, end)?)
            }
            None => (grown(None, key, end)?, grown(None, value, end)?),
        };
        keys.slice_set(&key.detach().contiguous()?, 2, start)?;
        values.slice_set(&value.detach().contiguous()?, 2, start)?;
        let all = (keys.narrow(2, 0, end)?, values.narrow(2, 0, end)?);
        self.kept = Some((keys, values));
        self.length = end;
        Ok(all)
    }
}

/// A buffer for at least `least` positions, otherwise shaped like `like`, with the contents of
/// `before`.
fn grown(before: Option<&Tensor>, like: &Tensor, least: usize) -> Result<Tensor> {
    let (batch, heads, _, width) = like.dims4()?;
    let capacity = least.next_power_of_two().max(MIN_CAPACITY);
    let grown = Tensor::zeros((batch, heads, capacity, width), like.dtype(), like.device())?;
    if let Some(before) = before {
        grown.slice_set(before, 2, 0)?;
    }
    Ok(grown)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use vxf_core::Key;

    use super::*;

    /// All appended positions are there in order, whatever the capacity was.
    #[test]
    fn holds_what_was_appended() -> Result<()> {
        let mut cache = Kept::default();
        let mut parts: Vec<(Tensor, Tensor)> = Vec::new();
        for (index, new) in [3, 1, 59, 1, 1, 70, 1].into_iter().enumerate() {
            let draw = |name: &str| {
                let key = Key::root(index as u64).child(name);
                key.normal(&[2, 3, new, 4], DType::F32, &Device::Cpu)
            };
            parts.push((draw("keys")?, draw("values")?));
            let (key, value) = &parts[index];
            let (keys, values) = cache.append(key, value)?;
            let side = |of: fn(&(Tensor, Tensor)) -> &Tensor| -> Result<Vec<f32>> {
                let all: Vec<_> = parts.iter().map(of).collect();
                Ok(Tensor::cat(&all, 2)?.flatten_all()?.to_vec1()?)
            };
            assert_eq!(keys.flatten_all()?.to_vec1::<f32>()?, side(|part| &part.0)?);
            assert_eq!(values.flatten_all()?.to_vec1::<f32>()?, side(|part| &part.1)?);
        }
        Ok(())
    }

    /// A further position within the capacity does not copy earlier ones.
    #[test]
    fn grows_where_it_lies() -> Result<()> {
        let mut cache = Kept::default();
        let new = |length| Tensor::ones((1, 2, length, 4), DType::F32, &Device::Cpu);
        let place = |view: &Tensor| -> Result<*const f32> {
            let (storage, _) = view.storage_and_layout();
            match &*storage {
                candle_core::Storage::Cpu(storage) => Ok(storage.as_slice::<f32>()?.as_ptr()),
                _ => unreachable!("made on the CPU"),
            }
        };
        let (first, _) = cache.append(&new(5)?, &new(5)?)?;
        let at = place(&first)?;
        for _ in 5..MIN_CAPACITY {
            let (keys, _) = cache.append(&new(1)?, &new(1)?)?;
            assert_eq!(place(&keys)?, at);
        }
        Ok(())
    }
}
