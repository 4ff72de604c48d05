//! Named, endlessly cycled, seeded sources of batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Example};
use crate::{Error, Result};
use vxf_tensor::Key;

/// The order in which a stream goes through its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A new permutation each epoch, as in the reference trainer.
    Shuffled,
    /// In the given order, in every epoch.
    Sequential,
    /// A new permutation each epoch, but samples of similar length share a batch, which needs less
    /// padding.
    ///
    /// As in Hugging Face's `group_by_length`: the permutation is cut into pools of up to fifty
    /// batches, each pool is sorted by length, and whole batches are then taken in random order.
    ByLength,
}

/// The most batches in a pool. There are at least four pools, so that batches differ from epoch to
/// epoch.
const POOL: usize = 50;

/// A named, endlessly cycled source of batches.
///
/// The batch at a position is a function of (samples, seed, position) alone: a checkpoint needs the
/// position alone. The last batch of an epoch may be smaller.
#[derive(Clone, Debug)]
pub struct Stream(Source);

#[derive(Clone, Debug)]
enum Source {
    Examples {
        examples: Arc<Vec<Example>>,
        /// The indices of the samples that are read; all if there is none.
        kept: Option<Arc<Vec<usize>>>,
        batch_size: usize,
        order: Order,
        key: Key,
    },
    /// All samples, and the batches that are read.
    Batches { all: Arc<Vec<Batch>>, read: Arc<Vec<Batch>> },
}

impl Stream {
    /// A stream over `examples`; `key` fixes the order.
    pub fn new(examples: Arc<Vec<Example>>, batch_size: usize, order: Order, key: Key) -> Self {
        let batch_size = batch_size.max(1);
        Self(Source::Examples { examples, kept: None, batch_size, order, key })
    }

    /// A stream of existing batches, in this order.
    pub fn of_batches(mut batches: Vec<Batch>) -> Self {
        let mut first = 0;
        for batch in &mut batches {
            batch.samples = (first..first + batch.lengths.len()).collect();
            first += batch.lengths.len();
        }
        let all = Arc::new(batches);
        Self(Source::Batches { read: all.clone(), all })
    }

    /// The same stream without the samples that are not in `kept`; their indices stay as they are.
    ///
    /// # Errors
    /// When there is no sample of an index.
    pub fn keeping(&self, kept: &[usize]) -> Result<Self> {
        self.check(kept)?;
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        kept.dedup();
        Ok(Self(match &self.0 {
            Source::Examples { examples, batch_size, order, key, .. } => Source::Examples {
                examples: examples.clone(),
                kept: Some(Arc::new(kept)),
                batch_size: *batch_size,
                order: *order,
                key: key.clone(),
            },
            Source::Batches { all, .. } => {
                let own = |batch: &Batch| -> Vec<usize> {
                    let own = batch.samples.iter().filter(|it| kept.binary_search(it).is_ok());
                    own.copied().collect()
                };
                let left = all.iter().map(own).filter(|own| !own.is_empty());
                let left = left.map(|own| self.pick(&own, all[0].tokens.device()));
                Source::Batches { all: all.clone(), read: Arc::new(left.collect::<Result<_>>()?) }
            }
        }))
    }

    /// A batch of the samples at these indices, in this order.
    ///
    /// # Errors
    /// When there is no sample of an index.
    pub fn pick(&self, samples: &[usize], device: &Device) -> Result<Batch> {
        self.check(samples)?;
        let batch = match &self.0 {
            Source::Examples { examples, .. } => {
                let chosen: Vec<_> = samples.iter().map(|&i| &examples[i]).collect();
                Batch::new(&chosen, device)?
            }
            Source::Batches { all, .. } => {
                let rows = samples.iter().map(|&sample| {
                    let end = |batch: &&Batch| batch.samples.last().is_some_and(|it| *it >= sample);
                    let batch = all.iter().find(end).expect("a checked index");
                    batch.row_of(sample - batch.samples[0])
                });
                let (tokens, labels): (Vec<_>, Vec<_>) =
                    rows.collect::<Result<Vec<_>>>()?.into_iter().unzip();
                let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
                Batch::from_rows(&tokens, &labels, device)?
            }
        };
        Ok(Batch { samples: samples.to_vec(), ..batch })
    }

