"""``python -m flops_fl.actors``: the process that hosts a simulation's learners.

It stands here since multiprocessing's "spawn", which user code may use, imports the main module
anew in each of its processes, with all that it imports, except if it is a package's ``__main__``.
"""

import sys

from flops_fl.actors.hosts import main

if __name__ == "__main__":
    sys.exit(main())
