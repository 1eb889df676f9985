"""The faces towards other libraries: each imports its library when it is asked for."""
