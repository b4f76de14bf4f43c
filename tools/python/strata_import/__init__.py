# SPDX-License-Identifier: MIT
"""Problems from data sets: Parquet, Arrow, CSV and JSON files, folders that `datasets` saved, names on the hub. Chats are rendered
with the model's own template, and where each message lies in the text is kept beside it."""

__version__ = "0.1.0"
