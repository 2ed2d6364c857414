region = "tokyo"
cidr   = "10.1.0.0/16"
