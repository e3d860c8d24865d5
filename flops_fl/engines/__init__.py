"""Put the rooms together: an aggregator, a learner process, a simulation, a Flower app."""
