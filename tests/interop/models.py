"""Tiny models with random weights, written by transformers, and recordings of their logits."""

import json, os, shutil

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

# Name: family, tokenizer (of tokens.py), settings.
rotary = dict(hidden_size=48, intermediate_size=80, num_attention_heads=6, rms_norm_eps=1e-5, head_dim=8)
grouped = dict(num_key_value_heads=2, **rotary)
llama3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
longrope = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, factor=8.0,
                original_max_position_embeddings=16, short_factor=[1.0, 1.2, 1.5], long_factor=[1.5, 2.0, 4.0])
learned = dict(hidden_size=48, ffn_dim=96, num_attention_heads=4)
VARIANTS = {
    "llama": ("llama", "LLAMA2", dict(**grouped)),
    "llama, llama3 scaling, tied": ("llama", "LLAMA3", dict(rope_parameters=llama3, tie_word_embeddings=True, **grouped)),
    "llama, Vicuna-like, linear scaling": ("llama", "VICUNA", dict(
        num_key_value_heads=6, rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=10000.0), **rotary)),
    "mistral, window of 7": ("mistral", "MISTRAL", dict(sliding_window=7, **grouped)),
    "mistral, no window": ("mistral", "MISTRAL", dict(sliding_window=None, **grouped)),
    "qwen2, tied": ("qwen2", "CHATML", dict(tie_word_embeddings=True, **grouped)),
    "qwen2, window in the last layer": ("qwen2", "CHATML", dict(
        use_sliding_window=True, sliding_window=7, max_window_layers=2, **grouped)),
    "qwen3": ("qwen3", "CHATML", dict(grouped, head_dim=16)),
    "gemma2, small caps": ("gemma2", "LLAMA2", dict(
        sliding_window=7, query_pre_attn_scalar=12, attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **grouped)),
    "gemma3": ("gemma3_text", "LLAMA2", dict(sliding_window=7, query_pre_attn_scalar=12, **grouped)),
    "phi3, partial rotation, longrope": ("phi3", "LLAMA2", dict(
        original_max_position_embeddings=16, rope_parameters=longrope, **grouped)),
    "opt, norms before": ("opt", "opt", dict(do_layer_norm_before=True, word_embed_proj_dim=48, **learned)),
    "opt, norms after, projection": ("opt", "opt", dict(do_layer_norm_before=False, word_embed_proj_dim=20, **learned)),
}


def model(name, tokenizer):
    """The variant called `name` in f32, with weights that make attention and norms matter."""
    family, _, settings = VARIANTS[name]
    torch.manual_seed(sum(map(ord, name)))
    # A few spare embeddings, as many checkpoints have.
    config = AutoConfig.for_model(
        family, num_hidden_layers=3, vocab_size=len(tokenizer) + 3, max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, **settings)
    made = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for key, weight in made.named_parameters():
            norm = "norm" in key and key.endswith("weight")
            middle = 0.0 if family.startswith("gemma") else 1.0  # Gemma adds one to what is stored
            weight.copy_(torch.rand_like(weight) - 0.5 + middle if norm else torch.randn_like(weight) * 0.12)
    return made


def write(name, dtype, sharded, tokenizer_place, place):
    """Writes a variant into `place` and returns the number of its weight files."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_place)
    made = model(name, tokenizer).to(DTYPES[dtype])
    made.save_pretrained(place, max_shard_size="40KB" if sharded else "1GB")
    if os.path.exists(os.path.join(tokenizer_place, "tokenizer.json")):
        tokenizer.save_pretrained(place)
    else:  # OPT: vocab.json and merges.txt alone, as they are on the hub
        for file in ["vocab.json", "merges.txt", "tokenizer_config.json"]:
            shutil.copy(os.path.join(tokenizer_place, file), place)
    files = len([file for file in os.listdir(place) if file.endswith(".safetensors")])
    assert (files > 1) == sharded, (name, files)
    return files


def load(place, dtype=torch.float32):
    # Other kinds of attention leave out Gemma 2's soft cap.
    return AutoModelForCausalLM.from_pretrained(place, dtype=dtype, attn_implementation="eager").eval()


def batch(vocabulary):
    """Three right-padded rows, longer than any window."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, vocabulary, (3, 40), generator=generator)
    mask, labels = torch.ones_like(ids), ids.clone()
    for row, length in enumerate([40, 31, 9]):
        mask[row, length:], ids[row, length:], labels[row, length:] = 0, 0, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def logits(model):
    """Logits at the real positions of the batch, computed in the type of `model`."""
    given = batch(model.config.vocab_size)
    with torch.no_grad():
        all = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
    return all[given["attention_mask"].bool()]


def parity(vxf, place, model):
    """Largest difference of vxf's logits of the directory `place` from those of `model`, in f32."""
    given = batch(model.config.vocab_size)
    with torch.no_grad():
        wanted = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
    save_file(given, os.path.join(place, "batch.safetensors"))
    save_file({"logits": wanted.float().contiguous()}, os.path.join(place, "logits.safetensors"))
    folder, name = os.path.split(place)
    with open(os.path.join(folder, "manifest.json"), "w") as file:
        json.dump({"models": {name: {}}}, file)
    answer = vxf.parity(folder)["report"]
    assert not answer["skipped"], answer["skipped"]
    return answer["quantities"]["logits"]["largest"]
