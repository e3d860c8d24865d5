"""Arrow Flight, by which data go from devices to a data server, and from there to learners."""
