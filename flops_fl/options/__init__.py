"""Everything a person may say on the command line or in the environment."""
