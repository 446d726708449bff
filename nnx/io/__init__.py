"""Files: model containers, atomic writes, private folders, and other libraries' networks."""
