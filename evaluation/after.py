"""What is made of a study's folder afterwards."""

COMMANDS = {}


def run(arguments):
    return COMMANDS[arguments[0]](arguments[1:])
