//! What `config.json` says of a Llama.

use serde::Deserialize;
use vxf_core::Result;
use vxf_core::checkpoint::Checkpoint;

/// The measures of a Llama, in Hugging Face's spelling.
#[derive(Clone, Debug, Deserialize)]
pub struct LlamaConfig {
    /// Width of the hidden embeddings.
    pub hidden_size: usize,
    /// Width inside the gated MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; as many as query heads if not given.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; `hidden_size / num_attention_heads` if not given.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Added under the root of the RMS norms.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    #[serde(default)]
    pub rope_theta: Option<f64>,
    /// The newer spelling of everything rotary.
    #[serde(default)]
    pub rope_parameters: Option<Rope>,
    /// A stretched rotary embedding.
    #[serde(default)]
    pub rope_scaling: Option<Rope>,
    /// Whether the output projection is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// The longest sequence.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// The activation in the MLP.
    #[serde(default = "default_activation")]
    pub hidden_act: String,
    /// Whether the attention projections have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the MLP projections have biases.
    #[serde(default)]
    pub mlp_bias: bool,
}

/// Settings of the rotary embedding in newer configurations.
#[derive(Clone, Debug, Deserialize)]
pub struct Rope {
    /// Base of the angles.
    #[serde(default)]
    pub rope_theta: Option<f64>,
    /// `default`, or a way of stretching.
    #[serde(default, alias = "type")]
    pub rope_type: Option<String>,
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_positions() -> usize {
    2048
}

fn default_activation() -> String {
    "silu".to_owned()
}

impl LlamaConfig {
    /// Reads and checks the configuration of a checkpoint.
    ///
    /// # Errors
    /// Names what is missing, out of range or not supported.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let config: Self = checkpoint.config()?;
        config.check().map_err(|problem| checkpoint.error(format!("config.json: {problem}")))?;
        match config.unsupported() {
            None => Ok(config),
            Some(problem) => Err(checkpoint.unsupported(format!("config.json: {problem}"))),
        }
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("`{name}` must be at least 1, got 0"));
        }
        if !self.num_attention_heads.is_multiple_of(self.kv_heads()) {
            return Err(format!(
                "`num_attention_heads` ({}) must be a multiple of `num_key_value_heads` ({})",
                self.num_attention_heads,
                self.kv_heads()
            ));
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "`hidden_size` ({}) must be a multiple of `num_attention_heads` ({}), or `head_dim` given",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if self.head_width() == 0 || !self.head_width().is_multiple_of(2) {
            return Err(format!("the head width must be even, got {}", self.head_width()));
        }
        let theta = self.theta();
        if !(theta.is_finite() && theta > 0.0) {
            return Err(format!("`rope_theta` must be positive, got {theta}"));
        }
        Ok(())
    }

    /// What this configuration asks for that this family does not have.
    fn unsupported(&self) -> Option<String> {
        if self.hidden_act != "silu" && self.hidden_act != "swish" {
            return Some(format!("`hidden_act` must be silu, got `{}`", self.hidden_act));
        }
        if self.attention_bias || self.mlp_bias {
            return Some("biases are not supported in this family".to_owned());
        }
        let ropes = [&self.rope_scaling, &self.rope_parameters].into_iter().flatten();
        let mut stretched = ropes.filter_map(|rope| rope.rope_type.as_deref());
        let stretched = stretched.find(|kind| *kind != "default");
        stretched.map(|kind| format!("rotary scaling `{kind}` is not supported"))
    }

    /// Number of key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_width(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// Base of the rotary angles.
    pub fn theta(&self) -> f64 {
        let newer = self.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
        self.rope_theta.or(newer).unwrap_or(10_000.0)
    }
}
