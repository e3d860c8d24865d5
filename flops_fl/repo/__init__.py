"""The user's ML repository: found, imported, held to the contract. User code runs here only."""
