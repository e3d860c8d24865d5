"""A repository, and the model of a run, in a person's hand: outside of any federation."""
