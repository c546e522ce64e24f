"""What the scripts share that measure. Each module does one thing:

client   a program that loads a model: how long, and a digest of all that it got
files    safetensors files of a model: which there are, what lies in them, writing them
loads    the ways in which programs read model files, each in a process of its own
plots    how the figures of the documentation look
s3       an S3 server behind a link of known speed
step     runs a command and notes what it took
programs upg and upg-mount: converting, mounting, cleaning up
logits   a model's answers to a text, and how far other answers are from them
ggml     llama.cpp's quantisers, called in their own compiled library
machine  what was measured on, and the memory of a process
random_reader  reads random ranges of a mount and compares them
tables   markdown, and where a curve reaches a value
"""


class Trouble(Exception):
    """Something the user can put right; its text is all that is shown."""
