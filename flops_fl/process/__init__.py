"""Being a process: signals, threads, memory, files, health."""
