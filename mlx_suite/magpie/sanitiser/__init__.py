"""What the sanitiser takes off an instruction, and what it leaves."""
