"""What people look at, drawn as arrays of pixels."""
