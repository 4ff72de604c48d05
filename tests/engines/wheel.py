"""Runs a script of tasks through the server and the workers that come in HyperQueue's Python wheel.

    python3 tests/engines/wheel.py SCRIPT TASKS CORES

The wheel has no `hq` command. It does have HyperQueue itself, so that it can show that the script does what HyperQueue
asks of it: one task for each `HQ_TASK_ID`, side by side, each with one core.
"""

import sys
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
from hyperqueue.task.program import ResourceRequest


def main(script: Path, tasks: int, cores: int) -> None:
    logs = script.parent.parent / "logs"
    logs.mkdir(exist_ok=True)
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=cores))
        job = Job(name="vxf", default_workdir=script.parent)
        for number in range(tasks):
            job.program(
                ["bash", str(script)],
                stdout=logs / f"hq-{number}.out",
                stderr=logs / f"hq-{number}.err",
                resources=ResourceRequest(cpus=1),
            )
        client = cluster.client()
        # Raises an error that names the tasks, if one fails.
        client.wait_for_jobs([client.submit(job)])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]))
