#!/usr/bin/env python3
"""Records what bitsandbytes makes of matrices and models on a CPU.

    python -m venv venv && venv/bin/pip install torch transformers accelerate bitsandbytes safetensors
    venv/bin/python tests/recorder/quantized.py crates/nn/tests/recorded/bitsandbytes.safetensors \
        plugins/decoder/tests/recorded

The first file is for crates/nn/tests/ops/quantized.rs. For each matrix [rows, columns]: NF4 with quantised scales (codes, their scales' codes, states, map and offset, the
result), NF4 with plain scales, and eight bits with a scale for each row.

The directory is for plugins/decoder/tests/decoder/quantized.rs: tiny random Llamas as transformers stores them in
four and eight bits, each with its logits for some tokens in `logits.json`. In eight bits the logits are those of the
dequantised weights, since bitsandbytes would round the activations too.
"""
import json
import pathlib
import sys
import tempfile

import bitsandbytes
import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

# More than 256 blocks, a block of zeros, and columns that are no multiple of a block.
SHAPES = {"wide": (3, 1024), "odd": (5, 70), "many": (140, 128)}

random = torch.Generator().manual_seed(5)
out = {}
for name, shape in SHAPES.items():
    weight = torch.randn(*shape, generator=random) * torch.rand(shape[0], 1, generator=random)
    weight[0, :64] = 0
    out[f"{name}.weight"] = weight

    codes, state = F.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    out[f"{name}.codes"] = codes.flatten()
    out[f"{name}.scale_codes"] = state.absmax
    out[f"{name}.states"] = state.state2.absmax
    out[f"{name}.map"] = state.state2.code
    out[f"{name}.offset"] = state.offset.reshape(1)
    out[f"{name}.dense"] = F.dequantize_4bit(codes, state)

    codes, state = F.quantize_4bit(weight, blocksize=64, compress_statistics=False, quant_type="nf4")
    out[f"{name}.scales"] = state.absmax
    out[f"{name}.plain"] = F.dequantize_4bit(codes, state)

    half = weight.half()
    codes, largest, _ = F.int8_vectorwise_quant(half)
    out[f"{name}.half"] = half
    out[f"{name}.int8"] = codes.to(torch.int32)
    out[f"{name}.largest"] = largest
    out[f"{name}.int8_dense"] = F.int8_vectorwise_dequant(codes, largest)

versions = {"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__}
save_file({key: value.contiguous() for key, value in out.items()}, sys.argv[1], metadata=versions)

torch.manual_seed(3)
# Rows of whole blocks: bitsandbytes 0.50.2 dequantises longer rows wrongly on a CPU with AVX-512.
config = LlamaConfig(
    vocab_size=40, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.2,
)
tokens = torch.tensor([[1, 7, 3, 22, 39, 5, 5, 11]])
with tempfile.TemporaryDirectory() as plain:
    LlamaForCausalLM(config).save_pretrained(plain)
    f32 = torch.float32
    settings = {
        "nf4": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=f32
        ),
        "fp4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_compute_dtype=f32),
        "int8": BitsAndBytesConfig(load_in_8bit=True),
    }
    for name, quantization in settings.items():
        model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=quantization, dtype=f32, device_map="cpu")
        place = pathlib.Path(sys.argv[2]) / name
        model.save_pretrained(place)
        with torch.no_grad():
            logits = model.dequantize(dtype=torch.float32)(tokens).logits[0]
        text = json.dumps({"tokens": tokens[0].tolist(), "logits": logits.tolist(), "versions": versions})
        (place / "logits.json").write_text(text + "\n")
