//! The description that a model is made from, with everything in which the families differ.

use std::collections::BTreeMap;

use vxf_core::backbone::{Architecture, Location, Part};
use vxf_hf::Outline;

use crate::rope::Rope;

/// A decoder as described by its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// The family's registered name.
    pub family: &'static str,
    /// The names of its tensors.
    pub names: Names,
    /// Width of the hidden embeddings.
    pub width: usize,
    /// Width of the token embeddings, before they are projected to `width`.
    pub embedding_width: usize,
    /// The factor on the embeddings of tokens, if it is not 1.
    pub embedding_scale: Option<f64>,
    /// Width inside the MLP.
    pub inner: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// The longest sequence.
    pub positions: usize,
    /// How positions are encoded.
    pub position: Position,
    /// The rotation of layers with a window, where it is another one.
    pub local_rope: Option<Rope>,
    /// The factor on queries, besides that of their width, if it is not 1.
    pub query_scale: Option<f64>,
    /// The soft cap of the attention's scores, if there is one.
    pub score_cap: Option<f64>,
    /// The soft cap of the logits, if there is one.
    pub logit_cap: Option<f64>,
    /// Whether queries, keys and values are one layer, and gate and up another, as in Phi-3.
    pub fused: bool,
    /// For each layer, the number of last keys that a query sees; none is no limit.
    pub windows: Vec<Option<usize>>,
    /// How hidden embeddings are normalised.
    pub norm: Norm,
    /// The epsilon of the norms.
    pub epsilon: f64,
    /// Whether norms come before attention and MLP (pre-norm) and not after the residual sums.
    pub norm_first: bool,
    /// Whether the last layer is followed by a norm.
    pub final_norm: bool,
    /// Whether each head's queries and keys are normalised by their root mean square.
    pub query_key_norm: bool,
    /// The MLP.
    pub mlp: Mlp,
    /// Which linear layers have a bias.
    pub biases: Biases,
    /// The kind of output.
    pub output: Output,
    /// The token whose embedding gets no gradient as an input, as with PyTorch's `padding_idx`.
    pub padding: Option<u32>,
    /// Dropout on the outputs of attention and MLP, in training.
    pub dropout: f64,
    /// Dropout on the attention's weights in training, which only evaluation supports.
    pub attention_dropout: f64,
    /// Keys of the configuration that are unknown and not used.
    pub unknown: Vec<String>,
}

/// How positions are encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Position {
    /// Queries and keys are rotated.
    Rotary(Rope),
    /// Embeddings are added: row `offset + position` of a table, and row `offset - 1` for padding.
    Learned {
        /// The number of rows before that of the first position.
        offset: usize,
    },
}

/// How hidden embeddings are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// By the root mean square, with a gain.
    Rms,
    /// By the root mean square, with a gain of one plus the stored weight.
    OffsetRms,
    /// To mean zero and variance one, with a gain and a bias.
    Layer,
    /// To mean zero and variance one, without gain and bias.
    PlainLayer,
}

/// The feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(silu(gate(x)) * up(x))`.
    SwiGlu,
    /// `down(gelu(gate(x)) * up(x))`, with the tanh form of GELU.
    GeGlu,
    /// `down(relu(up(x)))`.
    Relu,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    /// The query, key and value projections.
    pub query_key_value: bool,
    /// The attention's output projection.
    pub output: bool,
    /// The layers of the MLP.
    pub mlp: bool,
}

/// The kind of output of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Logits over the vocabulary, by the token embeddings (tied).
    Tied,
    /// Logits over the vocabulary, by a projection of its own.
    Head,
    /// Logits over this number of labels.
    Labels(usize),
}

/// The names of a family's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The prefix of all names but the output's.
    pub root: &'static str,
    /// The norm of a layer's attention.
    pub attention_norm: &'static str,
    /// The norm of a layer's MLP.
    pub mlp_norm: &'static str,
    /// The attention's output projection.
    pub attention_output: &'static str,
    /// The MLP's input layer.
    pub up: &'static str,
    /// The MLP's output layer.
    pub down: &'static str,
    /// The norm after the last layer.
    pub final_norm: &'static str,
    /// The norms of what attention and MLP add to the residual stream, if they have any.
    pub output_norms: Option<[&'static str; 2]>,
}

impl Names {
    /// The names of Llama, which most families use.
    pub const LLAMA: Self = Self {
        root: "model",
        attention_norm: "input_layernorm",
        mlp_norm: "post_attention_layernorm",
        attention_output: "self_attn.o_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        final_norm: "norm",
        output_norms: None,
    };

    /// The names of Gemma 2 and 3.
    pub const GEMMA: Self = Self {
        mlp_norm: "pre_feedforward_layernorm",
        output_norms: Some(["post_attention_layernorm", "post_feedforward_layernorm"]),
        ..Self::LLAMA
    };

    /// The names of Phi-3.
    pub const PHI3: Self = Self { up: "mlp.gate_up_proj", ..Self::LLAMA };

    /// The names of OPT.
    pub const OPT: Self = Self {
        root: "model.decoder",
        attention_norm: "self_attn_layer_norm",
        mlp_norm: "final_layer_norm",
        attention_output: "self_attn.out_proj",
        up: "fc1",
        down: "fc2",
        final_norm: "final_layer_norm",
        output_norms: None,
    };
}

