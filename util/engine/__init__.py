"""Everything between a method's mathematics and the machine: device, precision, steps, schedules, state."""
