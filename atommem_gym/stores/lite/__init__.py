"""Milvus Lite in this process: its databases, their single writer, and the mirror that answers reads."""
