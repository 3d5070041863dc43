"""Published training-free methods behind our interface, with their published defaults: rivals in our benchmark."""
