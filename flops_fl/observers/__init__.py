"""Observers: console, metrics, MLflow, picture. They read events and never change a run."""
