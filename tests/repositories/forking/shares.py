import sys


def square(number):
    return number * number


def modules():
    return set(sys.modules)