impl Design {
    /// The full name of a part outside the layers.
    pub(crate) fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.names.root)
    }

    /// The full name of a part of layer `layer`.
    pub(crate) fn layer_name(&self, layer: usize, part: &str) -> String {
        format!("{}.layers.{layer}.{part}", self.names.root)
    }

    /// The names of the query, key and value projections.
    pub(crate) fn query_key_value(&self, layer: usize) -> Vec<String> {
        let parts: &[_] = match self.fused {
            true => &["self_attn.qkv_proj"],
            false => &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        };
        parts.iter().map(|part| self.layer_name(layer, part)).collect()
    }

    /// The names of the gate and up projections, of both in one, or of the up projection alone.
    pub(crate) fn gate_up(&self, layer: usize) -> Vec<String> {
        let gate = (self.mlp != Mlp::Relu && !self.fused).then_some("mlp.gate_proj");
        let parts = gate.into_iter().chain([self.names.up]);
        parts.map(|part| self.layer_name(layer, part)).collect()
    }

    /// The name of the output projection's weight.
    pub(crate) fn output_name(&self) -> String {
        match self.output {
            Output::Tied => format!("{}.weight", self.name("embed_tokens")),
            Output::Head => "lm_head.weight".to_owned(),
            Output::Labels(_) => "score.weight".to_owned(),
        }
    }

    /// Whether token embeddings are projected to the width of the model and back.
    pub(crate) fn projects(&self) -> bool {
        self.embedding_width != self.width
    }

    /// The list of all tensors, without their values.
    pub fn outline(&self) -> Outline {
        let mut list = List::new(None, Part::Embedding);
        let (width, narrow) = (self.width, self.embedding_width);
        list.table(&self.name("embed_tokens"), &[self.vocabulary, narrow]);
        if let Position::Learned { offset } = self.position {
            list.table(&self.name("embed_positions"), &[self.positions + offset, width]);
        }
        if self.projects() {
            list.linear(self.name("project_in"), width, narrow, false);
        }
        let (queries, keys) = (self.heads * self.head_width, self.kv_heads * self.head_width);
        let Biases { query_key_value, output, mlp } = self.biases;
        for layer in 0..self.windows.len() {
            let name = |part| self.layer_name(layer, part);
            list.at(Some(layer), Part::Attention);
            list.norm(&name(self.names.attention_norm), self.norm, width);
            let projected = self.query_key_value(layer);
            let sizes: &[_] = match self.fused {
                true => &[queries + 2 * keys],
                false => &[queries, keys, keys],
            };
            for (name, &size) in projected.into_iter().zip(sizes) {
                list.linear(name, size, width, query_key_value);
            }
            if self.query_key_norm {
                list.norm(&name("self_attn.q_norm"), self.norm, self.head_width);
                list.norm(&name("self_attn.k_norm"), self.norm, self.head_width);
            }
            list.linear(name(self.names.attention_output), width, queries, output);
            if let Some([after_attention, _]) = self.names.output_norms {
                list.norm(&name(after_attention), self.norm, width);
            }
            list.at(Some(layer), Part::Mlp);
            list.norm(&name(self.names.mlp_norm), self.norm, width);
            let inner = if self.fused { 2 * self.inner } else { self.inner };
            for name in self.gate_up(layer) {
                list.linear(name, inner, width, mlp);
            }
            list.linear(name(self.names.down), width, self.inner, mlp);
            if let Some([_, after_mlp]) = self.names.output_norms {
                list.norm(&name(after_mlp), self.norm, width);
            }
        }
        list.at(None, Part::Head);
        if self.final_norm {
            list.norm(&self.name(self.names.final_norm), self.norm, width);
        }
        if self.projects() {
            list.linear(self.name("project_out"), narrow, width, false);
        }
        let labels = match self.output {
            Output::Tied => None,
            Output::Head => {
                list.table("lm_head", &[self.vocabulary, narrow]);
                None
            }
            Output::Labels(labels) => {
                list.table("score", &[labels, narrow]);
                Some(labels)
            }
        };
        let architecture = Architecture {
            family: self.family.to_owned(),
            layers: self.windows.len(),
            width,
            vocabulary: self.vocabulary,
            positions: self.positions,
            labels,
        };
        let List { tensors, linears, locations, .. } = list;
        Outline { architecture, tensors, linears, locations, unknown: self.unknown.clone() }
    }
}

/// A builder of an outline.
struct List {
    tensors: Vec<(String, Vec<usize>)>,
    linears: Vec<String>,
    locations: BTreeMap<String, Location>,
    /// The location of the tensors added next.
    location: Location,
}

impl List {
    fn new(layer: Option<usize>, part: Part) -> Self {
        Self {
            tensors: Vec::new(),
            linears: Vec::new(),
            locations: BTreeMap::new(),
            location: Location { layer, part },
        }
    }

    /// Sets the location of the tensors added next.
    fn at(&mut self, layer: Option<usize>, part: Part) {
        self.location = Location { layer, part };
    }

    fn table(&mut self, name: &str, shape: &[usize]) {
        self.tensors.push((format!("{name}.weight"), shape.to_vec()));
        self.locations.insert(name.to_owned(), self.location);
    }

    fn bias(&mut self, name: &str, width: usize) {
        self.tensors.push((format!("{name}.bias"), vec![width]));
    }

    fn norm(&mut self, name: &str, norm: Norm, width: usize) {
        if norm != Norm::PlainLayer {
            self.table(name, &[width]);
        }
        if norm == Norm::Layer {
            self.bias(name, width);
        }
        if norm != Norm::PlainLayer {
            let location = Location { part: Part::Norm, ..self.location };
            self.locations.insert(name.to_owned(), location);
        }
    }

    fn linear(&mut self, name: String, out: usize, input: usize, bias: bool) {
        self.table(&name, &[out, input]);
        if bias {
            self.bias(&name, out);
        }
        self.linears.push(name);
    }
}
