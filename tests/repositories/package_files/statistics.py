"""A module that bears the name of one of Python's, which libraries go on to find."""


def accuracy(model, images, labels):
    return float((model.predict(images).argmax(axis=1) == labels).mean())
