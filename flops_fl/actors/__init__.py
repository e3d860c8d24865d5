"""The processes that users start: aggregator, learner, simulation and its hosts."""
