"""The aggregator's end of the wire."""
