//! The batches of the present step, drawn on first use.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use candle_core::Device;

use super::Session;
use crate::Result;
use crate::batch::Batch;
use crate::stream::Streams;

/// The micro-batches of one stream in the present step.
#[derive(Debug)]
pub(super) struct Draw {
    pub(super) batches: Vec<Arc<Batch>>,
    /// The number of earlier draws of the stream in the step.
    pub(super) number: u64,
    /// Whether the stream has advanced past them. A step that trains on another stream still reads
    /// the main stream's labels, and that must not advance it.
    read: bool,
}

impl Draw {
    /// The number of labelled positions in each micro-batch.
    pub(super) fn labelled(&self) -> impl Iterator<Item = usize> {
        self.batches.iter().map(|batch| batch.labelled())
    }
}

impl Session {
    /// The draw of `stream`, without advancing the stream.
    pub(super) fn peek(&mut self, stream: &str, device: &Device) -> Result<&Draw> {
        let Self { drawn, streams, accumulation, .. } = self;
        Ok(drawing(drawn, streams, *accumulation, stream, device)?)
    }

    /// The draw of `stream`; advances the stream.
    pub(super) fn read(&mut self, stream: &str, device: &Device) -> Result<&Draw> {
        let Self { drawn, streams, accumulation, .. } = self;
        let draw = drawing(drawn, streams, *accumulation, stream, device)?;
        if !draw.read {
            streams.advance(stream, draw.batches.len() as u64)?;
            draw.read = true;
        }
        Ok(draw)
    }

    /// Replaces the draw of `stream` by the next one.
    pub(super) fn redraw(&mut self, stream: &str, device: &Device) -> Result<()> {
        if let Some(before) = self.drawn.get(stream).filter(|draw| draw.read) {
            let number = before.number + 1;
            let batches = batches(&self.streams, self.accumulation, stream, device)?;
            self.drawn.insert(stream.to_owned(), Draw { batches, number, read: false });
        }
        self.read(stream, device).map(drop)
    }
}

fn drawing<'d>(
    drawn: &'d mut BTreeMap<String, Draw>,
    streams: &Streams,
    accumulation: usize,
    stream: &str,
    device: &Device,
) -> Result<&'d mut Draw> {
    match drawn.entry(stream.to_owned()) {
        Entry::Occupied(draw) => Ok(draw.into_mut()),
        Entry::Vacant(place) => {
            let batches = batches(streams, accumulation, stream, device)?;
            Ok(place.insert(Draw { batches, number: 0, read: false }))
        }
    }
}

fn batches(
    streams: &Streams,
    accumulation: usize,
    stream: &str,
    device: &Device,
) -> Result<Vec<Arc<Batch>>> {
    let batch = |ahead| streams.peek(stream, ahead, device).map(Arc::new);
    (0..accumulation as u64).map(batch).collect()
}
