"""All default limits. Users can set each of them with the option of the same name.

A limit that is no option is a constant where it is used. Such a limit is part of the protocol, or
far beyond any real use, or gives a few seconds to something that is ending anyway.
"""

# In seconds.
CONNECT_TIMEOUT = 300.0
RECONNECT_TIMEOUT = 3600.0  # a learner's --reconnect-timeout: it has only one aggregator
ABSENCE_TIMEOUT = 600.0  # the aggregator's --reconnect-timeout: it has many learners
JOIN_TIMEOUT = 600.0
ROUND_TIMEOUT = 3600.0
STALL_TIMEOUT = 180.0  # for the next 1 MiB: 6 KB/s
HELLO_TIMEOUT = 20.0
GREETING_TIMEOUT = 60.0  # the aggregator may first ping another process of the same id
GOODBYE_TIMEOUT = 5.0
KEEPALIVE = 20.0  # shorter than the time after which proxies and NAT drop an idle connection
MAX_BACKOFF = 10.0
SPOOL_PATIENCE = 1.0
TRACKING_TIMEOUT = 60.0
CLONE_TIMEOUT = 300.0  # code is small, so a longer clone means a hung proxy
REMIND = 30.0

# In bytes.
MEMORY_BUDGET = 256 << 20
OPAQUE_UPDATE = 256 << 20
LARGE_MODEL = 1 << 30
LOG_SIZE = 1 << 20
MAX_BATCH = 64 << 20  # a table of 60,000 small images in one batch

CHECKPOINTS = 3

# What a person may ask for at most. These are no options.
MOST_ROUNDS = 1_000_000  # each checkpoint has the history of all, half a KB a round
MOST_LEARNERS = 10_000  # of one aggregator, and of one machine; 2,000 have been measured