    fn check(&self, samples: &[usize]) -> Result<()> {
        let all = self.samples();
        match samples.iter().find(|sample| **sample >= all) {
            Some(&index) => Err(Error::NoSample { index, all }),
            None => Ok(()),
        }
    }

    /// The number of batches in one pass over the samples.
    pub fn batches_per_epoch(&self) -> usize {
        match &self.0 {
            Source::Examples { examples, kept, batch_size, .. } => {
                kept.as_ref().map_or(examples.len(), |kept| kept.len()).div_ceil(*batch_size)
            }
            Source::Batches { read, .. } => read.len(),
        }
    }

    /// The number of samples in a batch; the last batch of an epoch may have fewer.
    pub fn batch_size(&self) -> usize {
        match &self.0 {
            Source::Examples { batch_size, .. } => *batch_size,
            Source::Batches { all, .. } => {
                all.iter().map(|batch| batch.lengths.len()).max().unwrap_or(0)
            }
        }
    }

    /// The number of samples, those included that are not kept.
    pub fn samples(&self) -> usize {
        match &self.0 {
            Source::Examples { examples, .. } => examples.len(),
            Source::Batches { all, .. } => all.iter().map(|batch| batch.lengths.len()).sum(),
        }
    }

    /// The samples that are read: all but those that are not kept.
    pub fn kept(&self) -> Vec<usize> {
        match &self.0 {
            Source::Examples { kept: Some(kept), .. } => kept.to_vec(),
            Source::Examples { examples, .. } => (0..examples.len()).collect(),
            Source::Batches { read, .. } => {
                read.iter().flat_map(|batch| batch.samples.iter().copied()).collect()
            }
        }
    }

    fn batch(&self, position: u64, device: &Device) -> Result<Batch> {
        let per_epoch = self.batches_per_epoch() as u64;
        let at = (position % per_epoch) as usize;
        match &self.0 {
            Source::Batches { read, .. } => Ok(read[at].clone()),
            Source::Examples { examples, batch_size, order, key, .. } => {
                let mut indices = self.kept();
                let all = indices.len();
                let mut rng = key.index(position / per_epoch).rng();
                if *order != Order::Sequential {
                    indices.shuffle(&mut rng);
                }
                let mut at = at;
                if *order == Order::ByLength {
                    let pool = (all / (4 * batch_size)).clamp(1, POOL) * batch_size;
                    for pool in indices.chunks_mut(pool) {
                        pool.sort_by_key(|&index| examples[index].tokens.len());
                    }
                    // An incomplete batch stays the last of its epoch.
                    let mut whole: Vec<usize> = (0..all / batch_size).collect();
                    whole.shuffle(&mut rng);
                    at = whole.get(at).copied().unwrap_or(at);
                }
                let end = ((at + 1) * batch_size).min(indices.len());
                self.pick(&indices[at * batch_size..end], device)
            }
        }
    }
}

/// All streams of a stage and their positions.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    streams: BTreeMap<String, (Stream, u64)>,
}

impl Streams {
    /// No streams yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stream under `name`.
    ///
    /// # Errors
    /// When it has no samples.
    pub fn insert(&mut self, name: &str, stream: Stream) -> Result<()> {
        if stream.batches_per_epoch() == 0 {
            return Err(Error::EmptyStream { name: name.to_owned() });
        }
        self.streams.insert(name.to_owned(), (stream, 0));
        Ok(())
    }

