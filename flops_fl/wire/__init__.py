"""The wire: frames, conversations and gRPC. Knows bytes and peers, nothing about learning."""
