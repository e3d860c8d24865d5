"""Run the no-op job in NVFlare's proof-of-concept mode: its server and its clients as processes.

NVFlare's interpreter runs this: noop_job.py LEARNERS ROUNDS BYTES MARKS
"""

import sys
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.poc_env import PocEnv

learners, rounds, nbytes = map(int, sys.argv[1:4])
recipe = NumpyFedAvgRecipe(
    name="noop",
    model=np.zeros(nbytes // 4, np.float32),
    min_clients=learners,
    num_rounds=rounds,
    train_script=str(Path(__file__).with_name("noop_client.py")),
    train_args=sys.argv[4],
)
# On few cores, NVFlare's processes take longer to start than it waits by default.
run = recipe.execute(PocEnv(num_clients=learners, extra={"login_timeout": 180}))
run.get_result(timeout=600)
