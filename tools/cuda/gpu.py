#!/usr/bin/env python3
"""Everything that needs a GPU, within ten minutes: the checks, then our step beside PyTorch's at 7B.

    tools/cuda/pack.sh                        where the program is built
    python tools/cuda/gpu.py [--device cuda:0] [--quick]      on the machine with the GPU

Prints Markdown, and each check's outcome; exits 1 if a check failed. PyTorch's half wants torch,
transformers and peft; without them our half is timed alone. The model is Llama-2-7B's shape with random
weights, written once and loaded by both sides: bf16, LoRA rank 8 on all seven projections, batch 5,
length 200. PyTorch's step is the two-pass rule as the official trainer runs it.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from bench import RANK, their_step  # noqa: E402  (the same step as on the CPU)

RULES = ("sft", "vaccine")
BATCH, LENGTH = 5, 200
SEVEN = dict(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
             intermediate_size=11008, vocab_size=32000, max_position_embeddings=4096, tie_word_embeddings=False)
failed = []


def libraries():
    """Folders of the CUDA libraries of this Python's packages, for the loader."""
    import sysconfig
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    return [str(folder) for folder in packages.glob("*/lib")]


def run(command, env, timeout=300):
    done = subprocess.run([str(part) for part in command], env=env, cwd=ROOT, capture_output=True, text=True,
                          timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def check(name, command, env, timeout=300, show=0):
    """One check: its last lines, and whether it held."""
    begin = time.perf_counter()
    try:
        code, out, err = run(command, env, timeout)
    except (subprocess.TimeoutExpired, OSError) as error:
        code, out, err = 1, "", str(error)
    print(f"- {'ok' if code == 0 else 'FAILED'}: {name} ({time.perf_counter() - begin:.0f} s)", flush=True)
    if code != 0:
        failed.append(name)
        show = max(show, 25)
    if show:
        print("\n".join(f"      {line}" for line in (out + err).splitlines()[-show:]), flush=True)
    return out


def make_model(folder, layers):
    """Random weights in a directory that both sides load."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(**{**SEVEN, "num_hidden_layers": layers}))
    model.save_pretrained(folder, max_shard_size="4GB")


def their_steps(folder, rule, steps):
    """PyTorch's step, and the most memory that it took."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").cuda()
    names = [f"{n}_proj" for n in ("q", "k", "v", "o", "up", "down", "gate")]
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=4, lora_dropout=0.0, target_modules=names))
    model.train()
    model.config.use_cache = False
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    ids = torch.randint(0, SEVEN["vocab_size"], (BATCH, LENGTH), device="cuda")
    step = their_step(model, rule, [dict(input_ids=ids, labels=ids)], lambda: torch.autocast("cuda", torch.bfloat16), fused=True)
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(steps + 3):
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return dict(median_s=statistics.median(times[3:]), gpu_peak_mib=torch.cuda.max_memory_allocated() / 2**20)


def their_rate():
    """PyTorch's best rate of a large bf16 product, in TFLOP/s."""
    import torch
    x = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    best = 0
    for _ in range(10):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        x @ x
        torch.cuda.synchronize()
        best = max(best, 2 * 8192**3 / (time.perf_counter() - begin) / 1e12)
    return dict(tflops=best)


CASES = {"steps": their_steps, "rate": their_rate, "model": make_model}


