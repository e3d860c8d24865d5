"""Messages for mistakes: `python -m tests.mistakes` makes the mistakes and prints docs/errors.md.

All are made in this process, with files of a temporary folder.
"""

import io
import json
import os
import shlex
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from flops_fl import cli
from flops_fl.process.answer import Answer
from flops_fl.process.main import run_main

ROOT = Path(__file__).parent.parent

HEAD = """\
# Errors

Mistakes, and what is said to them. All wrong options are reported together, a value from the
environment by the name of its variable. With `--json` a command that fails prints a document
`{"status": "failed", "error": ..., "exit_code": ...}` on stdout, beside the sentence on stderr.
A run that fails after its first round has begun prints its `result.json` there.
[Operation](operation.md#commands) lists the exit codes.

This page is printed by `python -m tests.mistakes`, which makes these mistakes.
"""

PROJECT = {
    "ml_repo_url": "repo",
    "training_configuration": {"data_tags": ["mnist"], "min_available_clients": 2},
}
MISTAKES = {
    "A command that is none": """
flops-fl simulat repo
flops-fl data partitio digits
flops-fl pki sing learner.csr
flops-fl --rounds 5
flops-fl completion tcsh
""",
    "Options": """
flops-fl aggregator
flops-fl learner repo
flops-fl aggregator repo --round 5
flops-fl aggregator repo --rounds
flops-fl aggregator repo --output ""
flops-fl aggregator repo more
flops-fl aggregator repo --json=1
flops-fl aggregator repo --rounds 0 --seed x --nope
flops-fl aggregator repo --round-timeout inf
flops-fl aggregator repo --fraction-fit 1.5
flops-fl aggregator repo --large-model much
flops-fl aggregator repo --mismatch perhaps
flops-fl aggregator repo --project-id a/b
flops-fl aggregator repo --tracking-uri localhost:5000
flops-fl aggregator repo --min-fit-clients 3
flops-fl aggregator repo --resume --fresh
flops-fl aggregator repo --learner-id a
flops-fl aggregator repo --role cluster
flops-fl simulate repo --learners 20000 --rounds 2000000
flops-fl simulate repo --learners 2 --clusters 3
flops-fl simulate repo --learners 2 --cluster-rounds 3
flops-fl simulate repo --learners 2 --min-available-clients 5
flops-fl plan --learners 5 --model-bytes 1MB --uplink fast --downlink 1Mbit
flops-fl run repo
flops-fl run repo python model_manager.py
""",
    "Values from the environment": """
FLOPS_ROUNDS=five flops-fl aggregator repo
FLOPS_LISTEN=0.0.0.0:8080 flops-fl aggregator repo
FLOPS_TLS_CERT=none.pem flops-fl aggregator repo --rounds 0
""",
    "Strategies": """
flops-fl aggregator repo --strategy FedAvgg
flops-fl aggregator repo --strategy-option x
flops-fl aggregator repo --strategy FedAdam --strategy-option eta=nan
flops-fl aggregator repo --strategy-option fraction-fit=7
""",
    "Addresses and TLS": """
flops-fl aggregator repo --listen here
flops-fl learner repo --aggregator http://localhost:8080
flops-fl aggregator repo --listen 0.0.0.0:8080
flops-fl aggregator repo --tls-cert none.pem
flops-fl aggregator repo --tls-ca file.pem
flops-fl learner repo --aggregator 10.1.1.1:8080
flops-fl learner repo --aggregator localhost:99999
flops-fl learner repo --aggregator localhost:9 --protocol flower --learner-id a,b
flops-fl pki request root --role aggregator
flops-fl pki request learner --role learner --host example.org
flops-fl pki sign none.csr
""",
    "FLOps projects": """
flops-fl project run nowhere.json
flops-fl project run wrong.json
flops-fl project plan wrong.yaml
flops-fl project run right.json
flops-fl project run right.json --data nowhere
flops-fl project run right.json --data empty
flops-fl project run right.json --data cifar10=digits
flops-fl project run right.json --data mnist=digits --learners 1
flops-fl project run right.json --data mnist=digits --clusters 2
flops-fl project run right.json --data grpc+tls://node:11027
flops-fl project plan right.json --data mnist=digits --resume
flops-fl project render right.json --for swarm --out out
flops-fl project render right.json --for compose --out out --learners 1
flops-fl project render right.json --for compose --out empty/../wrong.yaml
""",
    "Repositories, data and runs": """
flops-fl aggregator nowhere
flops-fl aggregator empty
flops-fl learner repo --aggregator localhost:9 --data nowhere
flops-fl learner repo --aggregator localhost:9 --data empty
flops-fl simulate repo --learners 2 --data wrong
flops-fl check nowhere
flops-fl init repo --framework numpy
flops-fl init new --framework numpy --data empty
flops-fl data partition digits --parts 0 --tag t --out parts
flops-fl data partition nowhere.parquet --parts 2 --tag t --out parts
flops-fl data partition digits --parts 2 --tag t --out parts --partition dirichlet:0
flops-fl run repo -- nonesuch
flops-fl evaluate nowhere --data empty
flops-fl export nowhere --out model.npz
""",
}


def said(line):
    """What is said to a line of a shell, and the exit code."""
    words = shlex.split(line)
    here = words.index("flops-fl")
    given = dict(word.split("=", 1) for word in words[:here])
    answer, out = Answer(io.StringIO()), io.StringIO()
    os.environ.update(given)
    with tempfile.TemporaryFile("w+") as err:  # a file, since processes write there, too
        with redirect_stdout(out), redirect_stderr(err):
            code = run_main(lambda: cli.run(words[here + 1 :], answer=answer), answer)
        err.seek(0)
        text = err.read().replace(f"{Path.cwd()}/", "")
    for name in given:
        del os.environ[name]
    assert out.getvalue() == ""
    assert text.count("error: ") == 1, (line, text)
    return text.partition("error: ")[2].rstrip("\n"), code


def page():
    """The page, of mistakes made in the current folder."""
    shutil.copytree(ROOT / "examples/numpy_minimal", "repo")
    Path("empty").mkdir()
    Path("file.pem").touch()
    Path("wrong.json").write_text('{\n  "ml_repo_url": "repo",\n}\n')
    Path("wrong.yaml").write_text("ml_repo_url: repo\ntraining_rounds: 5\nverbose: 7\n")
    Path("right.json").write_text(json.dumps(PROJECT))
    blocks = [HEAD]
    for title, lines in MISTAKES.items():
        rows = ["| typed | said | exit code |", "| --- | --- | --- |"]
        for line in lines.split("\n")[1:-1]:
            text, code = said(line)
            shown = text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
            shown = shown.replace("\n", "<br>")
            rows.append(f"| `{line}` | {shown} | {code} |")
        blocks.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(blocks)


def main():
    for name in [name for name in os.environ if name.startswith("FLOPS_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(Path(folder).resolve())
        text = page()
        os.chdir(ROOT)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
