"""What a prompt names: its words, its subjects, where their tokens are, their regions; sets of prompts."""
