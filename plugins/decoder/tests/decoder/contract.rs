//! The laws of a backbone hold for models of all shapes, trained in full and by adapter.

use std::sync::Arc;

use candle_core::DType;
use vxf_core::engine::Evaluation;
use vxf_core::quantized::Scheme;
use vxf_core::{Backbone, Batch, Lora, Params, Trainable};
use vxf_hf::load_backbone;
use vxf_testkit::backbone_laws;
use vxf_testkit::checkpoint::LlamaShape;

use crate::shapes::{self, made};

fn llama(dtype: DType, shape: &LlamaShape, trainable: &Trainable) -> Arc<dyn Backbone> {
    let checkpoint = shape.checkpoint(5).expect("random tensors");
    let llama =
        load_backbone(&checkpoint, dtype, vxf_testkit::device()).expect("a whole checkpoint");
    llama.with_trainable(trainable).expect("its own layers")
}

/// Adapters with dropout on all linear layers, scaled by the square root of the rank.
fn adapters() -> Trainable {
    let opt = ["out_proj", "fc1", "fc2", "project_in", "project_out"].map(str::to_owned);
    let target_modules = Lora::default().target_modules.into_iter().chain(opt).collect();
    let lora = Lora { rank: 3, dropout: 0.2, use_rslora: true, target_modules, ..Lora::default() };
    Trainable::Lora(lora)
}

fn multi_head() -> LlamaShape {
    LlamaShape::default()
}

fn grouped() -> LlamaShape {
    LlamaShape { kv_heads: 2, tied: true, rope_theta: 500_000.0, ..LlamaShape::default() }
}

fn one_kv_head() -> LlamaShape {
    LlamaShape { kv_heads: 1, layers: 1, vocabulary: 11, epsilon: 1e-3, ..LlamaShape::default() }
}

fn wide_heads() -> LlamaShape {
    LlamaShape { hidden: 12, heads: 3, kv_heads: 3, head_dim: Some(6), ..LlamaShape::default() }
}

backbone_laws!(multi_head_full, |dtype| llama(dtype, &multi_head(), &Trainable::Full));
backbone_laws!(multi_head_adapters, |dtype| llama(dtype, &multi_head(), &adapters()));
backbone_laws!(grouped_tied_full, |dtype| llama(dtype, &grouped(), &Trainable::Full));
backbone_laws!(grouped_tied_adapters, |dtype| llama(dtype, &grouped(), &adapters()));
backbone_laws!(one_kv_head_adapters, |dtype| llama(dtype, &one_kv_head(), &adapters()));
backbone_laws!(wide_heads_full, |dtype| llama(dtype, &wide_heads(), &Trainable::Full));
backbone_laws!(wide_heads_adapters, |dtype| llama(dtype, &wide_heads(), &adapters()));

backbone_laws!(biased_full, |dtype| made(shapes::llama(), dtype, &Trainable::Full));
backbone_laws!(biased_adapters, |dtype| made(shapes::llama(), dtype, &adapters()));
backbone_laws!(mistral_full, |dtype| made(shapes::mistral(), dtype, &Trainable::Full));
backbone_laws!(mistral_adapters, |dtype| made(shapes::mistral(), dtype, &adapters()));
backbone_laws!(qwen2_full, |dtype| made(shapes::qwen2(), dtype, &Trainable::Full));
backbone_laws!(qwen2_adapters, |dtype| made(shapes::qwen2(), dtype, &adapters()));
backbone_laws!(qwen3_full, |dtype| made(shapes::qwen3(), dtype, &Trainable::Full));
backbone_laws!(qwen3_adapters, |dtype| made(shapes::qwen3(), dtype, &adapters()));
backbone_laws!(gemma2_full, |dtype| made(shapes::gemma2(), dtype, &Trainable::Full));
backbone_laws!(gemma2_adapters, |dtype| made(shapes::gemma2(), dtype, &adapters()));
backbone_laws!(gemma3_full, |dtype| made(shapes::gemma3(), dtype, &Trainable::Full));
backbone_laws!(gemma3_adapters, |dtype| made(shapes::gemma3(), dtype, &adapters()));
backbone_laws!(phi3_full, |dtype| made(shapes::phi3(), dtype, &Trainable::Full));
backbone_laws!(phi3_adapters, |dtype| made(shapes::phi3(), dtype, &adapters()));
backbone_laws!(opt_full, |dtype| made(shapes::opt(), dtype, &Trainable::Full));
backbone_laws!(opt_adapters, |dtype| made(shapes::opt(), dtype, &adapters()));
backbone_laws!(post_norm_full, |dtype| made(shapes::opt_post_norm(), dtype, &Trainable::Full));
backbone_laws!(post_norm_adapters, |dtype| made(shapes::opt_post_norm(), dtype, &adapters()));
backbone_laws!(quantised_adapters, |dtype| {
    let checkpoint = shapes::checkpoint(shapes::qwen2()).quantized_by(Scheme::Nf4);
    let checkpoint = checkpoint.expect("a known family");
    let model =
        load_backbone(&checkpoint, dtype, vxf_testkit::device()).expect("a whole checkpoint");
    model.with_trainable(&adapters()).expect("its own layers")
});
backbone_laws!(bare_opt_full, |dtype| made(shapes::opt_bare(), dtype, &Trainable::Full));

