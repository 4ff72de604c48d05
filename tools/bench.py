"""Times our training step and generation beside PyTorch's, in turns, and prints tables as Markdown.

    python tools/bench.py [--shapes nano,S,M] [--rounds 3] [--steps 8]
    python tools/bench.py --real S,M,135M [--dropouts 0,0.1] [--rounds 3] [--steps 10]

Ours: `cargo run --release -p vxf --example timing`, which knows the shapes. Theirs: stock transformers
(sdpa, uncompiled) and PEFT, the two-pass rule as the official trainer runs it: the first pass takes
all gradients and throws the weights' away. Both f32 on two threads. Memory is the peak less what the
loaded model takes. --real is shape R: samples of the lengths in tools/lengths.txt (or --lengths FILE), two
fifths of each without labels; PyTorch pads them, as its users do. --compile adds torch.compile.
Needs torch, transformers and peft.
"""
import argparse
import contextlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle workers sleep: spinning spoils both sides
os.environ.setdefault("CANDLE_NUM_THREADS", "1")  # as the program sets it for itself
ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TIMING = TARGET / "release/examples/timing"
SHAPES = {
    "nano": (dict(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=176, vocab_size=408), 8, 32),
    "S": (dict(hidden_size=256, num_hidden_layers=6, num_attention_heads=8, intermediate_size=688, vocab_size=4096), 8, 128),
    "M": (dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=2048, vocab_size=32000), 4, 256),
    "135M": (dict(hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
                  vocab_size=49152, tie_word_embeddings=True), 8, 256),
}
LENGTHS = ROOT / "tools/lengths.txt"
RANK, RHO = 8, 2.0
TRAIN, RULES = ("lora", "full"), ("sft", "vaccine")


def rss():
    """Resident MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def llama(shape):
    """A random model in PyTorch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(2)
    torch.manual_seed(0)
    config = dict(max_position_embeddings=512, tie_word_embeddings=False)
    return LlamaForCausalLM(LlamaConfig(**config | SHAPES[shape][0]))


