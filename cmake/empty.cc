// A library of headers alone needs one object file to exist.
