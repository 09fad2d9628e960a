"""How good a picture is: detections, TIAM, colours, likeness to the prompt, statistics."""
