"""The programs under test: `vxf`, and the examples that print token ids and a judge's probabilities."""

import json, os, subprocess

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def example(package, name, job):
    """The output of a crate's example for the input `job`, both as JSON."""
    command = ["cargo", "run", "--release", "--quiet", "-p", package, "--example", name]
    run = subprocess.run(command, cwd=ROOT, input=json.dumps(job), capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{run.stderr}")
    return json.loads(run.stdout)


class Vxf:
    """The program at `path`."""

    def __init__(self, path):
        self.path = os.path.abspath(path)

    def __call__(self, *args, may_fail=False):
        run = subprocess.run([self.path, *map(str, args)], capture_output=True, text=True)
        if run.returncode and not may_fail:
            raise SystemExit(f"vxf {' '.join(map(str, args))} failed:\n{run.stderr}")
        return run.stdout if run.stdout else run.stderr

    def parity(self, folder):
        """Largest deviation and count of every quantity recorded in `folder`."""
        answer = self("parity", folder, "--json", may_fail=True)
        if not answer.startswith("{"):
            raise SystemExit(f"vxf parity {folder} failed:\n{answer}")
        return json.loads(answer)
