"""All options that a user may set on the command line or in the environment."""
