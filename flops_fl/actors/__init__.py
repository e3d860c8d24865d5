"""What is started: aggregator, learner, simulation and its hosts."""
