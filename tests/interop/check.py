"""All comparisons with transformers, peft and tokenizers; prints the tables of `docs/interop.md`.

    venv/bin/python tests/interop/check.py --vxf target/release/vxf [--only in,out,tokens,moderation]
"""

import argparse, os, platform, sys, tempfile, warnings
from importlib.metadata import version

os.environ["HF_HUB_OFFLINE"] = "1"
import transformers

import inward, moderation, models, outward, tokens
from program import Vxf

BOUND = 1e-5
PARTS = ["in", "out", "tokens", "moderation"]


class Sheet:
    """Tables, and the figures that are out of bounds."""

    def __init__(self):
        self.text, self.broken = [], []

    def table(self, title, header, rows):
        line = lambda cells: "| " + " | ".join(map(str, cells)) + " |"
        self.text += ["", title, "", line(header), line(["---"] * len(header)), *map(line, rows)]

    def bounded(self, what, *figures):
        """The figures as text; notes those that are not below the bound."""
        self.hold(what, all(figure is not None and figure < BOUND for figure in figures))
        return [f"{figure:.1e}" for figure in figures]

    def hold(self, what, holds):
        if not holds:
            self.broken.append(what)


def directories(sheet, vxf, place):
    rows = []
    for name, *found, highest in inward.directories(vxf, place):
        rows.append([name, *sheet.bounded(f"in: {name}", *found), f"{highest:.1f}"])
    layouts = [f"{dtype}, sharded" if sharded else dtype for dtype, sharded in inward.LAYOUTS]
    sheet.table("Logits of directories that transformers wrote: largest difference", ["model", *layouts, "largest logit"], rows)


def adapters(sheet, vxf, place):
    rows = []
    for family, logits, gradient, loss, compared, passed in inward.adapters(vxf, place):
        sheet.hold(f"in: adapter on {family}", passed)
        rows.append([family, *sheet.bounded(f"in: adapter on {family}", logits, gradient, loss), compared])
    header = ["family", "base logits", "first gradient", "losses of five steps", "numbers compared"]
    sheet.table("Adapters that peft wrote, trained further: largest difference", header, rows)


def exports(sheet, vxf, place):
    rows = outward.exports(vxf, place)
    for row in rows:
        what = f"out: {row['name']}, {row['dtype']}, {row['mode']}"
        row["what"], row["title"] = what, row["name"] if row["mode"] == outward.DOUBLE else f"{row['name']}: {row['mode']}"
        sheet.hold(f"{what}: training changed nothing", row["moved"] > 0.01)
        if "largest" in row:
            sheet.hold(f"{what}: tensors", row["largest"] < (BOUND if row["dtype"] == "f32" else 1.5))
    wide = [row for row in rows if row["dtype"] == "f32" and row["mode"] != outward.FULL]
    header = ["model", "tensors", "logits", "logits, last adapter attached", "logits, vxf's own", "change by the last adapter"]
    sheet.table("f32, merged by vxf against merged by peft: largest difference", header, [
        [row["title"], *sheet.bounded(row["what"], row["largest"], row["merged"], row["beside"], row["vxf"]),
         f"{row['moved']:.2f}"] for row in wide])
    narrow = [row for row in rows if row["dtype"] != "f32" and row["mode"] != outward.FULL]
    header = ["model", "type", "entries", "different", "largest, in neighbouring values", "logits, vxf's own", "change by the last adapter"]
    sheet.table("bf16 and f16, merged by vxf against merged by peft in the stored type", header, [
        [row["title"], row["dtype"], row["count"], row["unlike"], f"{row['largest']:.0f}",
         *sheet.bounded(row["what"], row["vxf"]), f"{row['moved']:.2f}"] for row in narrow])
    full = [row for row in rows if row["mode"] == outward.FULL]
    sheet.table("Exports of fully trained models", ["model", "type", "logits, vxf's own", "change by training"], [
        [row["title"], row["dtype"], *sheet.bounded(row["what"], row["vxf"]), f"{row['moved']:.2f}"] for row in full])
    known = [row for row in rows if "texts" in row]
    header = ["model", "loaded as", "texts with equal ids", "decoded to the text itself"]
    sheet.table("Tokenizers of exports", header, [
        [row["title"], row["tokenizer"], row["texts"], row["whole"]] for row in known])


def embedded(sheet, vxf, place):
    difference, words = outward.embedded(vxf, place)
    cells = sheet.bounded("out: the embedded model", difference)
    sheet.text += ["", f"The embedded model: logits within {cells[0]} of the largest, {words} words with equal ids."]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--vxf", required=True, help="the program")
    ap.add_argument("--only", default=",".join(PARTS), help="parts, of " + ", ".join(PARTS))
    args = ap.parse_args()
    parts, vxf, sheet = args.only.split(","), Vxf(args.vxf), Sheet()
    if unknown := set(parts) - set(PARTS):
        ap.error(f"--only: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    steps = {"in": [directories, adapters], "out": [exports, embedded]}
    for step in [step for part in PARTS if part in parts for step in steps.get(part, [])]:
        with tempfile.TemporaryDirectory() as place:
            step(sheet, vxf, place)
    if "tokens" in parts:
        sheet.text += ["", f"Tokenizers and templates: ids equal for {', '.join(tokens.main())}."]
    if "moderation" in parts:
        sheet.text += ["", f"The judge `moderation`: probabilities within {moderation.main():.1e}."]
    packages = [f"{it} {version(it)}" for it in ["torch", "transformers", "peft", "tokenizers", "safetensors"]]
    print("\n".join(sheet.text))
    print(f"\n{vxf('--version').strip()}; Python {platform.python_version()}, {', '.join(packages)}; {platform.machine()}")
    for what in dict.fromkeys(sheet.broken):
        print(f"OUT OF BOUNDS: {what}", file=sys.stderr)
    sys.exit(bool(sheet.broken))


if __name__ == "__main__":
    main()
