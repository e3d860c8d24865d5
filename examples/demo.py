"""`make demo`: train on digits with one aggregator and three learners, each in its own process.

It runs the commands that you would type, and prints them.
"""

import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPO = "examples/mnist_sklearn"
RUN, DATA = Path("runs/demo"), Path("runs/demo-data")
LEARNERS, ROUNDS = 3, 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def show(command: list[str]) -> list[str]:
    print("$", shlex.join(["python", *command[1:]]), flush=True)
    return command


def main() -> int:
    python, address = sys.executable, f"127.0.0.1:{free_port()}"
    partition = [python, "-m", "flops_fl", "data", "partition", "digits", "--resize", "28"]
    partition += ["--parts", str(LEARNERS), "--tag", "digits", "--out", str(DATA)]
    subprocess.run(show(partition), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    learners = []
    try:
        for index in range(LEARNERS):
            learner = [python, "-m", "learner", REPO, "--aggregator", address, "--quiet"]
            learner += ["--data", str(DATA / f"part-{index}"), "--data-tags", "digits"]
            learner += ["--learner-id", f"learner-{index}"]
            learners.append(subprocess.Popen(show(learner), cwd=ROOT))
        aggregator = [python, "-m", "aggregator", REPO, "--listen", address, "--fresh"]
        aggregator += ["--rounds", str(ROUNDS), "--min-clients", str(LEARNERS)]
        aggregator += ["--project-id", "demo", "--output", str(RUN)]
        code = subprocess.run(show(aggregator), cwd=ROOT, check=False).returncode
        codes = [learner.wait(30) for learner in learners] if code == 0 else []
    finally:
        for learner in learners:
            learner.kill()
    if code or any(codes):
        print(f"the demo failed: exit codes {code} and {codes}", file=sys.stderr)
        return code or 1
    best = json.loads((ROOT / RUN / "result.json").read_text())["best"]
    print(f"\naccuracy {best['accuracy']:.3f} after round {best['round']} of {ROUNDS}")
    print(f"model    {RUN}/model-best.npz")
    print(f"picture  {RUN}/history.png")
    store = (ROOT / RUN / "mlflow.db").relative_to(ROOT)
    print(f"MLflow   .venv/bin/mlflow ui --backend-store-uri sqlite:///{store}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
