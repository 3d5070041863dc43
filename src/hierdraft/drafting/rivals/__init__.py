"""Published training-free methods with our interface, with their published defaults: rivals in our benchmark."""
