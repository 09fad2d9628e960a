"""Presets with less of what is repeated, for runs that only have to be runs of that preset."""


def shortened(content, iterations):
    """The JSON content of a preset file with at most so many iterations a move, and fewer rounds of noise."""
    moves = [dict(move) for move in content["moves"]]
    for move in moves:
        if "iterations" in move:
            move["iterations"] = min(move["iterations"], iterations)
        if "rounds" in move:
            move |= {"rounds": 2, "last_iterations": 2 * iterations}
    return content | {"moves": moves}
