"""The witness of a pair on one host: the register `(epoch, primary, in_sync)` in a file, and its first making."""
