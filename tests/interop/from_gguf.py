"""GGUF files beside transformers' own load of them; prints the table of `docs/interop.md`. Run by hand.

    venv/bin/python tests/interop/from_gguf.py --vxf target/release/vxf FILE=DIR [FILE=DIR ...]

FILE is a GGUF file, DIR the same model as a directory in bf16 that transformers made of it. Compared are logits in f32, over
the largest logit: ours and transformers', both of the file; and transformers' of the file, its weights rounded to
bf16, and of the directory. Needs torch, transformers, gguf.
"""

import argparse, json, tempfile
from pathlib import Path

import real
import torch
from program import Vxf
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def compared(vxf, file, directory):
    """Largest difference of logits over the largest logit: ours to transformers', and rounded to the directory."""
    [given] = real.batches(AutoTokenizer.from_pretrained(directory), 1)
    real_positions = given["attention_mask"].bool()

    def logits(model):
        with torch.no_grad():
            return model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits.float()

    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager").eval()
    wanted = logits(model)
    highest = wanted[real_positions].abs().max().item()
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder, "model")
        to.mkdir()
        (to / "model.gguf").symlink_to(file.resolve())
        Path(folder, "manifest.json").write_text(json.dumps({"models": {"model": {}}}))
        save_file(given, to / "batch.safetensors")
        save_file({"logits": wanted.contiguous()}, to / "logits.safetensors")
        answer = json.loads(vxf("parity", folder, "--json", may_fail=True))
    ours = answer["report"]["quantities"]["logits"]["largest"] / highest
    # The weights alone: buffers, such as the frequencies of the rotation, are f32 in the directory's model too.
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.to(torch.bfloat16).to(torch.float32))
    off = (logits(model) - logits(real.load(directory)))[real_positions].abs().max().item() / highest
    return ours, off, highest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vxf", required=True)
    parser.add_argument("models", nargs="+", metavar="FILE=DIR")
    args = parser.parse_args()
    print("| model | ours, and transformers' load of the file | rounded to bf16, and the directory | largest logit |")
    print("|---|---|---|---|")
    for model in args.models:
        file, directory = map(Path, model.split("=", 1))
        ours, off, highest = compared(Vxf(args.vxf), file, directory)
        print(f"| `{directory.name}` | {ours:.1e} | {off:.1e} | {highest:.1f} |", flush=True)
