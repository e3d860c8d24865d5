"""Being a process: signals, streams, memory, files, health."""
