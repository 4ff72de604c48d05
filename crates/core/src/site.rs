//! Sites of hidden embeddings in a model.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A kind of site in a language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteKind {
    /// The token embeddings, before the first layer.
    Embedding,
    /// The normalised input of the query, key and value projections.
    AttentionInput,
    /// The joined heads, the input of the attention's output projection.
    AttentionMixed,
    /// After the attention block's output projection, before the residual addition.
    AttentionOutput,
    /// The normalised input of the feed-forward block.
    MlpInput,
    /// Inside the feed-forward block, the input of its output projection; as wide as the block.
    MlpInner,
    /// After the feed-forward block, before the residual addition.
    MlpOutput,
    /// The residual stream after a layer.
    BlockOutput,
}

impl SiteKind {
    const NAMES: [(Self, &str); 8] = [
        (Self::Embedding, "embedding"),
        (Self::AttentionInput, "attention_input"),
        (Self::AttentionMixed, "attention_mixed"),
        (Self::AttentionOutput, "attention_output"),
        (Self::MlpInput, "mlp_input"),
        (Self::MlpInner, "mlp_inner"),
        (Self::MlpOutput, "mlp_output"),
        (Self::BlockOutput, "block_output"),
    ];
}

impl SiteKind {
    /// Whether it is the input of linear layers, which a backbone may leave out: few methods read it.
    pub fn is_input(self) -> bool {
        matches!(
            self,
            Self::AttentionInput | Self::AttentionMixed | Self::MlpInput | Self::MlpInner
        )
    }
}

impl fmt::Display for SiteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for SiteKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(kind, _)| *kind).ok_or_else(|| Error::BadSite { text: text.to_owned() })
    }
}

/// A site whose tensor is a hidden embedding `[positions, width]`, or the input of a linear layer.
///
/// Sites are ordered as in a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The layer, from 0; 0 for the embedding.
    pub layer: usize,
    /// The kind of site in it.
    pub kind: SiteKind,
}

impl Site {
    /// The embedding site.
    pub const EMBEDDING: Self = Self { layer: 0, kind: SiteKind::Embedding };

    /// The attention output of `layer`.
    pub const fn attention_output(layer: usize) -> Self {
        Self { layer, kind: SiteKind::AttentionOutput }
    }

    /// The feed-forward output of `layer`.
    pub const fn mlp_output(layer: usize) -> Self {
        Self { layer, kind: SiteKind::MlpOutput }
    }

    /// The input of the linear layer called `module` in `layer`, by the names of all families.
    pub fn input_of(layer: usize, module: &str) -> Option<Self> {
        let kind = match module.rsplit('.').next()? {
            "q_proj" | "k_proj" | "v_proj" | "qkv_proj" => SiteKind::AttentionInput,
            "o_proj" | "out_proj" => SiteKind::AttentionMixed,
            "gate_proj" | "up_proj" | "gate_up_proj" | "fc1" => SiteKind::MlpInput,
            "down_proj" | "fc2" => SiteKind::MlpInner,
            _ => return None,
        };
        Some(Self { layer, kind })
    }

    /// The output of the whole `layer`.
    pub const fn block_output(layer: usize) -> Self {
        Self { layer, kind: SiteKind::BlockOutput }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            SiteKind::Embedding => f.write_str("embedding"),
            kind => write!(f, "{kind}.{}", self.layer),
        }
    }
}

impl FromStr for Site {
    type Err = Error;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadSite { text: text.to_owned() };
        match text.split_once('.') {
            None if text == Self::EMBEDDING.to_string() => Ok(Self::EMBEDDING),
            None => Err(bad()),
            Some((kind, layer)) => {
                let site = Self { layer: layer.parse().map_err(|_| bad())?, kind: kind.parse()? };
                // The embedding has no layer, and a layer has one spelling.
                if site.to_string() == text { Ok(site) } else { Err(bad()) }
            }
        }
    }
}

/// Which sites a method works on: kinds for all layers, or single ones (`attention_output.7`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct SiteSelection(Vec<(SiteKind, Option<usize>)>);

impl SiteSelection {
    /// All sites of one kind.
    pub fn all(kind: SiteKind) -> Self {
        Self(vec![(kind, None)])
    }

    /// The sites selected in a model of `layers` layers, in forward order, without repeats.
    ///
    /// # Errors
    /// When a single site lies beyond the last layer.
    pub fn resolve(&self, layers: usize) -> Result<Vec<Site>> {
        let mut sites = Vec::new();
        for &(kind, layer) in &self.0 {
            match (kind, layer) {
                (SiteKind::Embedding, _) => sites.push(Site::EMBEDDING),
                (kind, None) => sites.extend((0..layers).map(|layer| Site { layer, kind })),
                (kind, Some(layer)) if layer < layers => sites.push(Site { layer, kind }),
                (kind, Some(layer)) => {
                    return Err(Error::UnknownSite {
                        site: Site { layer, kind }.to_string(),
                        known: format!("layers 0 to {}", layers - 1),
                    });
                }
            }
        }
        sites.sort();
        sites.dedup();
        Ok(sites)
    }
}

impl Default for SiteSelection {
    fn default() -> Self {
        Self::all(SiteKind::AttentionOutput)
    }
}

impl TryFrom<Vec<String>> for SiteSelection {
    type Error = Error;

    fn try_from(names: Vec<String>) -> Result<Self> {
        let read = |text: &String| match text.split_once('.') {
            None => Ok((text.parse()?, None)),
            Some((kind, layer)) => {
                let layer = layer.parse().map_err(|_| Error::BadSite { text: text.clone() })?;
                Ok((kind.parse()?, Some(layer)))
            }
        };
        names.iter().map(read).collect::<Result<_>>().map(Self)
    }
}

impl From<SiteSelection> for Vec<String> {
    fn from(selection: SiteSelection) -> Self {
        let write = |(kind, layer): (SiteKind, Option<usize>)| match layer {
            Some(layer) => format!("{kind}.{layer}"),
            None => kind.to_string(),
        };
        selection.0.into_iter().map(write).collect()
    }
}

/// Hidden embeddings, their gradients or their perturbations, by site.
///
/// Each is `[positions, width]`; [`Batch::rows`](crate::Batch::rows) is the index of the rows.
pub type Hidden = BTreeMap<Site, Tensor>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_resolve_in_forward_order() -> Result<()> {
        let names = ["block_output.1", "attention_output", "embedding"].map(str::to_owned);
        let selection = SiteSelection::try_from(names.to_vec())?;
        let sites: Vec<_> = selection.resolve(2)?.iter().map(Site::to_string).collect();
        assert_eq!(
            sites,
            ["embedding", "attention_output.0", "attention_output.1", "block_output.1"]
        );
        assert_eq!(Vec::<String>::from(selection), names);
        Ok(())
    }

    #[test]
    fn sites_are_read_as_they_are_written() -> Result<()> {
        let sites = [Site::EMBEDDING, Site::attention_output(0), Site::block_output(17)];
        for site in sites {
            assert_eq!(site.to_string().parse::<Site>()?, site);
        }
        for text in ["", "embeddings", "embedding.0", "mlp_output", "mlp_output.x", "mlp_output.01"]
        {
            assert!(text.parse::<Site>().is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_site_beyond_the_model_is_refused() {
        let selection = SiteSelection(vec![(SiteKind::MlpOutput, Some(4))]);
        assert!(matches!(selection.resolve(4), Err(Error::UnknownSite { .. })));
        assert!("attention_outputs".parse::<SiteKind>().is_err());
    }
}
