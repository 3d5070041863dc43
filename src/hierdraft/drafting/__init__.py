"""Which tokens to try: drafters, the calibration of their candidates, and the budget of a step."""
