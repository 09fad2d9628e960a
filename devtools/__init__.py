"""What dev.py does: make the environment, run the real server, convert and queue workflows, run the tests."""