/// The published adapter targets Llama's names; three of OPT's match.
#[test]
fn the_default_adapter_targets_three_layers_of_opt() {
    let rank = |rank| Trainable::Lora(Lora { rank, ..Lora::default() });
    let opt = made(shapes::opt(), DType::F32, &rank(8));
    let parameters = opt.parameters();
    let modules = ["q_proj", "k_proj", "v_proj"].map(|it| format!("self_attn.{it}.lora_"));
    assert_eq!(parameters.len(), 2 * 2 * 3);
    let on_them = |name: &str| modules.iter().any(|module| name.contains(module.as_str()));
    assert!(parameters.iter().all(|parameter| on_them(&parameter.name)));

    let refused = opt.with_trainable(&rank(13)).err().expect("a rank beyond the width of 12");
    let message = refused.to_string();
    assert!(message.contains("`rank`") && message.contains("12"), "{message}");
}

/// A padding token as an input gives its embedding no gradient, as in PyTorch; as a target it does.
#[test]
fn a_padding_token_gets_no_gradient_as_an_input() -> vxf_core::Result<()> {
    let rows: [&[u32]; 1] = [&[4, 7, 9, 7]];
    let labels = [vec![-100, -100, 9, -100]];
    let gradient = |config| -> vxf_core::Result<Vec<Vec<f64>>> {
        let model = made(config, DType::F64, &Trainable::Full);
        let weights: Params = model.tensors();
        let batch = Batch::from_rows(&rows, &labels, vxf_testkit::device())?;
        let found = Evaluation::new(&*model, &weights, &batch).run()?.gradients;
        Ok(found.get("model.embed_tokens.weight").expect("a gradient").to_vec2()?)
    };
    let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
    for (padding, seven) in [(serde_json::json!(null), true), (serde_json::json!(7), false)] {
        let padded = shapes::with(shapes::qwen3(), serde_json::json!({ "pad_token_id": padding }));
        let rows = gradient(padded)?;
        assert!(norm(&rows[4]) > 0.0);
        assert_eq!(norm(&rows[7]) > 0.0, seven, "{padding}");
    }
    // Tied: it still gets the gradient of the output.
    let tied = serde_json::json!({ "pad_token_id": 7, "tie_word_embeddings": true });
    let rows = gradient(shapes::with(shapes::qwen3(), tied))?;
    assert!(norm(&rows[7]) > 0.0);
    Ok(())
}

/// A classifier's head gives logits over labels.
#[test]
fn a_classifier_has_labels() -> vxf_core::Result<()> {
    let model = made(shapes::classifier(), DType::F32, &Trainable::Full);
    assert_eq!(model.architecture().labels, Some(3));
    let weights = Params::new();
    let batch = vxf_testkit::batches::batch(2, 5, 23, &vxf_core::Key::root(1))?;
    let measured = vxf_core::metric::Model { backbone: &*model, weights: &weights };
    assert_eq!(measured.logits(&batch)?.dims(), [batch.rows().count(), 3]);
    Ok(())
}
