"""Times our training step beside PyTorch's, in turns, and prints medians and ratios as Markdown.

    python tools/bench.py [--rounds 3]

Shape S: hidden 256, 6 layers, 8 heads, inner 688, vocabulary 4096, sequence 128, batch 8, f32, two
threads; LoRA rank 8 on all seven projections, or full fine-tuning. Ours: `cargo bench --bench step`.
Theirs: stock transformers (sdpa) and PEFT, the two-pass rule as the official trainer runs it (the
first pass takes all gradients and throws the weights' away). Needs torch, transformers and peft.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle workers sleep: spinning spoils both sides
ROOT = Path(__file__).resolve().parent.parent
SHAPE = dict(hidden_size=256, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=8,
             intermediate_size=688, vocab_size=4096, max_position_embeddings=512)
BATCH, LENGTH, RANK, RHO, STEPS = 8, 128, 8, 2.0, 8
CASES = [(train, rule) for train in ("lora", "full") for rule in ("sft", "vaccine")]


def theirs(train, rule):
    """Median seconds of a step in PyTorch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False, use_cache=False))
    if train == "lora":
        from peft import LoraConfig, get_peft_model
        names = [f"{n}_proj" for n in ("q", "k", "v", "o", "up", "down", "gate")]
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=4, lora_dropout=0.0, target_modules=names))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    sites = [m for n, m in model.named_modules() if n.endswith("self_attn")]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    ids = torch.randint(0, SHAPE["vocab_size"], (BATCH, LENGTH))

    def loss(hook_of=None):
        hooks = [s.register_forward_hook(hook_of(i)) for i, s in enumerate(sites)] if hook_of else []
        value = model(input_ids=ids, labels=ids).loss
        for hook in hooks:
            hook.remove()
        return value

    def step():
        optimizer.zero_grad()
        if rule == "sft":
            loss().backward()
        else:
            grads = {}

            def catch(i):
                return lambda _m, _i, out: out[0].register_hook(lambda g: grads.__setitem__(i, g)) and None
            loss(catch).backward()
            norm = torch.stack([g.norm() for g in grads.values()]).norm()
            eps = {i: g * (RHO / (norm + 1e-7)) for i, g in grads.items()}
            optimizer.zero_grad()
            loss(lambda i: lambda _m, _i, out: (out[0] + eps[i], *out[1:])).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    times = []
    for turn in range(STEPS + 2):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def ours():
    """Median seconds of our steps, by criterion."""
    bench = ["cargo", "bench", "--quiet", "--bench", "step", "--", "--noplot"]
    subprocess.run(bench, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "criterion"

    def median(group, rule):
        estimates = json.loads((target / group / rule / "new" / "estimates.json").read_text())
        return estimates["median"]["point_estimate"] / 1e9
    found = {(train, rule): median(f"S_{train}", rule) for train, rule in CASES}
    return found | {("nano", rule): median("nano", rule) for rule in ("sft", "vaccine")}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--torch-case", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.torch_case:
        print(theirs(*a.torch_case.split("/")))
        return
    mine, other = {}, {}
    for turn in range(a.rounds):
        for case in CASES:
            command = [sys.executable, "-W", "ignore", __file__, "--torch-case", "/".join(case)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            other.setdefault(case, []).append(float(out.split()[-1]))
        for case, seconds in ours().items():
            mine.setdefault(case, []).append(seconds)
        print(f"round {turn + 1} of {a.rounds} done", file=sys.stderr)

    def show(values):
        return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    print("| step | ours, s (spread) | PyTorch, s (spread) | PyTorch / ours |\n|---|---|---|---|")
    for case in CASES:
        ratio = statistics.median(other[case]) / statistics.median(mine[case])
        print(f"| S, {case[0]}, {case[1]} | {show(mine[case])} | {show(other[case])} | {ratio:.2f} |")
    for rule in ("sft", "vaccine"):
        milli = [1e3 * s for s in mine["nano", rule]]
        print(f"| nano, {rule} | {statistics.median(milli):.2f} ms ({min(milli):.2f} to {max(milli):.2f}) | | |")
    for name, side in (("ours", mine), ("PyTorch", other)):
        for kind in ("lora", "full", "nano"):
            if (kind, "sft") in side:
                ratio = statistics.median(side[kind, "vaccine"]) / statistics.median(side[kind, "sft"])
                print(f"\nVaccine over SFT, {name}, {kind}: {ratio:.2f}")


if __name__ == "__main__":
    main()
