"""Networks, histories and trainers for people to read: text and HTML."""
