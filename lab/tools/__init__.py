"""What dev.py does: the environment, a real server, workflows queued, the tests."""