def batches(shape, real, lengths, vocabulary):
    """Inputs of the model, step after step: a full rectangle, or samples of real lengths, padded."""
    import torch

    _, batch, length = SHAPES[shape]
    if not real:
        ids = torch.randint(0, vocabulary, (batch, length))
        return [dict(input_ids=ids, labels=ids)]
    made, sizes = [], [int(word) for word in Path(lengths).read_text().split()]
    for first in range(0, len(sizes) // real * real, real):
        own = sizes[first:first + real]
        ids = torch.zeros(real, max(own), dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, size in enumerate(own):
            ids[row, :size] = torch.randint(0, vocabulary, (size,))
            mask[row, :size] = 1
            labels[row, size * 2 // 5:size] = ids[row, size * 2 // 5:size]
        made.append(dict(input_ids=ids, attention_mask=mask, labels=labels))
    return made


def their_steps(shape, train, rule, steps, real=0, dropout=0.0, lengths=LENGTHS, compiled=False, warmup=2):
    """Steps in PyTorch; `real` is the batch of shape R."""
    import torch

    model = llama(shape)
    if train == "lora":
        from peft import LoraConfig, get_peft_model
        names = [f"{n}_proj" for n in ("q", "k", "v", "o", "up", "down", "gate")]
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=4, lora_dropout=dropout, target_modules=names))
    model.train()
    model.config.use_cache = False
    inputs = batches(shape, real, lengths, model.config.vocab_size)
    step = their_step(torch.compile(model, dynamic=bool(real)) if compiled else model, rule, inputs)
    loaded, times = rss(), []
    for turn in range(steps + warmup):
        if turn == warmup:
            used = time.process_time()
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return dict(median_s=statistics.median(times[warmup:]), cpu_s=(time.process_time() - used) / steps, memory_mib=peak - loaded)


def their_step(model, rule, inputs, forward=contextlib.nullcontext, **adam):
    """One optimiser step of a rule in PyTorch, as a function; tools/cuda/gpu.py takes it on a GPU."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    sites = [m for n, m in model.named_modules() if n.endswith("self_attn")]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.1, **adam)
    turn = itertools.cycle(inputs)

    def loss(batch, hook_of=None):
        hooks = [s.register_forward_hook(hook_of(i)) for i, s in enumerate(sites)] if hook_of else []
        with forward():
            value = model(**batch).loss
        for hook in hooks:
            hook.remove()
        return value

    def step():
        batch = next(turn)
        optimizer.zero_grad()
        if rule == "sft":
            loss(batch).backward()
        else:
            grads = {}

            def catch(i):
                return lambda _m, _i, out: out[0].register_hook(lambda g: grads.__setitem__(i, g)) and None
            loss(batch, catch).backward()
            norm = torch.stack([g.float().norm() for g in grads.values()]).norm()
            eps = {i: (g * (RHO / (norm + 1e-7))).to(g.dtype) for i, g in grads.items()}
            optimizer.zero_grad()
            loss(batch, lambda i: lambda _m, _i, out: (out[0] + eps[i], *out[1:])).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return step


def their_generation(shape, batch, tokens, real=False, lengths=LENGTHS):
    """Greedy generation in PyTorch, after prompts of 32 tokens, or of real lengths, padded on the left."""
    import torch

    model = llama(shape).eval()
    sizes = [int(word) for word in Path(lengths).read_text().split()][:batch] if real else [32] * batch
    ids = torch.randint(0, model.config.vocab_size, (batch, max(sizes)))
    mask = torch.stack([(torch.arange(max(sizes)) >= max(sizes) - size).long() for size in sizes])
    times = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.no_grad():
            model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens,
                           min_new_tokens=tokens, pad_token_id=0)
        times.append(time.perf_counter() - start)
    return dict(median_s=statistics.median(times[1:]))


def ours(*arguments):
    """One line of our timing program."""
    command = [TIMING, *map(str, arguments)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if "peak_rss_mib" in found:
        found["memory_mib"] = found["peak_rss_mib"] - found["rss_loaded_mib"]
        found["cpu_s"] = found["cpu_s_per_step"]
    return found


def theirs(*case):
    """The same in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--case", json.dumps(case)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def real_shapes(a):
    """The table of shape R: LoRA with real lengths, side by side."""
    seen, cases = {}, []
    for shape in a.real.split(","):
        for batch in (8,) if shape == "135M" else (16, 5):
            for dropout in map(float, a.dropouts.split(",")):
                for rule in RULES:
                    cases.append((shape, batch, dropout, rule))
    for turn in range(a.rounds):
        for shape, batch, dropout, rule in cases:
            step = ["--shape", shape, "--real", "--lengths", a.lengths, "--batch", batch, "--dropout", dropout, "--rule", rule]
            step += ["--steps", a.steps]
            case = (shape, batch, dropout, rule)
            for keep in ("none", "block"):
                seen.setdefault(case + (keep,), []).append(ours(*step, "--recompute", keep))
            seen.setdefault(case + ("torch",), []).append(theirs("steps", shape, "lora", rule, a.steps, batch, dropout, a.lengths))
            if a.compile:
                found = theirs("steps", shape, "lora", rule, a.steps, batch, dropout, a.lengths, True)
                seen.setdefault(case + ("compiled",), []).append(found)
        if "S" in a.real.split(","):
            made = ["--shape", "S", "--real", "--lengths", a.lengths, "--batch", 16, "--generate", 64, "--steps", 3]
            seen.setdefault("generation", []).append(ours(*made))
            seen.setdefault("their generation", []).append(theirs("generation", "S", 16, 64, True, a.lengths))
        print(f"round {turn + 1} of {a.rounds} done", file=sys.stderr)

    def median(key, figure="median_s"):
        return statistics.median(found[figure] for found in seen[key])

    compiled = " | compiled / ours" if a.compile else ""
    print("| R: model, batch, dropout, rule | ours, s | PyTorch, s | PyTorch / ours | `block`: PyTorch / ours "
          f"| memory, ours / `block` / PyTorch, MiB{compiled} |\n|---|---|---|---|---|---|" + ("---|" if a.compile else ""))
    for shape, batch, dropout, rule in cases:
        none, block, torch = ((shape, batch, dropout, rule, side) for side in ("none", "block", "torch"))
        memory = " / ".join(f"{median(key, 'memory_mib'):.0f}" for key in (none, block, torch))
        ratio = median((shape, batch, dropout, rule, "compiled")) / median(none) if a.compile else 0
        print(f"| {shape}, {batch}, {dropout:g}, {rule} | {median(none):.3f} | {median(torch):.3f} | {median(torch) / median(none):.2f} "
              f"| {median(torch) / median(block):.2f} | {memory} |" + (f" {ratio:.2f} |" if a.compile else ""))
    if "generation" in seen:
        mine, other = median("generation"), median("their generation")
        print(f"\nGeneration at S, batch 16, prompts of real lengths: {mine:.3f} s, PyTorch {other:.3f} s, {other / mine:.2f}.")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--shapes", default="S")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--steps", type=int, default=8)
    ap.add_argument("--real", help="shapes of which to time shape R instead")
    ap.add_argument("--dropouts", default="0,0.1")
    ap.add_argument("--lengths", default=str(LENGTHS), help="file of the lengths of shape R")
    ap.add_argument("--compile", action="store_true", help="time torch.compile in shape R, too")
    ap.add_argument("--built", action="store_true", help="time the program as it is, without building it first")
    ap.add_argument("--case", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.case:
        what, *case = json.loads(a.case)
        print(json.dumps({"steps": their_steps, "generation": their_generation}[what](*case)))
        return
    if not a.built:
        build = ["cargo", "build", "--release", "-p", "vxf", "--example", "timing"]
        subprocess.run(build, cwd=ROOT, check=True)
    if a.real:
        real_shapes(a)
        return
    seen, peak = {}, []
    shapes = a.shapes.split(",")
    for turn in range(a.rounds):
        peak.append(ours("--matmul")["matmul_gflops"])
        for shape in shapes:
            # What is compared runs side by side: a rule here and there, and both rules here and there.
            for train in TRAIN:
                for rule, side in (("sft", "torch"), ("sft", "none"), ("vaccine", "none"), ("vaccine", "torch"),
                                   ("vaccine", "block"), ("sft", "block")):
                    step = ["--shape", shape, "--train", train, "--rule", rule, "--steps", a.steps, "--recompute", side]
                    found = theirs("steps", shape, train, rule, a.steps) if side == "torch" else ours(*step)
                    seen.setdefault((shape, train, rule, side), []).append(found)
            for batch in (1, 16):
                made = ["--shape", shape, "--batch", batch, "--generate", 64, "--steps", 3]
                seen.setdefault((shape, batch, "ours"), []).append(ours(*made))
                seen.setdefault((shape, batch, "torch"), []).append(theirs("generation", shape, batch, 64))
        print(f"round {turn + 1} of {a.rounds} done", file=sys.stderr)

    def median(key, figure):
        return statistics.median(found[figure] for found in seen[key])

    def spread(key):
        values = [found["median_s"] for found in seen[key]]
        digits = 3 if min(values) > 0.05 else 4
        middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
        return f"{middle} ({least} to {most})"

    # The share of one round's best matrix product is of that round.
    def share(key):
        return statistics.median(found["gflops"] / best for found, best in zip(seen[key], peak))
    print("| step | recompute | ours, s (spread) | PyTorch, s (spread) | PyTorch / ours | CPU seconds, PyTorch / ours "
          "| memory, ours / PyTorch, MiB | share of our best product |\n|---|---|---|---|---|---|---|---|")
    for shape in shapes:
        for train in TRAIN:
            for rule in RULES:
                other = (shape, train, rule, "torch")
                for keep in ("none", "block"):
                    mine = (shape, train, rule, keep)
                    ratio, cpu = (median(other, f) / median(mine, f) for f in ("median_s", "cpu_s"))
                    print(f"| {shape}, {train}, {rule} | {keep} | {spread(mine)} | {spread(other)} | {ratio:.2f} | {cpu:.2f} "
                          f"| {median(mine, 'memory_mib'):.0f} / {median(other, 'memory_mib'):.0f} | {share(mine):.0%} |")
    print("\n| Vaccine over SFT | ours | PyTorch |\n|---|---|---|")
    for shape in shapes:
        for train in TRAIN:
            mine, other = (median((shape, train, "vaccine", side), "median_s") / median((shape, train, "sft", side), "median_s")
                           for side in ("none", "torch"))
            print(f"| {shape}, {train} | {mine:.2f} | {other:.2f} |")
    print("\n| generation, 64 tokens | ours, s (spread) | PyTorch, s (spread) | PyTorch / ours |\n|---|---|---|---|")
    for shape in shapes:
        for batch in (1, 16):
            mine, other = (shape, batch, "ours"), (shape, batch, "torch")
            ratio = median(other, "median_s") / median(mine, "median_s")
            print(f"| {shape}, batch {batch} | {spread(mine)} | {spread(other)} | {ratio:.2f} |")
    print(f"\nOur best matrix product: {statistics.median(peak):.0f} GFLOP/s.")


if __name__ == "__main__":
    main()
