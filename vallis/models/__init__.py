"""Models: architectures, sized after the tasks they are built for."""
