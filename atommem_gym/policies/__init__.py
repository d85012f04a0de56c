"""What hand-written policies are made of: documents out of chunks, words, reads, actions that fit, a reader."""
