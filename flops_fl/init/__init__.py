"""Write a new ML repository, to be changed by whoever asked for it."""
