"""The user's ML repository: fetches, imports and checks it. User code is called only here."""