def theirs(env, *case):
    """PyTorch's half, in a process of its own; nothing if it is not installed or fails."""
    code, out, err = run([sys.executable, "-W", "ignore", __file__, "--case", json.dumps(case)], env, 400)
    if code:
        print(f"- PyTorch, {case[0]}: {err.strip().splitlines()[-1] if err.strip() else 'failed'}", flush=True)
        return None
    return json.loads(out.splitlines()[-1] or "null")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--device", default="cuda:0")
    ap.add_argument("--programs", type=Path, default=ROOT / "target/gpu", help="what pack.sh made")
    ap.add_argument("--layers", type=int, default=32, help="fewer for a smaller model")
    ap.add_argument("--steps", type=int, default=8)
    ap.add_argument("--quick", action="store_true", help="the checks alone")
    ap.add_argument("--case", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.case:
        what, *case = json.loads(a.case)
        print(json.dumps(CASES[what](*case)))
        return
    env = dict(os.environ, CANDLE_NUM_THREADS="1", VXF_TEST_DEVICE=a.device)
    env["LD_LIBRARY_PATH"] = ":".join([*libraries(), env.get("LD_LIBRARY_PATH", "")])
    vxf, timing, device, ops = (a.programs / name for name in ("vxf", "timing", "device", "ops"))

    print("## Checks\n")
    check("vxf doctor", [vxf, "doctor"], dict(env, VXF_CUDA_DEBUG="1"), show=12)
    check("threads that share the device", [device, "--test-threads", 4], env, 120, show=3)
    check("operations against the CPU's, f32 and bf16", [ops, "--test-threads", 2], env, 240, show=3)
    for folder, dtype in ((folder, dtype) for folder in ("goldens", "recordings") for dtype in ("f32", "bf16")):
        check(f"parity with tests/{folder}, {dtype}",
              [vxf, "parity", f"tests/{folder}", "--device", a.device, "--dtype", dtype], env, 240, show=28)
    with tempfile.TemporaryDirectory() as scratch:
        job = [vxf, "run", "--defense", "vaccine", "--metric", "drift", "--device", a.device, "--seed", 1,
               "--harmful-ratio", 0.2, "--output-dir", f"{scratch}/run"]
        check("the main job, one seed and ratio", job, env, 240, show=30)
        check("the same in bf16", [*job[:-1], f"{scratch}/bf16", "--dtype", "bf16"], env, 240, show=12)

        if not a.quick:
            print("\n## The step at 7B, bf16\n")
            model = f"{scratch}/model"
            made = theirs(env, "model", model, a.layers) is None and Path(model, "config.json").exists()
            if not made:
                print("No model was made (torch and transformers are needed): nothing to time.")
            else:
                table(a, env, timing, model)
    print(f"\n{len(failed)} checks failed{': ' if failed else ''}{', '.join(failed)}.")
    sys.exit(bool(failed))


def table(a, env, timing, model):
    rate = theirs(env, "rate")
    _, out, _ = run([timing, "--matmul", "--device", a.device, "--dtype", "bf16"], env)
    ours_rate = json.loads(out)["matmul_gflops"] / 1000 if out else float("nan")
    print(f"Best bf16 product: ours {ours_rate:.0f} TFLOP/s, PyTorch's {rate and rate['tflops'] or float('nan'):.0f}.\n")
    print("| step | recompute | ours, s | PyTorch, s | PyTorch / ours | tokens per second | peak, ours / PyTorch, MiB "
          "| foretold | share of our best product |\n|---|---|---|---|---|---|---|---|---|")
    median = {}
    for rule in RULES:
        other = theirs(env, "steps", model, rule, a.steps) or dict(median_s=float("nan"), gpu_peak_mib=float("nan"))
        for keep in ("none", "block"):
            command = [timing, "--shape", "7B", "--layers", a.layers, "--checkpoint", model, "--dtype", "bf16", "--rule",
                       rule, "--recompute", keep, "--steps", a.steps, "--warmup", 3, "--device", a.device]
            code, out, err = run(command, env, 400)
            if code:
                failed.append(f"{rule}, {keep}")
                print(f"| {rule} | {keep} | failed: {err.strip().splitlines()[-1:]} |")
                continue
            mine = json.loads(out)
            median[rule, keep] = mine["median_s"]
            print(f"| {rule} | {keep} | {mine['median_s']:.3f} | {other['median_s']:.3f} "
                  f"| {other['median_s'] / mine['median_s']:.2f} | {mine['tokens_per_s']:.0f} "
                  f"| {mine['gpu_peak_mib']:.0f} / {other['gpu_peak_mib']:.0f} "
                  f"| {mine['foretold_mib'] / mine['gpu_peak_mib']:.0%} of it "
                  f"| {mine['gflops'] / 1000 / ours_rate:.0%} |", flush=True)
    for keep in ("none", "block"):
        if ("vaccine", keep) in median and ("sft", keep) in median:
            print(f"\nVaccine over SFT, {keep}: {median['vaccine', keep] / median['sft', keep]:.2f}")


if __name__ == "__main__":
    main()
