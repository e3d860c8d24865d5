"""The wire: frames, conversations and gRPC. Knows bytes and peers, no learning."""