    /// Leaves out the samples of `name` that are not in `kept`.
    ///
    /// # Errors
    /// When none is left; when there is no sample of an index.
    pub fn keep(&mut self, name: &str, kept: &[usize]) -> Result<()> {
        if kept.is_empty() {
            return Err(Error::EmptyStream { name: name.to_owned() });
        }
        let fewer = self.get(name)?.keeping(kept)?;
        if let Some((stream, _)) = self.streams.get_mut(name) {
            *stream = fewer;
        }
        Ok(())
    }

    /// The stream called `name`.
    pub fn get(&self, name: &str) -> Result<&Stream> {
        match self.streams.get(name) {
            Some((stream, _)) => Ok(stream),
            None => Err(self.unknown(name)),
        }
    }

    /// The next batch of `name`.
    pub fn next(&mut self, name: &str, device: &Device) -> Result<Batch> {
        let batch = self.peek(name, 0, device)?;
        self.advance(name, 1)?;
        Ok(batch)
    }

    /// The batch of `name` that is `ahead` batches after the next one; does not advance the stream.
    pub fn peek(&self, name: &str, ahead: u64, device: &Device) -> Result<Batch> {
        match self.streams.get(name) {
            Some((stream, position)) => stream.batch(position + ahead, device),
            None => Err(self.unknown(name)),
        }
    }

    /// The number of batches of `name` that are left in its present epoch, at least 1.
    pub fn left_in_epoch(&self, name: &str) -> Result<usize> {
        match self.streams.get(name) {
            Some((stream, position)) => {
                let per_epoch = stream.batches_per_epoch();
                Ok(per_epoch - (*position % per_epoch as u64) as usize)
            }
            None => Err(self.unknown(name)),
        }
    }

    /// Counts `batches` batches of `name` as read.
    pub fn advance(&mut self, name: &str, batches: u64) -> Result<()> {
        match self.streams.get_mut(name) {
            Some((_, position)) => *position += batches,
            None => return Err(self.unknown(name)),
        }
        Ok(())
    }

    /// The number of batches read from each stream.
    pub fn positions(&self) -> BTreeMap<String, u64> {
        self.streams.iter().map(|(name, (_, at))| (name.clone(), *at)).collect()
    }

