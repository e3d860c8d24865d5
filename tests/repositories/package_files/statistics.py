"""A module with the name of one in Python's standard library, which libraries still find."""


def accuracy(model, images, labels):
    return float((model.predict(images).argmax(axis=1) == labels).mean())
