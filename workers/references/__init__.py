"""What a job brings with it: pictures and clips to begin from, fetched as if their addresses were an attacker's."""
