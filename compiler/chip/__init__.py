"""What the chip holds: field ranges, integer rounding, input codes and the neuron step."""
