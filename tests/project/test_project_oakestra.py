"""The commands in the README that is written for Oakestra: those of its program `oak`."""

import json
import re
import subprocess

import pytest

from tests.project.rendering import MODES, with_repo, written


@pytest.mark.parametrize("mode", MODES)
def test_it_goes_from_the_nodes_folders_to_a_copy_of_the_run(tmp_path, mode):
    files = written(with_repo(tmp_path), "oakestra", mode)
    (application,) = json.loads(files["sla.json"])["applications"]
    commands = files["README.md"].split("```")[3]
    deployed = []
    for line in re.findall(r"^(?:for.*|oak service deploy .*)$", commands, re.M):
        script = f"oak() {{ echo $3; }}; {line}"
        said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        deployed += said.stdout.split()
    names = [each["microservice_name"] for each in application["microservices"]]
    assert sorted(deployed) == sorted(names)
    last_data = max(deployed.index(name) for name in names if name.startswith("data"))
    assert last_data < min(deployed.index(name) for name in names if not name.startswith("data"))
    leader = application["microservices"][0]
    (volume,) = leader["volumes"]
    output = leader["cmd"][leader["cmd"].index("--output") + 1]
    on_node = f"/mnt/oakestra/hostpath/{volume['config']['host_path']}"
    run = output.replace(volume["mount_path"], on_node)
    name = leader["microservice_name"]
    order = [
        *("mkdir -p", "oak config set", "oak application create sla.json", "deploy data"),
        *("flops-fl data put", f"deploy {name}", "deploy learner", f"oak service logs {name} 0"),
        f"scp -r NODE:{run} run",
        f"oak application delete {application['application_name']}",
    ]  # fmt: skip
    places = [commands.index(each) for each in order]
    assert places == sorted(places)
