"""Milvus Lite in this process: databases, their one writer, and the mirror that answers reads."""
