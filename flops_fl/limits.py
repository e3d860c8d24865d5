"""Default limits, each once. A person can set them by the option of the same name.

What is no option is fixed where it stands: a part of the wire's language, far beyond any real use,
or a few seconds of courtesy when something ends anyhow.
"""

# In seconds.
CONNECT_TIMEOUT = 300.0
RECONNECT_TIMEOUT = 3600.0  # a learner's patience; an aggregator is awaited for longer ...
ABSENCE_TIMEOUT = 600.0  # ... than it waits for one of many (its --reconnect-timeout)
JOIN_TIMEOUT = 600.0
ROUND_TIMEOUT = 3600.0
STALL_TIMEOUT = 180.0  # for the next 1 MiB: 6 KB/s
HELLO_TIMEOUT = 20.0
GREETING_TIMEOUT = 60.0  # the aggregator may ask another first
GOODBYE_TIMEOUT = 5.0
KEEPALIVE = 20.0  # below what proxies and address translation forget a quiet connection after
MAX_BACKOFF = 10.0
SPOOL_PATIENCE = 1.0
TRACKING_TIMEOUT = 60.0
CLONE_TIMEOUT = 300.0  # a repository of code is small, a hung proxy is not rare
REMIND = 30.0

# In bytes.
MEMORY_BUDGET = 256 << 20
OPAQUE_UPDATE = 256 << 20
LARGE_MODEL = 1 << 30
LOG_SIZE = 1 << 20

CHECKPOINTS = 3
