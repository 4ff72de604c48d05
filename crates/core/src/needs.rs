//! What a plugin declares that it reads, so that a recipe is checked before anything is loaded.

use crate::lineage::Reference;

/// A stream of training batches beside the main one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamNeed {
    /// Its name, `harmful` for example.
    pub name: String,
    /// The set that it reads; by default the one of its name.
    pub set: Option<String>,
    /// Reads only this number of samples of the set, the first ones.
    pub first: Option<usize>,
    /// Samples in a batch; by default the stage's batch size.
    pub batch_size: Option<usize>,
    /// Whether the method works without it if the data does not have it.
    pub optional: bool,
}

impl StreamNeed {
    /// The name of the set that it reads.
    pub fn set(&self) -> &str {
        self.set.as_deref().unwrap_or(&self.name)
    }
}

/// Everything that a plugin reads beyond the main stream and the model that is trained.
///
/// ```
/// use vxf_core::{Needs, Reference};
///
/// let needs = Needs::none().stream("harmful").batches_of(2).reference(Reference::Base);
/// assert_eq!(needs.streams[0].batch_size, Some(2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Streams of training batches.
    pub streams: Vec<StreamNeed>,
    /// Models to compare with.
    pub references: Vec<Reference>,
    /// Sets of samples to measure a loss or hidden embeddings on.
    pub samples: Vec<String>,
    /// Sets of prompts to answer.
    pub prompts: Vec<String>,
}

impl Needs {
    /// Nothing beyond the main stream.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a stream of training batches from the set `name`.
    #[must_use]
    pub fn stream(mut self, name: impl Into<String>) -> Self {
        let (name, set, first, batch_size) = (name.into(), None, None, None);
        self.streams.push(StreamNeed { name, set, first, batch_size, optional: false });
        self
    }

    /// Makes the stream named last read the first `samples` samples of `set`, over and over: a stream of its
    /// own beside others that read the same set.
    #[must_use]
    pub fn first_of(mut self, set: impl Into<String>, samples: usize) -> Self {
        if let Some(stream) = self.streams.last_mut() {
            (stream.set, stream.first) = (Some(set.into()), Some(samples));
        }
        self
    }

    /// Sets the batch size of the stream named last.
    #[must_use]
    pub fn batches_of(mut self, samples: usize) -> Self {
        if let Some(stream) = self.streams.last_mut() {
            stream.batch_size = Some(samples);
        }
        self
    }

    /// Makes the stream named last optional.
    #[must_use]
    pub fn optional(mut self) -> Self {
        if let Some(stream) = self.streams.last_mut() {
            stream.optional = true;
        }
        self
    }

    /// Adds a model to compare with.
    #[must_use]
    pub fn reference(mut self, reference: Reference) -> Self {
        self.references.push(reference);
        self
    }

    /// Adds the set of samples `name` to measure on.
    #[must_use]
    pub fn samples(mut self, name: impl Into<String>) -> Self {
        self.samples.push(name.into());
        self
    }

    /// Adds the set of prompts `name` to answer.
    #[must_use]
    pub fn prompts(mut self, name: impl Into<String>) -> Self {
        self.prompts.push(name.into());
        self
    }

    /// The union of both; for a stream that both read, the batch size named first.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for stream in other.streams {
            match self.streams.iter_mut().find(|known| known.name == stream.name) {
                Some(known) => {
                    known.batch_size = known.batch_size.or(stream.batch_size);
                    known.optional &= stream.optional;
                }
                None => self.streams.push(stream),
            }
        }
        merge(&mut self.references, other.references);
        merge(&mut self.samples, other.samples);
        merge(&mut self.prompts, other.prompts);
        self
    }
}

fn merge<T: PartialEq>(own: &mut Vec<T>, other: Vec<T>) {
    for item in other {
        if !own.contains(&item) {
            own.push(item);
        }
    }
}
