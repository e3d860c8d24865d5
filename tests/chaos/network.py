"""The test's own network between learners and aggregator, and the faults that it can have."""

import os
import random
import shutil
import subprocess
import time
from functools import cache

NAMESPACE, NEAR, FAR = "flops-chaos", "flops0", "flops1"
SUBNET = "10.213.77"


def run(command, check=True):
    return subprocess.run(command.split(), check=check, capture_output=True, text=True)


class Namespace:
    """Learners live in a network namespace, behind a virtual cable.

    Its faults: the cable is pulled for a while (nobody is told); and, where the kernel has
    netem, delay, jitter, loss, duplicates and a narrow link.
    """

    wrapper = ("ip", "netns", "exec", NAMESPACE)

    def __init__(self, target):
        port = target.rpartition(":")[2]
        self.close()
        run(f"ip netns add {NAMESPACE}")
        run(f"ip link add {NEAR} type veth peer name {FAR} netns {NAMESPACE}")
        run(f"ip addr add {SUBNET}.1/24 dev {NEAR}")
        run(f"ip link set {NEAR} up")
        run(f"ip -n {NAMESPACE} addr add {SUBNET}.2/24 dev {FAR}")
        run(f"ip -n {NAMESPACE} link set {FAR} up")
        self.address = self.listen = f"{SUBNET}.1:{port}"
        self.options = ("--insecure",)  # it is no loopback
        netem = run(f"tc qdisc add dev {NEAR} root netem delay 1ms", check=False)
        self.netem = netem.returncode == 0
        self.faults = []

    def misbehave(self, generator: random.Random):
        """One fault, for some seconds."""
        kinds = ["pull"]
        if self.netem:
            kinds += ["delay 300ms 200ms", "loss 20%", "duplicate 10%", "rate 100kbit"]
        kind, seconds = generator.choice(kinds), generator.uniform(0.3, 2.5)
        self.faults.append(kind)
        if kind == "pull":
            run(f"ip link set {NEAR} down")
        else:
            run(f"tc qdisc change dev {NEAR} root netem {kind}")
        time.sleep(seconds)
        self._mend()

    def _mend(self):
        run(f"ip link set {NEAR} up", check=False)
        if self.netem:
            run(f"tc qdisc change dev {NEAR} root netem delay 1ms", check=False)

    def close(self):
        run(f"ip netns del {NAMESPACE}", check=False)
        run(f"ip link del {NEAR}", check=False)


@cache
def namespaces_work():
    """Whether this machine lets us make them: root, iproute2 and the kernel's consent."""
    if os.geteuid() or not shutil.which("ip") or not shutil.which("tc"):
        return False
    try:
        Namespace("127.0.0.1:1").close()
    except subprocess.CalledProcessError:
        return False
    return True
