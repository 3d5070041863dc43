"""Who runs the target model, and the loop that drives it."""
