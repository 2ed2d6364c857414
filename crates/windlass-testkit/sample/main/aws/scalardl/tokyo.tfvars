region = "tokyo"