    /// Sets each stream to a position from [`Streams::positions`].
    pub fn seek(&mut self, positions: &BTreeMap<String, u64>) {
        for (name, (_, at)) in &mut self.streams {
            *at = positions.get(name).copied().unwrap_or(0);
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<_> = self.streams.keys().map(String::as_str).collect();
        Error::UnknownStream { name: name.to_owned(), known: known.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(order: Order) -> Streams {
        let examples = (0..5)
            .map(|i| Example { tokens: vec![1, i + 10], prompt: 1, ..Example::default() })
            .collect();
        let mut streams = Streams::new();
        let stream = Stream::new(Arc::new(examples), 2, order, Key::root(3));
        streams.insert("alignment", stream).expect("it has samples");
        streams
    }

    fn epoch(streams: &mut Streams) -> Vec<i64> {
        let next = |_| streams.next("alignment", &Device::Cpu).expect("it is there").targets;
        (0..3).flat_map(next).filter(|&t| t >= 0).collect()
    }

    #[test]
    fn every_epoch_sees_every_sample_once() {
        let mut streams = stream(Order::Shuffled);
        let (first, second) = (epoch(&mut streams), epoch(&mut streams));
        assert_ne!(first, second);
        let mut by_length = stream(Order::ByLength);
        let others = [epoch(&mut by_length), epoch(&mut by_length)];
        let alike = [first, second, epoch(&mut stream(Order::Sequential))];
        for mut seen in alike.into_iter().chain(others) {
            seen.sort_unstable();
            assert_eq!(seen, [10, 11, 12, 13, 14]);
        }
    }

    /// Every sample once an epoch, less padding than in a shuffled order, different batches each
    /// epoch.
    #[test]
    fn samples_of_near_length_share_a_batch() {
        let length = |index: u32| 2 + (index as usize * 37) % 50;
        let example = |index: u32| Example {
            tokens: vec![index; length(index)],
            prompt: 1,
            ..Example::default()
        };
        let examples: Arc<Vec<Example>> = Arc::new((0..101).map(example).collect());
        let epochs = |order: Order| -> Vec<Vec<Batch>> {
            let mut streams = Streams::new();
            let stream = Stream::new(examples.clone(), 4, order, Key::root(3));
            streams.insert("alignment", stream).expect("it has samples");
            let mut next = || streams.next("alignment", &Device::Cpu).expect("it is there");
            (0..3).map(|_| (0..26).map(|_| next()).collect()).collect()
        };
        let padding = |batches: &[Batch]| -> usize {
            batches.iter().map(|it| it.targets.len() - it.lengths.iter().sum::<usize>()).sum()
        };
        let first_tokens = |batches: &[Batch]| -> Vec<u32> {
            let column = |it: &Batch| it.tokens.narrow(1, 0, 1)?.flatten_all()?.to_vec1::<u32>();
            batches.iter().flat_map(|it| column(it).expect("tokens")).collect()
        };
        let sorted = epochs(Order::ByLength);
        for batches in &sorted {
            let mut seen = first_tokens(batches);
            assert_eq!(batches.last().map(|last| last.lengths.len()), Some(1));
            seen.sort_unstable();
            assert_eq!(seen, (0..101).collect::<Vec<_>>());
        }
        assert_ne!(first_tokens(&sorted[0]), first_tokens(&sorted[1]));
        let lengths = |batches: &[Batch]| -> Vec<usize> {
            batches.iter().map(|batch| batch.shape().1).collect()
        };
        assert!(!lengths(&sorted[0]).is_sorted(), "short and long batches take turns");
        let shuffled = epochs(Order::Shuffled);
        for (sorted, shuffled) in sorted.iter().zip(&shuffled) {
            assert!(3 * padding(sorted) < padding(shuffled), "{}", padding(sorted));
        }
    }

    /// Every kept sample once an epoch, under its own index, from samples and from existing batches.
    #[test]
    fn a_filter_leaves_samples_out() {
        for order in [Order::Shuffled, Order::Sequential, Order::ByLength] {
            let mut streams = stream(order);
            let batches: Vec<_> = (0..3)
                .map(|_| streams.next("alignment", &Device::Cpu).expect("it is there"))
                .collect();
            streams.insert("made", Stream::of_batches(batches)).expect("it has samples");
            for name in ["alignment", "made"] {
                streams.keep(name, &[4, 1, 2]).expect("there are five");
                assert_eq!(streams.get(name).expect("it is there").samples(), 5);
                streams.seek(&BTreeMap::new());
                let mut seen = Vec::new();
                for _ in 0..streams.get(name).expect("it is there").batches_per_epoch() {
                    let batch = streams.next(name, &Device::Cpu).expect("it is there");
                    let again =
                        streams.get(name).and_then(|it| it.pick(&batch.samples, &Device::Cpu));
                    assert_eq!(again.expect("its own samples").targets, batch.targets);
                    seen.extend(batch.samples);
                }
                seen.sort_unstable();
                assert_eq!(seen, [1, 2, 4]);
                let none = streams.keep(name, &[5]);
                assert!(matches!(none, Err(Error::NoSample { index: 5, all: 5 })));
            }
            assert!(matches!(streams.keep("made", &[]), Err(Error::EmptyStream { .. })));
        }
    }

    #[test]
    fn a_position_is_all_the_state_there_is() {
        for order in [Order::Shuffled, Order::ByLength] {
            let mut one = stream(order);
            epoch(&mut one);
            let mut two = stream(order);
            two.seek(&one.positions());
            assert_eq!(epoch(&mut one), epoch(&mut two));
        }
        let mut one = stream(Order::Shuffled);
        assert!(matches!(one.next("harmful", &Device::Cpu), Err(Error::UnknownStream { .. })));
    }
}
