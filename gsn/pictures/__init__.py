"""What people look at, drawn as arrays of pixels: a file per picture, and the canvas, axes and colours they share."""
