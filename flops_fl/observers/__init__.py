"""Observers: console, metrics, page, MLflow, picture. They read events and never change a run."""
