"""The user's ML repository: find it, import it, hold it to the contract. User code runs here only."""
