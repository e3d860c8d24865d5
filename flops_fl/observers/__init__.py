"""Observers: console, checkpoint, MLflow, picture, result. They read and never write back."""
